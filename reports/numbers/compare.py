"""Two sides of one comparison: two stores, two commits or two settings, cell by cell.

A pair is a cell of one side and the cell of the other with the same names. Only pairs that are
done on both sides give differences (B - A); what A has and B lost is listed, since a method that
crashes has not got better. Intervals and p-values come from the first of these that exists:

- images: both sides scored the same test images, and know what each does to the metric
  (harness/metrics/intervals.py); categories are fixed;
- seeds: at least two seeds in common (Student's t of the differences);
- categories: at least FEW categories, for an overall difference only (Student's t). Of fewer there
  is none: with one or two degrees of freedom a t-interval is many times as wide as anything that
  can be, and differences of categories, some of them at the upper end, are not normal.

A regression is a loss beyond the margin (of a metric of which less is better: a rise) whose
p-value stays under the level after Holm's correction over everything tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from harness.metrics import get
from harness.metrics.intervals import Difference, Influence, of_seeds, paired_difference
from harness.metrics.registry import PERCENT
from harness.store import DONE
from methods.errors import UserError
from reports.numbers.evidence import NONE, Evidence
from reports.numbers.frame import IDENTITY
from reports.numbers.names import metric_order
from reports.numbers.paired import ALPHA, holm

OVERALL = "mean"
FEW = 6  # categories, of fewer than which no t-interval is shown
WORSE, BETTER, SAME, UNTESTED = "worse", "better", "same", "untested"


@dataclass(frozen=True)
class Change:
    """B against A, in one category or over all that both have."""

    dataset: str
    setting: str
    method: str
    variant: str
    metric: str
    category: str  # OVERALL for the mean over categories
    a: float
    b: float
    interval: tuple[float, float] | None  # of b - a, 95 %
    basis: str  # "images", "seeds", "categories" or ""
    p: float | None  # that b - a is within the margin; Holm-corrected
    verdict: str
    signatures: tuple[str, ...] = ()  # the different ones of the cells; of equal meaning if one

    @property
    def by(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    changes: tuple[Change, ...]  # overall first, then by category
    lost: tuple[str, ...]  # cells that A has and B has not, in words
    gained: tuple[str, ...]
    pairs: int

    @property
    def regressions(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.verdict == WORSE)


def chosen(frame: pd.DataFrame, filters: Mapping[str, str]) -> pd.DataFrame:
    """The cells whose columns have these values, e.g. {"setting": "rgb"}."""
    known = [*IDENTITY, "commit", "device"]
    for name, value in filters.items():
        if name not in known:
            raise UserError(f"cannot choose cells by {name!r}; by {', '.join(known)}")
        values = frame[name].fillna("").astype(str)
        if not (values == value).any():
            there = ", ".join(sorted(repr(v) for v in values.unique())) or "none"
            raise UserError(f"no cell has {name}={value}; there are {there}")
        frame = frame[values == value]
    return frame


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    metrics: list[str],
    evidence_a: Evidence = NONE,
    evidence_b: Evidence = NONE,
    ignore: tuple[str, ...] = (),
    margin: float = 0.0,
) -> Comparison:
    """Compare two results frames.

    ignore: names in which the two cells of a pair may differ, e.g. ("setting",); A's are shown
    metrics: those compared, where both have them; evidence_*: with what images do to them
    margin: smallest loss that counts, in [0, 1]; of metrics in another unit 100 times that
    """
    names = [name for name in IDENTITY if name not in ignore]
    for side, frame in (("A", a), ("B", b)):
        twice = frame[frame.duplicated(names, keep=False)]
        if len(twice):
            differ = [n for n in ignore if twice[n].nunique() > 1]
            raise UserError(
                f"several cells of {side} are {_words(twice.iloc[0])} but for "
                f"{' and '.join(differ) or 'their keys'}: choose one, e.g. --{side.lower()} "
                f"{differ[0] if differ else 'variant'}=..."
            )
    pairs = a.merge(b, on=names, suffixes=("", "_b"), how="outer", indicator=True)
    if not len(pairs[pairs["_merge"] == "both"]):
        raise UserError("the two sides have no cell in common: choose with --a and --b name=value")
    done_a = (pairs["status"] == DONE) & (pairs["_merge"] != "right_only")
    done_b = (pairs["status_b"] == DONE) & (pairs["_merge"] != "left_only")
    both = pairs[done_a & done_b]
    found: list[Change] = []
    for group, cells in both.groupby(["dataset", "setting", "method", "variant"], sort=False):
        for metric in sorted(metrics, key=metric_order):
            if {metric, f"{metric}_b"} <= set(cells.columns):
                evidence = evidence_a, evidence_b
                found += _changes(group, metric, cells, evidence, _margin(metric, margin))
    lost, gained = (
        tuple(_words(row) for _, row in pairs[have & ~have_not].iterrows())
        for have, have_not in ((done_a, done_b), (done_b, done_a))
    )
    return Comparison(tuple(_corrected(found, margin)), lost, gained, len(both))


def _margin(metric: str, margin: float) -> float:
    """Of a metric, in its own values."""
    return margin if get(metric).unit == PERCENT else 100 * margin


class _Tested(NamedTuple):
    """What a test says of a difference, as in `Change`."""

    interval: tuple[float, float] | None
    basis: str
    p: float | None


def _changes(
    group: tuple[str, str, str, str],
    metric: str,
    cells: pd.DataFrame,
    evidence: tuple[Evidence, Evidence],
    margin: float,
) -> list[Change]:
    """Overall, then by category, of the pairs of one dataset, setting, method and variant."""

    def change(category: str, a: float, b: float, tested: _Tested) -> Change:
        return Change(*group, metric, category, a, b, *tested, UNTESTED, signatures)

    cells = cells[cells[metric].notna() & cells[f"{metric}_b"].notna()]
    if cells.empty:
        return []
    signatures = _signatures(cells, metric, evidence)
    changes, means, images = [], [], []
    for category, part in cells.groupby("category", sort=False):
        a, b = part[metric].to_numpy(float), part[f"{metric}_b"].to_numpy(float)
        mean_a, mean_b = float(a.mean()), float(b.mean())
        means.append((mean_a, mean_b))
        images.append(_influences(part, metric, evidence))
        found = _of_images(means[-1:], images[-1:])
        tested = _from_images(found, margin) if found else _student(b - a, "seeds", margin)
        changes.append(change(category, mean_a, mean_b, tested))
    a, b = (float(np.mean(side)) for side in zip(*means))
    seeds = _by_seed(cells, metric)
    if found := _of_images(means, images):
        tested = _from_images(found, margin)
    elif len(seeds) > 1:
        tested = _student(seeds, "seeds", margin)
    elif len(means) >= FEW:
        tested = _student(np.array([y - x for x, y in means]), "categories", margin)
    else:
        tested = _Tested(None, "", None)
    return [change(OVERALL, a, b, tested), *changes]


def _signatures(
    cells: pd.DataFrame, metric: str, evidence: tuple[Evidence, Evidence]
) -> tuple[str, ...]:
    """The different ones of both sides, A's first."""
    sides = zip(("key", "key_b"), evidence)
    texts = (known.signature(key, metric) for name, known in sides for key in cells[name])
    return tuple(dict.fromkeys(filter(None, texts)))


