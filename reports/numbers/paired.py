"""Paired tests between methods, and what they leave of a ranking.

Where each image's influence on a metric is known, two methods are tested on the images that both
scored (harness/metrics/intervals.py; of I-AUROC that is DeLong's test). Categories are fixed
and independent, seeds are averaged image by image, the normal and the anomalous images are two
strata.

Otherwise one number a category is left, and methods are tested by flipping the signs of the
differences between categories (exact permutation test of the mean). Few categories cannot
separate anything: with n of them no p-value is below 2 / 2^n.

Holm's step-down correction holds the chance of any false claim among all pairs of a table.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

from methods.seeds import generator_for

ALPHA = 0.05
EXACT_UPTO = 14  # categories for which all 2^n signs are tried; beyond, FLIPS random ones
FLIPS = 20_000


def separable(categories: int, pairs: int) -> bool:
    """Whether flipping signs could tell any two of so many pairs of rows apart."""
    return max(pairs, 1) * 2.0 / 2**categories < ALPHA


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
