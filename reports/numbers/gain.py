"""What a point of a sweep has over the unchanged settings, and whether that is more than chance.

Both have the same cells (category x seed), so their differences are paired. The best of many points
was chosen for its score: with N points compared, a difference counts if its p-value times N is
below 0.05 (Bonferroni). So few cells leave it open, whatever they say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from harness.metrics.shown import difference, unit_of_differences
from harness.store import DONE
from harness.store.sweeps import goal
from reports.numbers.paired import ALPHA, sign_flip

LEAST = 6  # cells of which an interval is given: below, no difference could pass the test


@dataclass(frozen=True)
class Gain:
    """Of a metric, in its own unit; positive is better.

    low, high: its 95 % interval (paired t); p: by flipping signs, exact. NaN from too few cells
    """

    mean: float
    cells: int
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan

    def separable(self, points: int) -> bool:
        """Whether it is more than chance, as the best of so many points."""
        return self.mean > 0 and self.p * points < ALPHA


def gain(record: Mapping[str, Any], trial: Mapping[str, Any], default: Mapping[str, Any]) -> Gain:
    """In the first metric, over the cells that both have."""
    metric, sign = goal(record)
    pairs = zip(trial["cells"], default["cells"], strict=False)  # a point's are in the plan's order
    found = [sign * (cell["scores"][metric] - usual["scores"][metric]) for cell, usual in pairs]
    differences = np.array(found, float)
    if not len(differences):
        return Gain(math.nan, 0)
    mean, count = float(differences.mean()), len(differences)
    if count < LEAST or not np.isfinite(differences).all():
        return Gain(mean, count)
    half = float(stats.t.ppf(0.975, count - 1) * stats.sem(differences))
    return Gain(mean, count, mean - half, mean + half, sign_flip(differences))


def compared(trials: Sequence[Mapping[str, Any]]) -> int:
    """Points that came to their end, the unchanged settings not counted."""
    return sum(trial["status"] == DONE for trial in trials[1:])


def verdict(
    record: Mapping[str, Any],
    best: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
) -> str:
    """Whether the best point is better than the unchanged settings, in a sentence."""
    found, points, (metric, _) = gain(record, best, trials[0]), compared(trials), goal(record)
    by = f"{difference(metric, found.mean)} {unit_of_differences(metric)}".rstrip()
    if math.isnan(found.p):
        count = f"{found.cells} cell{'s' * (found.cells != 1)}"
        return (
            f"The gain of {by} is not separable from chance: {count} "
            f"tell{'s' * (found.cells == 1)} too little. From {LEAST} on, more categories or "
            "seeds, there is a test (seeds=[0,1,2])."
        )
    low, high = (difference(metric, end) for end in (found.low, found.high))
    between = f"{by}, 95 % interval {low} to {high}"
    adjusted = min(1.0, found.p * points)
    if found.separable(points):
        tail = f"p = {adjusted:.2g} as the best of {points} points"
        return f"The gain is {between} over {found.cells} cells; {tail}."
    return (
        f"The gain is not separable from chance: {between} over {found.cells} cells; "
        f"p = {adjusted:.2g} as the best of {points} points."
    )
