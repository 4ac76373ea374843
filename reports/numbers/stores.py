"""Several stores read as one.

A key is the same work wherever it lies, so the union of stores is the union of their jobs; a job
that one store lacks and another has is done. Cells of the same names whose keys differ (other
settings, other data) get the name of their store, or launch, as part of the variant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.store import DAMAGED, DamagedError, Record, Results, Store
from reports.numbers.frame import IDENTITY, marked


class Stores:
    """What reports ask of a store, asked of several."""

    def __init__(self, stores: Sequence[Store]):
        self.stores = list(stores)

    def folder(self, key: str) -> Path:
        return next((s for s in self.stores if s.done(key)), self.stores[0]).folder(key)

    def result(self, key: str) -> Record | None:
        """That of the store where the job is done, else the first failure."""
        found = [result for s in self.stores if (result := s.result(key)) is not None]
        return next((r for r in found if r.done), found[0] if found else None)


class Checked:
    """A store, or several, as one report reads it: what turns out damaged is so throughout.

    A cell whose scores or curves are not what its job wrote has the status "damaged" wherever the
    report shows it. `note` remembers what is found later, and `damaged` is what there was.
    """

    def __init__(self, store: Results):
        self.store = store
        self.damaged: dict[str, Record] = {}
        self.evidence: dict[tuple[str, tuple[str, ...]], Any] = {}  # of evidence.py, once read
        self._sound: set[str] = set()
        self._read: set[tuple[str, str]] = set()

    def result(self, key: str) -> Record | None:
        if key in self.damaged:
            return self.damaged[key]
        record = self.store.result(key)
        if record is None or key in self._sound:
            return record
        if record.status == DAMAGED:
            self.damaged[key] = record
        elif record.done and record.kind == "cell":
            try:
                record.scores()
                record.curves()
            except DamagedError as error:
                return self.note(error)
        self._sound.add(key)
        return record

    def check(self, record: Record, *names: str) -> None:
        """`Record.check_contents`, which reads each file once for this report."""
        fresh = [name for name in names if (record.key, name) not in self._read]
        record.check_contents(*fresh)
        self._read |= {(record.key, name) for name in fresh}

    def note(self, error: DamagedError) -> Record:
        """Take a job for damaged from now on; -> what stands for it."""
        there = self.store.result(error.key)
        folder = there.folder if there else Path()
        self.damaged[error.key] = Record.damaged(error, folder)
        self.evidence.clear()
        return self.damaged[error.key]


def checked(store: Results) -> Checked:
    """The store as it is if it is checked already."""
    return store if isinstance(store, Checked) else Checked(store)


def gather(parts: Sequence[tuple[Store, dict]]) -> tuple[Results, dict]:
    """(store, launch) pairs as one store and one launch; a single pair as it is."""
    if len(parts) == 1:
        return parts[0]
    keys = defaultdict(set)
    for _, launch in parts:
        for cell in launch["cells"]:
            keys[_names(cell)].add(cell["key"])
    cells, seen = [], set()
    for store, launch in parts:
        same_store = sum(s.path == store.path for s, _ in parts) > 1
        label = launch["id"] if same_store else _label(store, parts)
        for cell in (marked(launch, cell) for cell in launch["cells"]):
            if len(keys[_names(cell)]) > 1:
                cell = cell | {"variant": ", ".join(filter(None, (cell["variant"], label)))}
            if (names := _names(cell)) not in seen:
                seen.add(names)
                cells.append(cell)
    launches = [launch for _, launch in parts]
    stores = {store.path: store for store, _ in parts}
    names = dict.fromkeys(launch["name"] for launch in launches)
    return Stores(list(stores.values())), {
        "id": "+".join(launch["id"] for launch in launches),
        "parts": [f"{one['id']} --store {store.path}" for store, one in parts],
        "name": " + ".join(names),
        "demo": all(launch.get("demo") for launch in launches),
        "started": max(launch["started"] for launch in launches),
        "cells": cells,
        "config": {},
    }


def _names(cell: dict) -> tuple:
    return tuple(cell[name] for name in IDENTITY)


def _label(store: Store, parts: Sequence[tuple[Store, dict]]) -> str:
    """The shortest end of the store's path that no other store shares."""
    others = [s.path for s, _ in parts if s.path != store.path]
    for depth in range(1, len(store.path.parts)):
        end = store.path.parts[-depth:]
        if all(other.parts[-depth:] != end for other in others):
            return "/".join(end)
    return str(store.path)
