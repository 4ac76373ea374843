"""Results by test image and by defect type, for who wants to count otherwise than tables do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.metrics import Scored, get
from harness.metrics.influence import influences
from harness.metrics.intervals import Error, Influence, interval, of_seeds
from harness.metrics.ranking import auroc, share_wrong
from harness.store import DONE
from harness.store import IDENTITY as OF_A_CELL

METRIC = "i_auroc"
ROW = ("dataset", "setting", "method", "variant")
IMAGES = (*ROW, "category", "seed", "id", "defect", "label", "score", "wrong")
DEFECTS = (*ROW, "category", "defect", "images", "good", "seeds", METRIC, "std", "low", "high")


def images_table(frame: pd.DataFrame, scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a cell and test image: IMAGES.

    wrong: share of the images of the other class of its category that lie on its wrong side
    """
    parts = []
    for cell in frame[frame["status"] == DONE].to_dict("records"):
        if (table := scores.get(cell["key"])) is None:
            continue
        known = {name: cell[name] for name in OF_A_CELL}
        wrong = share_wrong(table["score"].to_numpy(float), table["label"].to_numpy() > 0)
        parts.append(table.assign(**known, wrong=wrong)[list(IMAGES)])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(IMAGES))


def defects_table(frame: pd.DataFrame, scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a method, category and defect type: I-AUROC of its images against the good ones.

    DEFECTS; mean and standard deviation over seeds, and the interval over these images
    """
    done, rows = frame[frame["status"] == DONE], []
    for names, cells in done.groupby([*ROW, "category"], sort=False):
        tables = [scores[key] for key in cells["key"] if key in scores]
        kinds = dict.fromkeys(kind for t in tables for kind in t.loc[t["label"] > 0, "defect"])
        rows += [(*names, kind, *_of_defect(tables, kind)) for kind in kinds]
    return pd.DataFrame(rows, columns=list(DEFECTS))


def _of_defect(tables: list[pd.DataFrame], kind: str) -> tuple:
    """images, good, seeds, value, std, low, high"""
    parts = [table[(table["defect"] == kind) | (table["label"] == 0)] for table in tables]
    found, values = [], []
    for part in parts:
        scores, labels = part["score"].to_numpy(float), part["label"].to_numpy()
        values.append(auroc(scores[labels == 0], scores[labels > 0]))
        of_images = influences(Scored(scores, labels), [get(METRIC)])[METRIC]
        found.append(Influence.of(of_images, labels, part["id"].astype(str).tolist()))
    mean = float(np.mean(values))
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    both = of_seeds(found)
    error = Error.of_mean([both]) if both else None
    bounds = (interval(mean, error) if error and not np.isnan(mean) else None) or (None, None)
    bad = int((parts[0]["label"] > 0).sum())
    return bad, len(parts[0]) - bad, len(parts), mean, std, *bounds
