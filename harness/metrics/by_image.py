"""How much of each test image lies above a threshold, and metrics of any weighting of the images.

Metrics of a category are functions of three sums over its images: of normal pixels above each
threshold, of anomalous ones, and of the shares of regions. So of resampled images, or of all but
one, nothing is sorted again: their sums are weighted sums of rows. Images themselves are the case
of one pixel each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PIXELS = 1 << 16  # normal ones of an image that are looked at here, evenly spaced; maps are smooth
LEAST_RATE = 1e-6  # smallest false-positive rate that has a threshold of its own
RESAMPLES = 100  # sets of images drawn again, to tell which thresholds might have been the best
STEPS = 192  # thresholds, even in the logarithm of the rate: 32 for each power of ten


@dataclass(frozen=True, eq=False)
class ImagePixels:
    """The pixel scores of one image.

    normal (n,) some, evenly spaced; count, of all of them; anomalous (a,); weight (a,) 1 / pixels
    of the region; regions, their number
    """

    normal: np.ndarray
    count: int
    anomalous: np.ndarray
    weight: np.ndarray
    regions: int

    @classmethod
    def of(cls, scores, inside, anomalous, weight, regions) -> ImagePixels:
        """scores, inside (H, W); the others as they are kept."""
        step = int(np.ceil(np.sqrt(scores.size / PIXELS)))
        some = scores[::step, ::step][~inside[::step, ::step]]
        return cls(some, scores.size - len(anomalous), anomalous, weight, regions)


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over images at K thresholds that fall, from where nothing to where all is above.

    false, true, overlap (R, K); regions (R,). A row is a weighting of the images. Metrics are (R,),
    NaN where one class is missing.
    """

    false: np.ndarray
    true: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray

    @cached_property
    def fpr(self) -> np.ndarray:
        return _share(self.false, self.false[:, -1])

    @cached_property
    def tpr(self) -> np.ndarray:
        return _share(self.true, self.true[:, -1])

    @cached_property
    def pro(self) -> np.ndarray:
        return _share(self.overlap, self.regions)

    def auroc(self) -> np.ndarray:
        return np.trapezoid(self.tpr, self.fpr, axis=1)

    def average_precision(self) -> np.ndarray:
        found = self.true + self.false
        precision = np.divide(self.true, found, out=np.zeros_like(found), where=found > 0)
        return np.sum(np.diff(self.tpr, axis=1) * precision[:, 1:], axis=1)

    @cached_property
    def marked(self) -> np.ndarray:
        """True, false and wanted ones together, what F1 divides by (R, K)."""
        wanted = self.true[:, -1:]
        return self.true + self.false + np.where(wanted > 0, wanted, np.nan)

    @cached_property
    def f1(self) -> np.ndarray:
        return 2 * self.true / self.marked

    def f1_max(self) -> np.ndarray:
        return np.max(self.f1, axis=1)

    def aupro_exact(self, limit: float) -> np.ndarray:
        return _areas(self.fpr, self.pro, limit)

    def aupro(self, limit: float) -> np.ndarray:
        """Of the curve at evenly spaced false-positive rates, as that of 100 thresholds has."""
        rates, pro = self._even
        return _areas(np.broadcast_to(rates, pro.shape), pro, limit)

    @cached_property
    def _even(self) -> tuple[np.ndarray, np.ndarray]:
        rates = np.linspace(0.0, 1.0, 100)
        rows = [np.interp(rates, fpr, pro) for fpr, pro in zip(self.fpr, self.pro)]
        return rates, np.stack(rows)