def _influences(
    part: pd.DataFrame, metric: str, evidence: tuple[Evidence, Evidence]
) -> tuple[Influence, Influence] | None:
    """Of a category's images on both sides' means over seeds; None if one is not known."""
    sides = []
    for key, known in zip(("key", "key_b"), evidence):
        parts = [known.influence(k, metric) for k in part[key]]
        found = [one for one in parts if one is not None]
        sides.append(of_seeds(found) if len(found) == len(parts) else None)
    a, b = sides
    return (a, b) if a is not None and b is not None else None


def _of_images(
    means: list[tuple[float, float]], images: list[tuple[Influence, Influence] | None]
) -> Difference | None:
    """B - A of the mean over categories."""
    known = [sides for sides in images if sides is not None]
    if len(known) < len(images):
        return None
    by = float(np.mean([b - a for a, b in means]))
    return paired_difference(by, [b for _, b in known], [a for a, _ in known])


def _by_seed(cells: pd.DataFrame, metric: str) -> np.ndarray:
    """The mean difference over categories of each seed that has all of them."""
    difference = (cells[f"{metric}_b"] - cells[metric]).groupby(cells["seed"])
    whole = difference.size() == cells["category"].nunique()
    return difference.mean()[whole].to_numpy(float)


def _from_images(difference: Difference, margin: float) -> _Tested:
    return _Tested(difference.interval(), "images", difference.p_beyond(margin))


def _student(differences: np.ndarray, basis: str, margin: float) -> _Tested:
    if len(differences) < 2:
        return _Tested(None, "", None)
    n, mean = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    reach = float(student.ppf(0.975, n - 1)) * error
    p = _p(mean, error, margin, lambda z: student.sf(z, n - 1))
    return _Tested((mean - reach, mean + reach), basis, p)


def _p(value: float, error: float, margin: float, tail: Callable[[float], float]) -> float:
    """Two-sided p-value that the difference is not beyond the margin."""
    beyond = abs(value) - margin
    if beyond <= 0:
        return 1.0
    return float(min(1.0, 2 * tail(beyond / error))) if error > 0 else 0.0


def _corrected(changes: list[Change], margin: float) -> list[Change]:
    tested = {i: change.p for i, change in enumerate(changes) if change.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values()))))
    found = []
    for i, change in enumerate(changes):
        p, verdict = corrected.get(i), UNTESTED
        if p is not None:
            gain = get(change.metric).sign * change.by
            worse = gain < -_margin(change.metric, margin)
            verdict = SAME if p >= ALPHA else WORSE if worse else BETTER
        found.append(replace(change, p=p, verdict=verdict))
    return found


def _words(row: pd.Series) -> str:
    return " ".join(str(row[name]) for name in IDENTITY if str(row[name]) not in ("", "nan"))
