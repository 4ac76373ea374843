"""How a published value compares with ours: the same quantity, with inferred parts, or another.

reports/published/comparison.csv has the reasons, one a line. A line holds for the values that its
cells name ("a|b": any of them, "|": none; empty: all); of several the gravest counts, and all are
told.
`without`: only for results that were computed without the authors' file of that setting.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "published" / "comparison.csv"
SAME, INFERRED, OTHER = "same", "inferred", "other"
GRAVITY = (SAME, INFERRED, OTHER)
SEPARATOR = "; "  # of reasons in tables
MEANING = {
    SAME: "the quantity and the protocol are the published ones",
    INFERRED: "a part of the protocol is not published and ours is inferred, or is not as in the "
    "published code, as said",
    OTHER: "another quantity: not compared",
}
NAMED = {  # column of the file -> of the published cells
    "source": "paper",
    **{name: name for name in ("table", "dataset", "setting", "method_key", "variant", "metric")},
}


@dataclass(frozen=True)
class Comparison:
    compares: str  # SAME, INFERRED or OTHER
    reasons: tuple[str, ...] = ()
    given: tuple[str, ...] = ()  # settings that take the authors' file, without which less holds


@cache
def _rules() -> tuple[dict[str, str], ...]:
    with FILE.open(newline="", encoding="utf-8") as file:
        rules = tuple(csv.DictReader(file))
    for rule in rules:
        if rule["compares"] not in GRAVITY or not rule["reason"] or SEPARATOR in rule["reason"]:
            raise ValueError(
                f"{FILE.name}: {rule} needs one of {', '.join(GRAVITY)} and a reason without "
                f"{SEPARATOR!r}"
            )
    return rules


def comparison(cell: Any, inputs: Collection[str] | None = None) -> Comparison:
    """Of one of `published_cells`.

    inputs: the settings that gave files to our result; None: all of the authors' files
    """
    holding = [rule for rule in _rules() if _holds(rule, cell)]
    files = [rule["without"] for rule in holding if rule["without"]]
    told = [
        rule
        for rule in holding
        if not rule["without"] or (inputs is not None and rule["without"] not in inputs)
    ]
    worst = max((rule["compares"] for rule in told), key=GRAVITY.index, default=SAME)
    if worst == OTHER:  # what else differs does not matter then
        told = [rule for rule in told if rule["compares"] == OTHER]
    return Comparison(worst, tuple(rule["reason"] for rule in told), tuple(files))


def _holds(rule: dict[str, str], cell: Any) -> bool:
    return all(
        not rule[name] or getattr(cell, column) in rule[name].split("|")
        for name, column in NAMED.items()
    )
