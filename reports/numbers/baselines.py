"""Which rows of a board a baseline beats.

Each row is held against the best baseline of its board, by the paired test that makes the groups,
in the same correction over all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from methods.names import BASELINE


@dataclass(frozen=True)
class Below:
    """What a row says of itself whose mean is worse than a baseline's."""

    variant: str  # of the baseline
    apart: bool  # beyond chance

    @property
    def text(self) -> str:
        """ "baseline/plane", for tables that programs read."""
        entry = "/".join(filter(None, (BASELINE, self.variant)))
        return entry if self.apart else f"{entry}, not told apart"


def below_baseline(
    rows: list[tuple[str, str]], ranks: list[int], better: set[tuple[int, int]]
) -> list[Below | None]:
    """For each row, (method, variant): the best baseline where that is ahead, else None.

    better: pairs (i, j) of rows, the first better than the second beyond chance
    """
    of_baselines = [i for i, (method, _) in enumerate(rows) if method == BASELINE]
    if not of_baselines:
        return [None] * len(rows)
    best = min(of_baselines, key=lambda i: ranks[i])
    return [
        Below(rows[best][1], (best, i) in better)
        if method != BASELINE and ranks[i] > ranks[best]
        else None
        for i, (method, _) in enumerate(rows)
    ]