@dataclass(frozen=True, eq=False)
class ByImage:
    """Each image's part of the sums: false, true, overlap (n, K), regions (n,)."""

    false: np.ndarray
    true: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray

    @classmethod
    def of_scores(cls, scores: np.ndarray, labels: np.ndarray) -> ByImage:
        """Of image scores (n,) and labels (n,): every distinct score is a threshold."""
        above = scores[:, None] >= np.unique(scores)[::-1]
        above = np.hstack([np.zeros((len(scores), 1)), above])  # nothing is above the first
        bad = (np.asarray(labels) > 0)[:, None]
        none = np.zeros(len(scores))
        return cls(above * ~bad, above * bad, np.zeros_like(above), none)

    @classmethod
    def of_pixels(cls, images: Sequence[ImagePixels], normal: np.ndarray) -> ByImage:
        """normal (N,): the scores of all normal pixels, ascending."""
        thresholds = _thresholds(normal)
        rows = [_above(image, thresholds) for image in images]
        false, true, overlap = (np.stack(part) for part in zip(*rows))
        return cls(false, true, overlap, np.array([image.regions for image in images], float))

    @property
    def _parts(self) -> tuple[np.ndarray, ...]:
        return self.false, self.true, self.overlap, self.regions

    def all(self) -> Totals:
        return Totals(*(part.sum(axis=0, keepdims=True) for part in self._parts))

    def all_but_one(self) -> Totals:
        """Row i is without image i."""
        return Totals(*(part.sum(axis=0) - part for part in self._parts))

    def weighted(self, weights: np.ndarray) -> Totals:
        """weights (R, n)"""
        # not by BLAS, whose threads wait longer for each other than so small a product takes
        return Totals(*(np.einsum("rn,n...->r...", weights, part) for part in self._parts))

    def influences_on_f1_max(self, labels: np.ndarray) -> np.ndarray:
        """Of each image (n,), as harness/metrics/intervals.py has them; labels (n,).

        Without an image another threshold may be the best, by a jump or not at all, so leaving one
        out tells little. This is what an image does at each threshold, weighted by how often that
        is the best one for images drawn again, normal and defective apart.
        """
        bad = np.asarray(labels) > 0
        if bad.all() or not bad.any():
            return np.full(len(bad), np.nan)
        rng, weights = np.random.default_rng(0), np.empty((RESAMPLES, len(bad)))
        for part in (bad, ~bad):
            count = int(part.sum())
            weights[:, part] = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
        found, whole = self.weighted(weights).f1, self.all()
        more = np.diff(whole.true[0], prepend=0) > 0  # others only add false ones
        found = np.where(more, found, 0)
        best = found == found.max(axis=1, keepdims=True)
        often = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)  # (K,)
        own = self.true + self.false + self.true[:, -1:]
        change = (2 * self.true - whole.f1 * own) / whole.marked  # (n, K), by the image's weight
        return np.where(bad, bad.sum(), (~bad).sum()) * (change @ often)


def _thresholds(normal: np.ndarray) -> np.ndarray:
    """Falling, at even steps of the logarithm of the false-positive rate; the last one is lowest.

    What is above none or above all has no threshold here.
    """
    least = max(LEAST_RATE, 1 / len(normal))
    rates = np.geomspace(least, 1.0, STEPS)
    places = np.unique(len(normal) - np.ceil(rates * len(normal)).astype(int))[::-1]
    values = normal[places]
    return values[np.append(True, values[1:] != values[:-1])]


def _above(image: ImagePixels, thresholds: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of an image, (K,) each: normal pixels, anomalous ones and shares of regions above."""
    share = image.count / len(image.normal) if len(image.normal) else 0.0
    false = share * _counts(np.sort(image.normal), thresholds)
    order = np.argsort(image.anomalous)
    true = _counts(image.anomalous[order], thresholds)
    found = np.append(0.0, np.cumsum(image.weight[order][::-1]))
    return false, true.astype(float), found[true]


def _counts(ordered: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the ascending scores are above each threshold; first none, at the end all."""
    above = len(ordered) - np.searchsorted(ordered, thresholds, side="right")
    return np.concatenate([[0], above, [len(ordered)]])


def _share(sums: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """sums (R, K) by whole (R,); NaN where that is 0."""
    return sums / np.where(whole > 0, whole, np.nan)[:, None]


def _areas(fpr: np.ndarray, pro: np.ndarray, limit: float) -> np.ndarray:
    """Area under each polyline (R, K) from 0 to limit, divided by limit."""
    step = np.clip(limit - fpr[:, :-1], 0.0, np.diff(fpr, axis=1))  # of each stretch, the part used
    width = np.diff(fpr, axis=1)
    slope = np.divide(np.diff(pro, axis=1), width, out=np.zeros_like(width), where=width > 0)
    return np.sum(step * (pro[:, :-1] + slope * step / 2), axis=1) / limit
