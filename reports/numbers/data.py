"""Whose data a cell was scored on: published values stand beside the published data alone.

A category is the published one if it has its name and, of every defect type, as many test images
(reports/published/counts.csv); of training images as many as there are, where that is known. What
the folder or the dataset is called does not matter.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from harness.store import Record

FILE = Path(__file__).parents[1] / "published" / "counts.csv"
GOOD = "good"
PUBLISHED = ("mvtec3d", "eyecandies")  # as the papers' values name them

Counts = Mapping[str, int]


@cache
def published_counts() -> dict[tuple[str, str], dict[str, Counts]]:
    """(dataset, category) -> split -> defect type -> images"""
    found: dict[tuple[str, str], dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    with FILE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row["dataset"], row["category"]
            found[name][row["split"]][row["defect"]] = int(row["images"])
    return {name: dict(splits) for name, splits in found.items()}


def published_data(record: Record, scores: pd.DataFrame) -> str:
    """The published dataset that a finished cell was scored on; empty if it is none."""
    category, train = record.spec.category, record.counts.get("train_available")
    test = dict(Counter(scores["defect"].astype(str)))
    for (dataset, name), splits in published_counts().items():
        trained = train is None or train == splits["train"][GOOD]
        if name == category and splits["test"] == test and trained:
            return dataset
    return ""


def is_claimed(dataset: str, category: str) -> bool:
    """Whether these are called as published data are."""
    return dataset in PUBLISHED or any(category == known for _, known in published_counts())
