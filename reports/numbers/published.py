"""Published values beside ours, and whether the two agree.

What a paper prints is one number without a spread. Ours comes from a few seeds, so the question is
whether the paper's run could be one more of them: its value is "within error" where it lies in
the 95 % prediction interval t * s * sqrt(1 + 1/n) of one more run around the mean of our n seeds.
Since n is small, s is pooled over the categories, which are trained apart: C (n - 1) degrees of
freedom; the spread of a mean over them is s / sqrt(C). Paper and we score the same test images, so
these add nothing; only where there is a single seed does the interval over images stand in.
Rounding is forgiven in every case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy.stats import t as student

from methods.errors import UserError
from methods.names import printed_name

FOLDER = Path(__file__).parents[1] / "published"
SOURCES = ("dbrn", "3dsr", "das3d", "m3dm", "shape_guided")
ROUNDING = 0.001  # the papers' codes round categories to 3 decimals, then the mean again
WITHIN, ABOVE, BELOW, UNKNOWN = "within error", "above", "below", "error unknown"
UNJUDGED = "not judged"  # of a demo, random weights or other settings
CELL_COLUMNS = (
    "paper",
    "table",
    "method",
    "method_key",
    "variant",
    "setting",
    "dataset",
    "category",
    "metric",
    "value",
    "hardware",
    "note",
    "file",
    "row",
)


class Printed(NamedTuple):
    """What decides how a printed value compares with ours (reports/numbers/comparison.py)."""

    paper: str
    table: str
    dataset: str
    setting: str
    method_key: str
    variant: str
    metric: str


@dataclass(frozen=True)
class Quote:
    """A published value and where it stands."""

    value: float
    source: str  # paper
    table: str
    method: str  # as printed
    note: str = ""
    printed: Printed | None = None


@dataclass(frozen=True)
class Spread:
    """How much single runs differ."""

    std: float  # of one run
    seeds: int  # runs that our value is the mean of
    freedom: int  # degrees of freedom of std

    @classmethod
    def pooled(cls, stds: list[float | None], seeds: int) -> Spread | None:
        """Of a category, from the standard deviations (n - 1) of all; None with one seed."""
        known = [std for std in stds if std is not None]
        if seeds < 2 or not stds or len(known) < len(stds):
            return None
        variance = sum(std**2 for std in known) / len(known)
        return cls(math.sqrt(variance), seeds, len(known) * (seeds - 1))

    def of_mean(self, categories: int) -> Spread:
        """Of the mean over that many categories."""
        return Spread(self.std / math.sqrt(categories), self.seeds, self.freedom)

    def reach(self, level: float = 0.95) -> float:
        """Half-width of the prediction interval of one more run."""
        t = float(student.ppf((1 + level) / 2, self.freedom))
        return t * self.std * math.sqrt(1 + 1 / self.seeds)


@dataclass(frozen=True)
class Verdict:
    """Ours against a paper's: difference, what it may be by chance, and what follows."""

    quote: Quote
    difference: float  # ours - published
    text: str  # WITHIN, ABOVE, BELOW, UNKNOWN or UNJUDGED
    margin: float | None  # half-width of the error, with the rounding; None if unknown
    basis: str  # "seeds", "images" or "" where the error is unknown
    interval: tuple[float, float] | None = None  # of the difference, 95 %, with the rounding
    inferred: tuple[str, ...] = ()  # what of the protocol is not published or not as in the code


@cache
def published() -> pd.DataFrame:
    """All rows of all papers; texts as they are, value float, and where each stands.

    file: name in FOLDER; row: line of that file, from 2.
    """
    frame = pd.concat([_read(FOLDER / f"{source}.csv") for source in SOURCES], ignore_index=True)
    return frame.assign(value=frame["value"].astype(float))


def _read(file: Path) -> pd.DataFrame:
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    names = [_folder(*of) for of in zip(table["dataset"], table["category"])]
    return table.assign(category=names, file=file.name, row=table.index + 2)


def _folder(dataset: str, category: str) -> str:
    """What the data call a category: Eyecandies' candy_cane is the folder CandyCane."""
    if dataset != "eyecandies" or category == "mean":
        return category
    return "".join(word.capitalize() for word in category.split("_"))


