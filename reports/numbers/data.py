"""Whose data a cell was scored on: published values stand beside the published data alone.

A category is the published one if it has its name and, of every defect type, as many test images;
as many to train and to validate with; and images of the published size and form (COUNTS, IMAGES).
What the folder or the dataset is called does not matter. Data that Relief made itself never are.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from harness.store import Record, Results
from harness.store.origin import data_of

COUNTS, IMAGES = (
    Path(__file__).parents[1] / "published" / f"{n}.csv" for n in ("counts", "images")
)
GOOD = "good"
PUBLISHED = ("mvtec3d", "eyecandies")  # as the papers' values name them
MADE = "made"  # in place of a published dataset's name: by Relief itself

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Facts:
    """Of a published category: split -> defect type -> images; rows and columns, endings."""

    counts: Mapping[str, Counts]
    size: tuple[int, int]  # px
    files: tuple[str, str]

    def fit(self, test: Counts, known: Mapping[str, Any]) -> bool:
        """Whether the data are these, by as much as is known of them.

        test: images by defect type; known: as of `origin.data_of`, or a part of it
        """
        samples, size, files = known.get("samples", {}), list(self.size), list(self.files)
        others = [split for split in ("train", "validation") if split in samples]
        return (
            test == self.counts["test"]
            and all(samples[split] == self.counts[split][GOOD] for split in others)
            and known.get("sizes", [size]) == [size]
            and known.get("files", files) == files
        )


@cache
def published_facts() -> dict[tuple[str, str], Facts]:
    """By dataset and category."""
    counts: dict[tuple[str, str], dict[str, dict[str, int]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in _rows(COUNTS):
        counts[row["dataset"], row["category"]][row["split"]][row["defect"]] = int(row["images"])
    found = {}
    for row in _rows(IMAGES):
        name = row["dataset"], row["category"]
        size = int(row["rows"]), int(row["columns"])
        found[name] = Facts(dict(counts[name]), size, (row["image"], row["scan"]))
    return found


def published_data(record: Record, scores: pd.DataFrame, prepared: Record | None = None) -> str:
    """The published dataset that a finished cell was scored on, or MADE; empty if it is neither.

    prepared: the view that it saw, for a cell of an earlier version, which says little itself
    """
    known = record.data or (data_of(prepared) if prepared else {})
    if known.get("made"):
        return MADE
    if "samples" not in known and "train_available" in record.counts:
        known |= {"samples": {"train": record.counts["train_available"]}}
    test = dict(Counter(scores["defect"].astype(str)))
    for (dataset, category), facts in published_facts().items():
        if category == record.spec.category and facts.fit(test, known):
            return dataset
    return ""


def prepared_of(store: Results, record: Record) -> Record | None:
    """The view of a cell that does not say itself what its data are; None without need of it."""
    key = record.spec.needs.view
    return store.result(key) if key and not record.data else None


def unsure_lines(records: Iterable[Record]) -> list[str]:
    """What to say of cells whose data pass for published ones by little that is known of them."""
    sizes = defaultdict(set)  # category -> training and test images
    for (_, category), facts in published_facts().items():
        sizes[category].add((facts.counts["train"][GOOD], sum(facts.counts["test"].values())))
    cells = [record for record in records if record.done and record.kind == "cell"]
    old = [
        one
        for one in cells
        if not one.data
        and (one.counts.get("train_available"), one.counts.get("test")) in sizes[one.spec.category]
    ]
    if not old:
        return []
    return [
        f"{len(old)} of {len(cells)} finished cells are of a version that did not record sizes and "
        "forms of images: whether their data are the published ones is told by the counts of "
        "images, and by what their views say where these are still there."
    ]


def is_claimed(dataset: str, category: str) -> bool:
    """Whether these are called as published data are."""
    return dataset in PUBLISHED or any(category == known for _, known in published_facts())


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        yield from csv.DictReader(lines)
