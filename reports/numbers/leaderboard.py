"""Leaderboards: one for every dataset, setting, protocol and metric.

A category's score is the mean over seeds, a method's mean the unweighted mean of its categories,
all in full precision. One failed, pending or undefined cell takes the score of its category and
the mean of its row away: a mean over fewer categories is another quantity, and is never ranked.
The spread is the standard deviation (n - 1) over seeds of each seed's mean over categories.
Beside the order of the means stand groups: a row's group is one plus the number of rows that a
paired test finds better, so rows that nothing tells apart share one (`paired`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd

from harness.metrics import get
from harness.store import COMMON, DONE, FAILED, OUT_OF_MEMORY, PAPER, SKIPPED, TIMEOUT
from methods.marks import shots
from methods.seeds import generator_for
from reports.numbers import statistics
from reports.numbers.baselines import Below, below_baseline
from reports.numbers.frame import PENDING, UNDEFINED, UNSCORED, all_marks, metric_names
from reports.numbers.names import metric_order, setting_order, status_label
from reports.numbers.paired import (
    Difference,
    Placements,
    auroc_difference,
    better,
    class_scores,
    groups,
    sign_flip,
)
from reports.numbers.published import Quote, Spread, Verdict, quote, quoted_mean, verdict

ABSENT = "absent"  # other methods have the category, this one was not asked for it
INCOMPLETE = "incomplete"  # a mean that lacks a category
_TELLING = (FAILED, OUT_OF_MEMORY, TIMEOUT, SKIPPED, PENDING, UNSCORED, UNDEFINED, ABSENT)
CSV_COLUMNS = (
    "dataset",
    "setting",
    "method",
    "variant",
    "metric",
    "protocol",
    "category",
    "value",
    "std",
    "seeds",
    "status",
    "low",
    "high",
    "group",
    "below",
    "published",
    "difference",
    "verdict",
    "source",
    "marks",
)


@dataclass(frozen=True)
class Score:
    """A number of the board, or why there is none."""

    value: float | None  # None unless status is "done"
    std: float | None = None  # over seeds; None with fewer than two
    seeds: int = 0  # seeds with a value
    status: str = DONE
    note: str = ""  # what is missing, in words

    @property
    def known(self) -> float:
        """`value`, where there is one. Raises ValueError if not."""
        if self.value is None:
            raise ValueError(f"no score: {self.note or self.status}")
        return self.value


@dataclass(frozen=True)
class Images:
    """What the image scores of a method say about its I-AUROC."""

    draws: dict[str, np.ndarray]  # category -> bootstrap draws
    placements: dict[str, Placements]  # by category

    def interval(self, mean: float, category: str | None = None) -> tuple[float, float]:
        names = list(self.draws) if category is None else [category]
        draws = np.mean([self.draws[name] for name in names], axis=0)
        return statistics.interval(mean, draws, sum(self.placements[n].freedom for n in names))


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
    images: Images | None = None  # I-AUROC only
    interval: tuple[float, float] | None = None  # of the mean, over images; I-AUROC only
    published: Verdict | None = None  # of the mean
    quotes: dict[str, Verdict] = field(default_factory=dict)  # of each category

    def score(self, category: str | None = None) -> Score:
        """In a category, or the mean."""
        return self.mean if category is None else self.scores[category]

    def quoted(self, category: str | None = None) -> Verdict | None:
        """Against what a paper prints for a category, or for the mean."""
        return self.published if category is None else self.quotes.get(category)

    def bounds(self, category: str | None = None) -> tuple[float, float] | None:
        """95 % interval over test images of a category's score, or of the mean; I-AUROC only."""
        return self.images.interval(self.score(category).known, category) if self.images else None

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
    interval: tuple[float, float] | None


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
        tested = _tested(first, second)
        bounds = tested.interval() if tested else None
        by = self.sign * (first.mean.known - second.mean.known)
        return Lead(first, second, by, bounds)


def _tested(one: Row, other: Row) -> Difference | None:
    """Of two rows' means, from the images that both scored."""
    if one.images is None or other.images is None:
        return None
    return auroc_difference(one.images.placements, other.images.placements)


def leaderboards(frame: pd.DataFrame, scores: dict[str, pd.DataFrame] | None = None) -> list[Board]:
    """All boards of a frame, in its protocol: datasets in its order, then settings, then metrics.

    Intervals come from `scores`, the image scores by key; without them there are none.
    """
    boards = []
    for dataset in frame["dataset"].unique():
        of_dataset = frame[frame["dataset"] == dataset]
        for setting in sorted(of_dataset["setting"].unique(), key=setting_order):
            part = of_dataset[of_dataset["setting"] == setting]
            images = {name: _images(cells, scores or {}) for name, cells in _methods(part)}
            boards += [_board(part, metric, images) for metric in metric_names(frame)]
    return boards


