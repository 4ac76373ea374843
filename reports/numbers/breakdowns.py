"""Where methods succeed and fail, from the image scores and curves of finished cells.

Everything is computed category by category and then averaged over seeds and categories, since
scores of different categories (and seeds) have different scales. What a store lacks is left out:
every function answers with what there is, and with nothing where there is nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.metrics.ranking import share_wrong
from harness.store import DONE, Results

GOOD_ALARMS = 0.05  # share of good images that may raise an alarm when images count as found
FPR = np.linspace(0, 1, 101)
PRO_FPR = np.linspace(0, 0.3, 61)
BINS = np.linspace(-4, 12, 33)  # standard deviations of the good images


@dataclass(frozen=True)
class Category:
    """One method's scores of a category's test images; all seeds on the same images."""

    ids: np.ndarray  # (N,) sorted
    defects: np.ndarray  # (N,)
    anomalous: np.ndarray  # (N,) bool
    scores: np.ndarray  # (S, N)

    @property
    def wrong(self) -> np.ndarray:
        """Share of the other class on the wrong side of each image, mean over seeds (N,)."""
        shares = (share_wrong(row, self.anomalous) for row in self.scores)
        return sum(shares, start=np.zeros(len(self.ids))) / len(self.scores)

    @property
    def found(self) -> np.ndarray:
        """Share of seeds in which each image raises an alarm (N,), GOOD_ALARMS at most false."""
        good = self.scores[:, ~self.anomalous]
        limits = np.quantile(good, 1 - GOOD_ALARMS, axis=1, method="higher")
        return (self.scores > limits[:, None]).mean(axis=0)


Methods = dict[tuple[str, str], dict[str, Category]]  # (method, variant) -> by category


def collect(part: pd.DataFrame, scores: dict[str, pd.DataFrame]) -> Methods:
    """Of one dataset and setting; categories without both classes are left out."""
    methods: Methods = defaultdict(dict)
    for name, cells in part.groupby(["method", "variant", "category"], sort=False):
        tables = [scores[key].sort_values("id") for key in cells["key"] if key in scores]
        if not tables:
            continue
        ids = tables[0]["id"].to_numpy()
        tables = [table for table in tables if np.array_equal(table["id"].to_numpy(), ids)]
        anomalous = tables[0]["label"].to_numpy() > 0
        values = np.stack([table["score"].to_numpy(float) for table in tables])
        if anomalous.any() and not anomalous.all() and np.isfinite(values).all():
            defects = tables[0]["defect"].to_numpy().astype(str)
            methods[name[:2]][name[2]] = Category(ids, defects, anomalous, values)
    return methods


def roc(categories: dict[str, Category]) -> np.ndarray:
    """True positive rates at FPR, mean over seeds and categories."""
    curves = []
    for found in categories.values():
        for row in found.scores:
            good, bad = np.sort(row[~found.anomalous]), np.sort(row[found.anomalous])
            limits = np.unique(row)[::-1]  # distinct: what ties is crossed diagonally
            false, true = (1 - np.searchsorted(c, limits, "left") / len(c) for c in (good, bad))
            curves.append(np.interp(FPR, np.append(0, false), np.append(0, true)))
    return np.mean(curves, axis=0)


def pro(store: Results, cells: pd.DataFrame) -> np.ndarray | None:
    """PRO at PRO_FPR, mean over the cells that kept their curve; None if none did."""
    curves = []
    for key in cells.loc[cells["status"] == DONE, "key"]:
        record = store.result(key)
        kept = record.curves() if record and record.done else None
        if kept and kept["fpr_exact"].size:
            curves.append(np.interp(PRO_FPR, kept["fpr_exact"], kept["pro_exact"]))
    return np.mean(curves, axis=0) if curves else None


def looks(store: Results, cells: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """A metric on validation samples while cells trained: shares of a training, means over cells.

    Of those that were looked at; at the looks of the first of them. None if none was.
    """
    found = []
    for key in cells.loc[cells["status"] == DONE, "key"]:
        record = store.result(key)
        seen = [look for look in record.looks() if metric in look.metrics] if record else []
        if seen:
            values = [look.metrics[metric] for look in seen]
            found.append((np.array([look.share for look in seen]), np.array(values)))
    if not found:
        return None
    at = found[0][0]
    return at, np.mean([np.interp(at, shares, values) for shares, values in found], axis=0)


def histogram(categories: dict[str, Category]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the good and of the anomalous images in BINS, the outer bins open.

    Scores are in standard deviations from the mean of the good images of their category and seed.
    """
    shares = [np.zeros(len(BINS) - 1), np.zeros(len(BINS) - 1)]
    for found in categories.values():
        good = found.scores[:, ~found.anomalous]
        spread = np.maximum(good.std(axis=1, keepdims=True), 1e-12)
        units = (found.scores - good.mean(axis=1, keepdims=True)) / spread
        units = np.clip(units, BINS[0], BINS[-1] - 1e-9)
        for share, chosen in zip(shares, (~found.anomalous, found.anomalous)):
            values = units[:, chosen]
            share += np.histogram(values, BINS)[0] / values.size / len(categories)
    return shares[0], shares[1]


