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
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from harness.metrics import get
from harness.metrics.intervals import Error, Influence, interval, of_seeds
from harness.metrics.registry import PERCENT
from harness.store import COMMON, DONE, FAILED, OUT_OF_MEMORY, PAPER, SKIPPED, TIMEOUT
from methods.marks import DEMO, MADE_DATA, UNVERIFIED
from reports.numbers.baselines import below_baseline
from reports.numbers.board import Board, Lead, Row, Score, ahead
from reports.numbers.data import MADE, PUBLISHED, is_claimed
from reports.numbers.evidence import NONE, Evidence
from reports.numbers.frame import PENDING, UNDEFINED, UNSCORED, all_marks, metric_names
from reports.numbers.names import metric_order, setting_order, status_label
from reports.numbers.paired import better, groups, separable, sign_flip
from reports.numbers.quoting import quoted
from reports.numbers.table import CSV_COLUMNS, leaderboard_csv, leaderboard_table

__all__ = [
    "CSV_COLUMNS",
    "Board",
    "Lead",
    "Row",
    "Score",
    "boards_of_all",
    "in_protocol",
    "leaderboard_csv",
    "leaderboard_table",
    "leaderboards",
]

ABSENT = "absent"  # other methods have the category, this one was not asked for it
INCOMPLETE = "incomplete"  # a mean that lacks a category
_TELLING = (FAILED, OUT_OF_MEMORY, TIMEOUT, SKIPPED, PENDING, UNSCORED, UNDEFINED, ABSENT)


def leaderboards(frame: pd.DataFrame, evidence: Evidence = NONE) -> list[Board]:
    """All boards of a frame, in its protocol: datasets in its order, then settings, then metrics.

    Intervals, tests on images and signatures come from `evidence`; without it there are none.
    """
    boards = []
    for dataset in frame["dataset"].unique():
        of_dataset = frame[frame["dataset"] == dataset]
        for setting in sorted(of_dataset["setting"].unique(), key=setting_order):
            part = of_dataset[of_dataset["setting"] == setting]
            boards += [_board(part, metric, evidence) for metric in metric_names(frame)]
    return boards


def boards_of_all(
    frames: Mapping[str, pd.DataFrame], evidence: Mapping[str, Evidence] | None = None
) -> list[Board]:
    """Of every protocol, the common one first, others than the two last.

    frames, evidence: by protocol. Metrics of images are the same in all, and are tested once.
    """
    known = evidence or {}
    common, paper = frames[COMMON], frames[PAPER]
    boards = leaderboards(common, known.get(COMMON, NONE))
    of_images = [name for name in metric_names(paper) if get(name).of_images]
    shared = [replace(board, protocol=PAPER) for board in boards if board.metric in of_images]
    order = list(common["dataset"].unique())
    others = sorted(
        [*shared, *leaderboards(paper.drop(columns=of_images), known.get(PAPER, NONE))],
        key=lambda b: (order.index(b.dataset), setting_order(b.setting), metric_order(b.metric)),
    )
    for protocol in (name for name in frames if name not in (COMMON, PAPER)):
        of_images = [name for name in metric_names(frames[protocol]) if get(name).of_images]
        without = frames[protocol].drop(columns=of_images)
        others += leaderboards(without, known.get(protocol, NONE))
    return [*boards, *others]


def in_protocol(boards: list[Board], protocol: str) -> list[Board]:
    return [board for board in boards if board.protocol == protocol]


def _methods(part: pd.DataFrame):
    return part.groupby(["method", "variant"], sort=False)


def _board(part: pd.DataFrame, metric: str, evidence: Evidence) -> Board:
    categories = tuple(part["category"].unique())
    rows = [_row(cells, metric, categories, evidence) for _, cells in _methods(part)]
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
        given = {names: _inputs(cells) for names, cells in _methods(part)}
        ranked = [
            quoted(row, setting, metric, categories, given[row.method, row.variant])
            for row in ranked
        ]
    tested_on, apart, ranked = _grouped(ranked, categories, sign)
    ranked = _beside_baselines(ranked, apart)
    return Board(dataset, setting, metric, categories, tuple(ranked), protocol, tested_on)


