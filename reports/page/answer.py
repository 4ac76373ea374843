"""The first screen: a panel for every setting, with all that decides who is ahead.

The panels of a dataset and metric share one scale, over what they show: means, their intervals,
what the papers print. What is far behind the first (FAR) would leave no room to tell the others
apart, and lies off the scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.metrics import get
from harness.metrics.registry import PERCENT
from methods.names import BASELINE
from reports.numbers.leaderboard import Board
from reports.page import figures

FAR = 0.25  # of shares in [0, 1]
TICKS = 3  # about so many, since a panel may be narrow


@dataclass(frozen=True)
class Scale:
    """Where values lie across a panel's plot, on an axis of round numbers."""

    axis: figures.Axis
    share: bool  # values in [0, 1], printed in percent

    @classmethod
    def of(cls, boards: Sequence[Board]) -> Scale | None:
        """Of what these boards show; None if that is nothing."""
        rows = [row for board in boards for row in board.rows]
        means = _finite([row.mean.value for row in rows])
        quotes = _finite([row.published.quote.value for row in rows if row.published])
        shown = means + quotes + _finite([end for row in rows for end in row.interval or ()])
        if not shown:
            return None
        metric, low, high = get(boards[0].metric), min(shown), max(shown)
        if metric.unit == PERCENT and means:
            best = max(means, key=lambda mean: metric.sign * mean)
            low, high = max(low, best - FAR), min(high, best + FAR)
        if high - low < 1e-9:
            low, high = low - 0.01, high + 0.01
        return cls(figures.Axis("", low, high), metric.unit == PERCENT)

    def place(self, value: float) -> float:
        """Percent of the width; at its end what lies beyond."""
        return round(100 * min(1.0, max(0.0, float(self.axis.place(value)))), 2)

    def holds(self, value: float) -> bool:
        return self.axis.low - 1e-9 <= value <= self.axis.high + 1e-9

    def cut(self, bounds: tuple[float, float] | None) -> tuple[bool, bool]:
        """Whether an interval goes on beyond the scale, at its low and at its high end."""
        low, high = bounds or (self.axis.low, self.axis.high)
        return low < self.axis.low - 1e-9, high > self.axis.high + 1e-9

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Place and label."""
        factor = 100 if self.share else 1
        marks = self.axis.ticks(TICKS)
        return [(self.place(mark), f"{round(factor * mark, 6):g}") for mark in marks]


@dataclass(frozen=True)
class Panel:
    """One setting: its board, and what stands beside it."""

    board: Board
    scale: Scale | None
    baseline: float | None  # mean of the best baseline
    cost: dict[tuple[str, str], dict]  # (method, variant) -> row of the cost table

    @property
    def floor(self) -> float | None:
        """`baseline`, where it lies on the scale."""
        on_it = self.baseline is not None and self.scale and self.scale.holds(self.baseline)
        return self.baseline if on_it else None

    @property
    def whole(self) -> bool:
        """Whether every mean lies on the scale."""
        means = [row.mean.value for row in self.board.rows if row.mean.value is not None]
        return not self.scale or all(map(self.scale.holds, means))

    @property
    def uncut(self) -> bool:
        """Whether every interval that is drawn ends on the scale."""
        axis, rows = self.scale, [row for row in self.board.rows if row.mean.value is not None]
        return not axis or not any(
            any(axis.cut(row.interval)) for row in rows if axis.holds(row.mean.known)
        )

    @property
    def quoted(self) -> bool:
        """Whether a paper prints a value for one of the rows."""
        return any(row.published for row in self.board.rows)


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def answer(boards: list[Board], cost: pd.DataFrame) -> dict[str, list[Panel]]:
    """dataset -> the panels of every metric and setting.

    boards: those to choose from, with both protocols; cost: of `cost_frame`. Times of several
    devices may not be compared, and are left to the table of costs.
    """
    timed = cost if cost["device"].nunique() == 1 else cost.iloc[:0]
    found: dict[str, list[Panel]] = {}
    for board in boards:
        alike = [
            b
            for b in boards
            if (b.dataset, b.protocol, b.metric) == (board.dataset, board.protocol, board.metric)
        ]
        panel = Panel(board, Scale.of(alike), _baseline(board), _of_setting(timed, board))
        found.setdefault(board.dataset, []).append(panel)
    return found


def _baseline(board: Board) -> float | None:
    ranked = [row for row in board.rows if row.rank and row.method == BASELINE]
    return ranked[0].mean.value if ranked else None


def _of_setting(cost: pd.DataFrame, board: Board) -> dict[tuple[str, str], dict]:
    rows = cost[(cost["dataset"] == board.dataset) & (cost["setting"] == board.setting)]
    return {(row["method"], row["variant"]): row for row in rows.to_dict("records")}