def agreement(methods: Methods) -> pd.DataFrame:
    """Spearman's correlation of the methods' image scores within categories, mean over these.

    NaN where two methods share no category.
    """
    ranks = {
        name: {c: _ranked(found.scores.mean(axis=0)) for c, found in categories.items()}
        for name, categories in methods.items()
    }
    table = pd.DataFrame(np.nan, index=range(len(ranks)), columns=range(len(ranks)))
    for i, one in enumerate(ranks.values()):
        for j, other in enumerate(ranks.values()):
            both = [c for c in one if c in other and len(one[c]) == len(other[c])]
            both = [c for c in both if one[c].std() and other[c].std()]
            found = [np.corrcoef(one[c], other[c])[0, 1] for c in both]
            table.iloc[i, j] = np.mean(found) if found else np.nan
    return table


@dataclass(frozen=True)
class Hard:
    """A test image and how often methods have it on the wrong side."""

    category: str
    id: str
    defect: str
    wrong: float  # share of the other class, mean over methods
    best: str  # the method that does best on it
    least: float  # and its share


def hardest(methods: Methods, label, count: int = 10) -> list[Hard]:
    """The images with the highest mean share, over all methods that scored them."""
    wrong: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for name, categories in methods.items():
        for category, found in categories.items():
            for image in zip(found.ids, found.defects, found.wrong):
                wrong[category, image[0], image[1]][label(*name)] = float(image[2])
    rows = []
    for (category, id, defect), of in wrong.items():
        best, least = min(of.items(), key=lambda share: share[1])
        rows.append(Hard(category, id, defect, float(np.mean(list(of.values()))), best, least))
    return sorted(rows, key=lambda row: (-row.wrong, row.category, row.id))[:count]


@dataclass(frozen=True)
class Modalities:
    """Shares of a method's anomalous images by what finds them; they add up to 1."""

    defect: str  # "all" or a defect type
    images: int
    both: float
    only_rgb: float
    only_3d: float
    neither: float


def modalities(rgb: dict[str, Category], depth: dict[str, Category]) -> list[Modalities]:
    """One method in the settings rgb and 3d: all anomalous images, then by defect type.

    With several seeds an image counts by the share of seeds that find it, as if independent.
    """
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    for category in rgb:
        if category not in depth or not np.array_equal(rgb[category].ids, depth[category].ids):
            continue
        r, d = rgb[category].found, depth[category].found
        shares = np.stack([r * d, r * (1 - d), (1 - r) * d, (1 - r) * (1 - d)], axis=1)  # (N, 4)
        anomalous = rgb[category].anomalous
        parts["all"].append(shares[anomalous])
        for defect in np.unique(rgb[category].defects[anomalous]):
            parts[defect].append(shares[rgb[category].defects == defect])
    whole = {defect: np.concatenate(found) for defect, found in parts.items()}
    return [
        Modalities(defect, len(found), *map(float, found.mean(axis=0)))
        for defect, found in whole.items()
    ]


def _ranked(values: np.ndarray) -> np.ndarray:
    return pd.Series(values).rank().to_numpy()
