"""A leaderboard: its rows, their scores with intervals, and what stands beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.metrics import get
from harness.metrics.intervals import Difference, Influence, paired_difference
from harness.store import DONE, PAPER
from reports.numbers.baselines import Below
from reports.numbers.published import Spread, Verdict

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """A number of the board, or why there is none."""

    value: float | None  # None unless status is "done"
    std: float | None = None  # over seeds; None with fewer than two
    seeds: int = 0  # seeds with a value
    status: str = DONE
    note: str = ""  # what is missing, in words
    interval: Bounds | None = None  # 95 % over test images; None where unknown

    @property
    def known(self) -> float:
        """`value`, where there is one. Raises ValueError if not."""
        if self.value is None:
            raise ValueError(f"no score: {self.note or self.status}")
        return self.value


@dataclass(frozen=True)
class Row:
    """A method (and variant) on a board."""

    method: str
    variant: str
    marks: tuple[str, ...]
    scores: dict[str, Score]  # by category
    mean: Score
    rank: int | None = None  # 1 is best; None if the mean is incomplete
    group: int | None = None  # 1 + rows that are better; None if untested
    below: Below | None = None  # the best baseline, where that is ahead
    influences: tuple[Influence, ...] = ()  # a category each; empty if one is unknown
    signatures: tuple[str, ...] = ()  # the different ones of its cells
    data: dict[str, str] = field(default_factory=dict)  # category -> which published dataset's
    published: Verdict | None = None  # of the mean
    quotes: dict[str, Verdict] = field(default_factory=dict)  # of each category

    def score(self, category: str | None = None) -> Score:
        """In a category, or the mean."""
        return self.mean if category is None else self.scores[category]

    def quoted(self, category: str | None = None) -> Verdict | None:
        """Against what a paper prints for a category, or for the mean."""
        return self.published if category is None else self.quotes.get(category)

    def bounds(self, category: str | None = None) -> Bounds | None:
        """95 % interval over test images of a category's score, or of the mean."""
        return self.score(category).interval

    @property
    def interval(self) -> Bounds | None:
        """Of the mean."""
        return self.mean.interval

    @property
    def alike(self) -> bool:
        """Whether no test image makes a difference to the mean, as where all maps are the same."""
        return bool(self.mean.value is not None and self.interval is None and self.influences)

    def spread(self, category: str | None = None) -> Spread | None:
        """Of single runs, pooled over categories: of a category's score, or of the mean."""
        scores = self.scores.values()
        pooled = Spread.pooled([s.std for s in scores], min(s.seeds for s in scores))
        return pooled.of_mean(len(scores)) if pooled and category is None else pooled


@dataclass(frozen=True)
class Lead:
    """How far the first is ahead of the second; the interval is paired, image by image."""

    first: Row
    second: Row
    by: float
    interval: Bounds | None


@dataclass(frozen=True)
class Board:
    dataset: str
    setting: str
    metric: str
    categories: tuple[str, ...]
    rows: tuple[Row, ...]  # best mean first, then the incomplete ones

    protocol: str = PAPER
    tested_on: str = ""  # "images", "categories" or "" where no test is possible

    def best(self, category: str | None = None) -> float | None:
        """The best value in a category, or the best mean."""
        return next(iter(self._values(category)), None)

    def second(self, category: str | None = None) -> float | None:
        """The best value but one; None where there is none worse than the best."""
        values = self._values(category)
        return values[1] if len(values) > 1 else None

    def _values(self, category: str | None) -> list[float]:
        """The different ones, the best first."""
        scores = [row.score(category) for row in self.rows]
        values = {s.value for s in scores if s.value is not None}
        return sorted(values, key=lambda value: -self.sign * value)

    @property
    def sign(self) -> int:
        """Of its metric: times which the larger value is the better one."""
        return get(self.metric).sign

    def row(self, method: str, variant: str) -> Row | None:
        return next((r for r in self.rows if (r.method, r.variant) == (method, variant)), None)

    @property
    def lead(self) -> Lead | None:
        ranked = [row for row in self.rows if row.rank]
        if len(ranked) < 2:
            return None
        first, second = ranked[:2]
        tested = ahead(first, second, self.sign)
        by = self.sign * (first.mean.known - second.mean.known)
        return Lead(first, second, by, tested.interval() if tested else None)

    @property
    def signatures(self) -> tuple[str, ...]:
        """The different ones of its rows; with more than one they are not the same quantity."""
        return tuple(dict.fromkeys(text for row in self.rows for text in row.signatures))


def ahead(one: Row, other: Row, sign: int = 1) -> Difference | None:
    """By how much the first mean is better, from the images that both scored; sign: the metric's.

    None where that cannot be told.
    """
    by = sign * (one.mean.known - other.mean.known)
    return paired_difference(by, one.influences, other.influences)