def _grouped(
    rows: list[Row], categories: tuple[str, ...], sign: int
) -> tuple[str, set[tuple[int, int]], list[Row]]:
    """What the tests looked at, the pairs that they tell apart, and the rows with their groups.

    sign: of the metric. No groups where no test could have separated any two.
    """
    complete = [row for row in rows if row.rank]
    if not complete:
        return "", set(), rows
    pairs = list(combinations(range(len(complete)), 2))
    tests = [ahead(complete[i], complete[j], sign) for i, j in pairs]
    of_images = [test.p for test in tests if test is not None]
    if len(of_images) == len(tests) and complete[0].influences:
        tested_on, p_values = "images", of_images
    elif separable(len(categories), len(pairs)):
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


def _inputs(cells: pd.DataFrame) -> set[str]:
    """The settings that gave files to all of these cells that are done."""
    of_each = [set(names.split(";")) for names in cells.loc[cells["status"] == DONE, "inputs"]]
    return set.intersection(*of_each) if of_each else set()


def _row(cells: pd.DataFrame, metric: str, categories: tuple[str, ...], evidence: Evidence) -> Row:
    values = cells[metric].to_numpy(float)
    undefined = (cells["status"] == DONE).to_numpy() & np.isnan(values)
    unscored = np.array([metric in lacks.split(";") for lacks in cells["unscored"]], bool)
    statuses = np.where(undefined, np.where(unscored, UNSCORED, UNDEFINED), cells["status"])
    of_category, seeds = cells["category"].to_numpy(), cells["seed"].to_numpy()
    keys = cells["key"].to_numpy()
    scores = {c: _score(values[of_category == c], statuses[of_category == c]) for c in categories}
    known = {c: _influence(keys[of_category == c], metric, evidence) for c in categories}
    scores = {c: _bounded(score, [known[c]], metric) for c, score in scores.items()}
    by_seed = [values[seeds == seed] for seed in np.unique(seeds)]
    mean = _bounded(_mean(scores, by_seed), list(known.values()), metric)
    signatures = dict.fromkeys(filter(None, (evidence.signature(key, metric) for key in keys)))
    data = {c: _data(keys[of_category == c], evidence) for c in categories}
    return Row(
        cells["method"].iloc[0],
        cells["variant"].iloc[0],
        _marks(cells, data),
        scores,
        mean,
        influences=_all(list(known.values())) if mean.status == DONE else (),
        signatures=tuple(signatures),
        data={c: found for c, found in data.items() if found in PUBLISHED},
    )


def _data(keys: np.ndarray, evidence: Evidence) -> str | None:
    """Whose the data of a category are (`published_data`); None: unknown."""
    known = {evidence.data[key] for key in keys if key in evidence.data}
    return "".join(known) if len(known) == 1 else "" if known else None


def _marks(cells: pd.DataFrame, data: dict[str, str | None]) -> tuple[str, ...]:
    """With one for data that are Relief's own, or called as published ones without being these.

    A demo says enough.
    """
    marks, dataset = all_marks(cells["marks"]), cells["dataset"].iloc[0]
    if DEMO in marks:
        return marks
    other = [c for c, found in data.items() if found == "" and is_claimed(dataset, c)]
    claimed = len(other) == len(data) or dataset in PUBLISHED
    found = {MADE_DATA: MADE in data.values(), UNVERIFIED: bool(other) and claimed}
    return (*marks, *(mark for mark, so in found.items() if so))


def _influence(keys: np.ndarray, metric: str, evidence: Evidence) -> Influence | None:
    """Of a category's images on the mean over its seeds."""
    parts = [evidence.influence(key, metric) for key in keys]
    known = [part for part in parts if part is not None]
    return of_seeds(known) if len(known) == len(parts) else None


def _all(parts: list[Influence | None]) -> tuple[Influence, ...]:
    """Those of all categories; empty if one is not known."""
    known = tuple(part for part in parts if part is not None)
    return known if len(known) == len(parts) else ()


def _bounded(score: Score, parts: list[Influence | None], metric: str) -> Score:
    """With its interval over test images, where it has a value and they are known."""
    error = Error.of_mean(_all(parts))
    if score.value is None or error is None:
        return score
    known = get(metric)
    share, smooth = known.unit == PERCENT, known.influences is None
    return replace(score, interval=interval(score.value, error, share=share, smooth=smooth))


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