def boards_of_all(
    frames: dict[str, pd.DataFrame], scores: dict[str, pd.DataFrame] | None = None
) -> list[Board]:
    """Of every protocol, the common one first, others than the two last.

    frames: protocol -> its results frame. Metrics of images are the same in all, and are tested
    once.
    """
    common, paper = frames[COMMON], frames[PAPER]
    boards = leaderboards(common, scores)
    of_images = [name for name in metric_names(paper) if get(name).of_images]
    shared = [replace(board, protocol=PAPER) for board in boards if board.metric in of_images]
    order = list(common["dataset"].unique())
    others = sorted(
        [*shared, *leaderboards(paper.drop(columns=of_images))],
        key=lambda b: (order.index(b.dataset), setting_order(b.setting), metric_order(b.metric)),
    )
    for protocol in (name for name in frames if name not in (COMMON, PAPER)):
        of_images = [name for name in metric_names(frames[protocol]) if get(name).of_images]
        others += leaderboards(frames[protocol].drop(columns=of_images))
    return [*boards, *others]


def in_protocol(boards: list[Board], protocol: str) -> list[Board]:
    return [board for board in boards if board.protocol == protocol]


def _methods(part: pd.DataFrame):
    return part.groupby(["method", "variant"], sort=False)


def _board(part: pd.DataFrame, metric: str, images: dict) -> Board:
    categories = tuple(part["category"].unique())
    rows = []
    for name, cells in _methods(part):
        row = _row(cells, metric, categories)
        if metric == "i_auroc" and row.mean.status == DONE and images[name] is not None:
            interval = images[name].interval(row.mean.known)
            row = replace(row, images=images[name], interval=interval)
        rows.append(row)
    sign = get(metric).sign
    means = [row.mean.known for row in rows if row.mean.status == DONE]
    means.sort(key=lambda mean: -sign * mean)
    ranked = [
        replace(row, rank=means.index(row.mean.known) + 1) if row.mean.status == DONE else row
        for row in rows
    ]
    ranked.sort(key=lambda row: row.rank or len(rows) + 1)  # stable: ties keep their order
    dataset, setting, protocol = part[["dataset", "setting", "protocol"]].iloc[0]
    if protocol == PAPER or get(metric).of_images:  # papers scored pixels at their own resolution
        ranked = [_quoted(row, dataset, setting, metric, categories) for row in ranked]
    tested_on, apart, ranked = _grouped(ranked, categories, sign)
    ranked = _beside_baselines(ranked, apart)
    return Board(dataset, setting, metric, categories, tuple(ranked), protocol, tested_on)


def _grouped(
    rows: list[Row], categories: tuple[str, ...], sign: int
) -> tuple[str, set[tuple[int, int]], list[Row]]:
    """What the tests looked at, the pairs that they tell apart, and the rows with their groups.

    sign: of the metric
    """
    complete = [row for row in rows if row.rank]
    if not complete:
        return "", set(), rows
    pairs = list(combinations(range(len(complete)), 2))
    tests = [_tested(complete[i], complete[j]) for i, j in pairs]
    of_images = [test.p for test in tests if test is not None]
    if len(of_images) == len(tests) and complete[0].images:
        tested_on, p_values = "images", of_images
    elif len(categories) > 1:
        values = np.array([[row.scores[c].known for c in categories] for row in complete])
        tested_on, p_values = "categories", [sign_flip(values[i] - values[j]) for i, j in pairs]
    else:
        return "", set(), rows
    apart = better([sign * row.mean.known for row in complete], dict(zip(pairs, p_values)))
    found = groups(len(complete), apart)
    grouped = [replace(row, group=group) for row, group in zip(complete, found)]
    return tested_on, apart, grouped + rows[len(complete) :]


def _beside_baselines(rows: list[Row], apart: set[tuple[int, int]]) -> list[Row]:
    """The rows, those that have a rank first, with the baseline that is ahead of them."""
    ranks = [row.rank for row in rows if row.rank]
    names = [(row.method, row.variant) for row in rows[: len(ranks)]]
    found = below_baseline(names, ranks, apart)
    behind = [replace(row, below=below) for row, below in zip(rows, found)]
    return behind + rows[len(ranks) :]


def _printed_variant(row: Row) -> str:
    """Papers print few-shot results as variants; here a mark tells of them."""
    few = [f"shot_{count}" for mark in row.marks if (count := shots(mark))]
    return "+".join(filter(None, (row.variant, *few)))


