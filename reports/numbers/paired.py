"""Paired tests between methods, and what they leave of a ranking.

I-AUROC is tested on the test images: both methods scored the same ones, so their areas are
correlated, and DeLong's method gives the standard error of the difference from the share of the
other class that each image beats, its placement (DeLong et al., Biometrics 1988). Categories are
independent, seeds are averaged image by image, the normal and the anomalous images are two strata.

The pixel metrics leave one number a category. They are tested by flipping the signs of the
differences between categories (exact permutation test of the mean). Few categories cannot
separate anything: with n of them no p-value is below 2 / 2^n.

Holm's step-down correction holds the chance of any false claim among all pairs of a table.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy.stats import norm

from harness.metrics.ranking import share_below
from methods.seeds import generator_for

ALPHA = 0.05
EXACT_UPTO = 14  # categories for which all 2^n signs are tried; beyond, FLIPS random ones
FLIPS = 20_000


@dataclass(frozen=True)
class Placements:
    """Where each image of a category stands among those of the other class; means over seeds.

    anomalous (M,): share of normal images it beats; normal (N,): share of anomalous images that
    beat it. Both have the AUROC as mean. ids (M + N,): which images these are.
    """

    anomalous: np.ndarray
    normal: np.ndarray
    ids: tuple[str, ...]

    @classmethod
    def of(cls, normal: np.ndarray, anomalous: np.ndarray, ids: tuple[str, ...] = ()) -> Placements:
        """normal (S, N), anomalous (S, M): a row of scores a seed."""
        beaten, beating = np.zeros(anomalous.shape[1]), np.zeros(normal.shape[1])
        for n, a in zip(normal, anomalous):
            beaten += share_below(np.sort(n), a)
            beating += 1 - share_below(np.sort(a), n)
        return cls(beaten / len(normal), beating / len(normal), ids)

    @property
    def freedom(self) -> int:
        """Degrees of freedom, at least: those of the smaller class."""
        return max(min(len(self.anomalous), len(self.normal)) - 1, 1)


@dataclass(frozen=True)
class Difference:
    """Of two means: estimate, its standard error and the two-sided p-value."""

    value: float
    error: float
    p: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        reach = float(norm.ppf((1 + level) / 2)) * self.error
        return self.value - reach, self.value + reach


def class_scores(
    tables: list[pd.DataFrame],
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]] | None:
    """normal (S, N), anomalous (S, M) and the images' ids from the image scores of S seeds.

    None if the seeds scored different images, a score is not finite or a class is missing.
    """
    tables = [table.sort_values("id") for table in tables]  # one order for all
    ids = tuple(tables[0]["id"])
    if any(tuple(table["id"]) != ids for table in tables):
        return None
    scores = np.stack([table["score"].to_numpy(float) for table in tables])  # (S, N + M)
    anomalous = tables[0]["label"].to_numpy() > 0
    if anomalous.all() or not anomalous.any() or not np.isfinite(scores).all():
        return None
    return scores[:, ~anomalous], scores[:, anomalous], ids


def auroc_difference(one: dict[str, Placements], other: dict[str, Placements]) -> Difference | None:
    """Of two methods' mean I-AUROC over categories.

    None unless both saw the same images, at least two of either class in every category.
    """
    if one.keys() != other.keys() or any(one[c].ids != other[c].ids for c in one):
        return None
    if any(min(len(p.anomalous), len(p.normal)) < 2 for p in one.values()):
        return None
    values, variances = zip(*(_difference(one[c], other[c]) for c in one))
    value, error = float(np.mean(values)), math.sqrt(sum(variances)) / len(values)
    if error == 0:  # equal on every image, or all of them on the right side for one method
        return Difference(value, 0.0, 1.0 if value == 0 else 0.0)
    return Difference(value, error, float(2 * norm.sf(abs(value) / error)))


def _difference(one: Placements, other: Placements) -> tuple[float, float]:
    """Value and variance of the difference of two AUROCs on the same images."""
    anomalous, normal = one.anomalous - other.anomalous, one.normal - other.normal
    variance = sum(v.var(ddof=1) / len(v) for v in (anomalous, normal))
    return anomalous.mean(), variance


def sign_flip(differences: np.ndarray) -> float:
    """Two-sided p-value of the mean of paired differences (n,) by flipping their signs."""
    n = len(differences)
    means = np.abs(_signs(n) @ differences) / n
    reached = means >= abs(differences.mean()) - 1e-12
    return float(reached.mean()) if n <= EXACT_UPTO else float((reached.sum() + 1) / (FLIPS + 1))


@cache
def _signs(n: int) -> np.ndarray:
    if n <= EXACT_UPTO:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    return generator_for("sign flip", n).choice([-1.0, 1.0], (FLIPS, n))


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values, in the order given: to be compared with the level as they are."""
    count, adjusted, highest = len(p_values), [0.0] * len(p_values), 0.0
    for step, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - step) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def better(means: list[float], p_values: dict[tuple[int, int], float]) -> set[tuple[int, int]]:
    """Pairs (i, j) of which row i is better than row j beyond chance.

    p_values: of every pair (i, j), i < j, uncorrected.
    """
    corrected = zip(p_values, holm(list(p_values.values())))
    found = [(i, j) for (i, j), p in corrected if p < ALPHA and means[i] != means[j]]
    return {(i, j) if means[i] > means[j] else (j, i) for i, j in found}


def groups(count: int, pairs: set[tuple[int, int]]) -> list[int]:
    """One plus the number of rows that are `better`, for each of so many rows."""
    return [1 + sum(beaten == row for _, beaten in pairs) for row in range(count)]
