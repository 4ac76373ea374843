"""The first screen: a panel for every setting, with all that decides who is ahead.

The panels of a dataset and metric share one scale, over what they show: means, their intervals,
what the papers print. Every method lies on it; a baseline so far away (FAR) that it would
leave little room to tell the methods apart lies off it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.metrics import get
from harness.metrics.registry import PERCENT
from methods.names import BASELINE
from reports.numbers.leaderboard import Board, Row
from reports.page import figures

FAR = 0.5  # of the range of the methods: a baseline further beyond it is off the scale
TICKS = 3  # about so many, two at least, since a panel may be narrow


@dataclass(frozen=True)
class Scale:
    """Where values lie across a panel's plot, on an axis of round numbers."""

    axis: figures.Axis
    share: bool  # values in [0, 1], printed in percent

    @classmethod
    def of(cls, boards: Sequence[Board]) -> Scale | None:
        """Of what these boards show; None if that is nothing."""
        rows = [row for board in boards for row in board.rows]
        methods = [value for row in rows if row.method != BASELINE for value in _drawn(row)]
        shown = methods or [value for row in rows for value in _drawn(row)]
        if not shown:
            return None
        low, high = min(shown), max(shown)
        room = FAR * (high - low) or math.inf  # a single value: nothing is far from it
        plots = [_drawn(row) for row in rows]
        near = [p for p in plots if all(low - room <= value <= high + room for value in p)]
        low, high = min(map(min, filter(None, near))), max(map(max, filter(None, near)))
        if high - low < 1e-9:
            low, high = low - 0.01, high + 0.01
        return cls(figures.Axis("", low, high), get(boards[0].metric).unit == PERCENT)

    def place(self, value: float) -> float:
        """Percent of the width; at its end what lies beyond."""
        return round(100 * min(1.0, max(0.0, float(self.axis.place(value)))), 2)

    def holds(self, value: float) -> bool:
        return self.axis.low - 1e-9 <= value <= self.axis.high + 1e-9

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Place and label."""
        factor = 100 if self.share else 1
        choices = map(self.axis.ticks, range(TICKS, 10 * TICKS))
        marks = next(marks for marks in choices if len(marks) > 1)
        return [(self.place(mark), f"{round(factor * mark, 6):g}") for mark in marks]


@dataclass(frozen=True)
class Panel:
    """One setting: its board, and what stands beside it."""

    board: Board
    scale: Scale | None
    baseline: float | None  # mean of the best baseline
    cost: dict[tuple[str, str], dict]  # (method, variant) -> row of the cost table

    @property
    def of(self) -> tuple[str, str]:
        """Protocol and metric."""
        return self.board.protocol, self.board.metric

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
    def quoted(self) -> bool:
        """Whether a paper prints a value for one of the rows."""
        return any(row.published for row in self.board.rows)


def _drawn(row: Row) -> list[float]:
    """The values that the plot of a row has: its mean, the ends of its interval, the paper's."""
    quote = row.published.quote.value if row.published else None
    values = (row.mean.value, quote, *(row.interval or ()))
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