def _quoted(row: Row, dataset: str, setting: str, metric: str, categories: tuple) -> Row:
    """The row with what papers print for it; nothing where they print nothing."""
    names = (row.method, _printed_variant(row), dataset, setting, metric)

    def against(printed: Quote | None, category: str | None = None) -> Verdict | None:
        ours = row.score(category).value
        if printed is None or ours is None:
            return None
        return verdict(ours, printed, row.spread(category), row.bounds(category))

    quotes = {c: found for c in categories if (found := against(quote(*names, c), c))}
    return replace(row, published=against(quoted_mean(*names, categories)), quotes=quotes)


def _row(cells: pd.DataFrame, metric: str, categories: tuple[str, ...]) -> Row:
    values = cells[metric].to_numpy(float)
    undefined = (cells["status"] == DONE).to_numpy() & np.isnan(values)
    unscored = np.array([metric in lacks.split(";") for lacks in cells["unscored"]], bool)
    statuses = np.where(undefined, np.where(unscored, UNSCORED, UNDEFINED), cells["status"])
    of_category, seeds = cells["category"].to_numpy(), cells["seed"].to_numpy()
    scores = {c: _score(values[of_category == c], statuses[of_category == c]) for c in categories}
    by_seed = [values[seeds == seed] for seed in np.unique(seeds)]
    method, variant = cells["method"].iloc[0], cells["variant"].iloc[0]
    return Row(method, variant, all_marks(cells["marks"]), scores, _mean(scores, by_seed))


def _score(values: np.ndarray, statuses: np.ndarray) -> Score:
    """A category's score from its seeds."""
    if not len(values):
        return Score(None, status=ABSENT, note=status_label(ABSENT))
    counts = Counter(statuses.tolist())
    if counts[DONE] == len(values):
        return Score(float(values.mean()), _std(values), len(values))
    missing = [status for status in counts if status != DONE]
    missing.sort(key=lambda s: _TELLING.index(s) if s in _TELLING else -1)
    seeds = "seed" if len(values) == 1 else "seeds"
    note = ", ".join(f"{counts[s]} of {len(values)} {seeds} {status_label(s)}" for s in missing)
    return Score(None, seeds=counts[DONE], status=missing[0], note=note)


def _mean(scores: dict[str, Score], by_seed: list[np.ndarray]) -> Score:
    """The mean of all categories; its spread needs every seed to have every category."""
    seeds = [s.mean() for s in by_seed if len(s) == len(scores) and not np.isnan(s).any()]
    done = [score.known for score in scores.values() if score.status == DONE]
    if len(done) < len(scores):
        note = f"{len(done)} of {len(scores)} categories"
        return Score(None, seeds=len(seeds), status=INCOMPLETE, note=note)
    std = _std(np.array(seeds)) if len(seeds) == len(by_seed) else None
    return Score(float(np.mean(done)), std, len(seeds))


def _std(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _images(cells: pd.DataFrame, scores: dict[str, pd.DataFrame]) -> Images | None:
    """What is known from a method's image scores; None if any cell lacks them."""
    if not set(cells["key"]) <= set(scores):
        return None
    draws, placements = {}, {}
    for category, group in cells.groupby("category", sort=False):
        found = class_scores([scores[key] for key in group["key"]])
        if found is None:
            return None
        normal, anomalous, ids = found
        rng = generator_for("bootstrap", group["dataset"].iloc[0], category)
        draws[category] = statistics.resampled_auroc(normal, anomalous, rng)
        placements[category] = Placements.of(normal, anomalous, ids)
    return Images(draws, placements)


def leaderboard_table(boards: list[Board]) -> pd.DataFrame:
    """Every score in long form, without times or dates: equal results give equal tables."""
    rows = []
    for board in boards:
        for row in board.rows:
            for category in (*row.scores, None):
                mean, score, found = category is None, row.score(category), row.quoted(category)
                low, high = (row.interval if mean else None) or (None, None)
                rows.append(
                    (
                        board.dataset,
                        board.setting,
                        row.method,
                        row.variant,
                        board.metric,
                        board.protocol,
                        "mean" if mean else category,
                        score.value,
                        score.std,
                        score.seeds,
                        score.status,
                        low,
                        high,
                        row.group if mean else None,
                        row.below.text if mean and row.below else "",
                        found and found.quote.value,
                        found and found.difference,
                        found.text if found else "",
                        found.quote.source if found else "",
                        ";".join(row.marks),
                    )
                )
    rows.sort(key=lambda r: (*r[:4], metric_order(r[4]), r[5], r[6] == "mean", r[6]))
    table = pd.DataFrame(rows, columns=CSV_COLUMNS)
    numbers = ["value", "std", "low", "high", "published", "difference"]
    return table.astype(dict.fromkeys(numbers, float) | {"group": "Int64"})


def leaderboard_csv(boards: list[Board]) -> str:
    """The table with 6 digits: equal results give equal bytes."""
    return leaderboard_table(boards).to_csv(index=False, lineterminator="\n", float_format="%.6f")
