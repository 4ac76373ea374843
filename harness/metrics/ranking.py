"""How well one number separates anomalous from normal: AUROC, average precision, best F1.

The same three formulas serve images and pixels (harness/metrics/README.md, section 2). Everything
follows from two counts per anomalous score, found by binary search in the sorted normal scores:
the many normal scores are sorted once, and only the few anomalous ones are looked up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of both classes, each sorted ascending; higher is more anomalous.

    normal (N,), anomalous (A,). All metrics are NaN where one class is missing.
    """

    normal: np.ndarray
    anomalous: np.ndarray

    @property
    def is_degenerate(self) -> bool:
        return self.normal.size == 0 or self.anomalous.size == 0

    @cached_property
    def false_above(self) -> np.ndarray:
        """Number of normal scores > each anomalous score, (A,) int64."""
        return self.normal.size - np.searchsorted(self.normal, self.anomalous, side="right")

    @cached_property
    def false_from(self) -> np.ndarray:
        """Number of normal scores >= each anomalous score, (A,) int64."""
        return self.normal.size - np.searchsorted(self.normal, self.anomalous, side="left")

    def auroc(self) -> float:
        """Share of (normal, anomalous) pairs in the right order; ties count one half."""
        if self.is_degenerate:
            return math.nan
        wrong_twice = int(self.false_above.sum() + self.false_from.sum())
        return 1.0 - wrong_twice / (2 * self.normal.size * self.anomalous.size)

    def average_precision(self) -> float:
        """Sum over distinct thresholds of (recall step) * precision, without interpolation."""
        if self.is_degenerate:
            return math.nan
        found, false = self._at_distinct_thresholds()
        step = found - np.append(found[1:], 0)
        return float(np.sum(step * (found / (found + false)))) / self.anomalous.size

    def f1_max(self) -> float:
        """Best F1 = 2 TP / (TP + FP + A) over the thresholds `score >= t`."""
        if self.is_degenerate:
            return math.nan
        found, false = self._at_distinct_thresholds()
        return float(np.max(2 * found / (found + false + self.anomalous.size)))

    def _at_distinct_thresholds(self) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives at each distinct anomalous score, by ascending threshold.

        A threshold between two anomalous scores only adds false positives: it adds nothing to
        the average precision and is never the best F1, so it can be left out.
        """
        scores = self.anomalous
        first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
        return scores.size - first, self.false_from[first]


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """AUROC of scores (N,) and (A,) in any order; NaN where one class is missing."""
    return Ranking(np.sort(normal), np.sort(anomalous)).auroc()


def share_below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of the ascending scores (N,), the share below each value; equal ones count one half."""
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (left + right) / (2 * len(ordered))


def share_wrong(scores: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """Share of the other class on the wrong side of each score (N,), ties one half.

    anomalous (N,) bool; 0 everywhere where one class is missing. The mean over either class is
    1 - AUROC.
    """
    good, bad = np.sort(scores[~anomalous]), np.sort(scores[anomalous])
    found = np.zeros(len(scores))
    if len(good) and len(bad):
        found[~anomalous] = share_below(bad, scores[~anomalous])
        found[anomalous] = 1 - share_below(good, scores[anomalous])
    return found