def published_cells(paper: str | None = None, table: str | None = None) -> pd.DataFrame:
    """Everything the papers print, a value a row, or one paper's, or one of its tables.

    Columns: paper (of SOURCES), table ("Table IV"), method (the row's label as printed),
    method_key (one a method), variant ("" for the full method, else the ablation's row), setting,
    dataset, category (or "mean"), metric, value, hardware, note, file (in FOLDER), row (its line).
    """
    frame = published().rename(columns={"source": "paper"})
    if paper is not None:
        if paper not in SOURCES:
            raise UserError(f"unknown paper {paper!r}; known: {', '.join(SOURCES)}")
        frame = frame[frame["paper"] == paper]
    if table is not None:
        tables = frame["table"].unique()
        if table not in tables:
            raise UserError(f"{paper or 'no paper'} has no {table!r}; it has {', '.join(tables)}")
        frame = frame[frame["table"] == table]
    return frame[list(CELL_COLUMNS)].reset_index(drop=True)


@cache
def _index() -> dict[tuple, Quote]:
    """(method_key, variant, dataset, setting, metric, category) -> the quote.

    A method's own paper comes first, then the papers in the order of SOURCES.
    """
    found: dict[tuple, Quote] = {}
    frame = published()
    own = frame["method_key"].str.removesuffix("_ms") == frame["source"]
    for row in frame.assign(own=~own).sort_values("own", kind="stable").itertuples():
        key = (row.method_key, row.variant, row.dataset, row.setting, row.metric, row.category)
        place = Printed(row.source, row.table, row.dataset, row.setting, *key[:2], row.metric)
        quoted = Quote(row.value, row.source, row.table, row.method, row.note, place)
        found.setdefault(key, quoted)
    return found


def quote(
    method: str, variant: str, dataset: str, setting: str, metric: str, category: str
) -> Quote | None:
    """The published value of one of our cells' category, if there is one; "mean" is a category."""
    return _index().get(
        (*printed_name(method, variant, setting), dataset, setting, metric, category)
    )


def quoted_mean(
    method: str, variant: str, dataset: str, setting: str, metric: str, categories: tuple[str, ...]
) -> Quote | None:
    """The published mean over just these categories.

    The printed mean where they are all of the dataset's; otherwise that of their printed cells.
    """
    names = (method, variant, dataset, setting, metric)
    printed = quote(*names, "mean")
    cells = {c: quote(*names, c) for c in known_categories(dataset)}
    if printed is None or not categories or not set(categories) <= set(cells):
        return None
    if set(categories) == set(cells):
        return printed
    chosen = [cell for c in categories if (cell := cells[c]) is not None]
    if len(chosen) < len(categories):
        return None
    value = sum(q.value for q in chosen) / len(chosen)
    note = f"mean of the {len(chosen)} printed categories that we have, too"
    return replace(printed, value=value, note=note)


@cache
def known_categories(dataset: str) -> tuple[str, ...]:
    """The categories that papers print for a dataset, in their order; none for others."""
    frame = published()
    names = frame.loc[frame["dataset"] == dataset, "category"].unique()
    return tuple(name for name in names if name != "mean")


def verdict(
    ours: float,
    quoted: Quote,
    spread: Spread | None,
    interval: tuple[float, float] | None = None,
) -> Verdict:
    """Compare our mean over seeds with a published value.

    spread over seeds; interval of ours over test images, for when there is one seed.
    """
    difference = ours - quoted.value
    if spread is not None:
        margin, basis = spread.reach() + ROUNDING, "seeds"
        low, high = difference - margin, difference + margin
    elif interval is not None:
        low, high = (end - quoted.value for end in interval)
        low, high, basis = low - ROUNDING, high + ROUNDING, "images"
        margin = (high - low) / 2
    else:
        return Verdict(quoted, difference, UNKNOWN, None, "")
    text = WITHIN if low <= 0 <= high else ABOVE if difference > 0 else BELOW
    return Verdict(quoted, difference, text, margin, basis, (low, high))
