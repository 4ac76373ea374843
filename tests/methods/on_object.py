"""How well a cell's maps tell the pixels of one kind of defect from the rest of the object."""

from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from harness.data.cache import open_split


def defect_auroc(job, store, defect: str, inside) -> float | None:
    """Mean AUROC over the test samples with that defect; None where there is none.

    inside: a view's arrays -> the object's pixels (N, S, S) bool; the background is easily told.
    """
    samples, truth = open_split(store.folder(job.spec["needs"]["view"]), "test")
    maps, inside = np.load(Path(store.folder(job.key)) / "maps.npy"), inside(samples.arrays)
    some = [i for i, kind in enumerate(truth.defects) if kind == defect]
    found = [roc_auc_score(truth.masks[i][inside[i]] > 0, maps[i][inside[i]]) for i in some]
    return float(np.mean(found)) if found else None
