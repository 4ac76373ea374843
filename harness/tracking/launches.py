"""A launch in MLflow: experiment = benchmark, parent run = launch, child run = cell.

Everything is read from the store's files, so it can run during a launch, after it, and again
against another server. What changed is found by listings alone: each run remembers from which
files it was written.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.metrics import headlines
from harness.store import Store
from harness.store.at_work import lock_of
from harness.store.index import Stamp
from harness.store.timed import FOLDER
from harness.tracking import report as reports
from harness.tracking.cells import cell_content, entry_of
from harness.tracking.client import Synced, launched, unchanged
from harness.tracking.content import (
    FAILED,
    FINISHED,
    FORM,
    KILLED,
    LAUNCH,
    NOTE,
    PARENT,
    RUNNING,
    SEEN,
    Content,
    digest_of,
    milliseconds,
    text_of,
)
from harness.tracking.database import WAIT_S
from harness.tracking.write import parts

AT_ONCE = 200  # cells that are read, then written in one transaction


@dataclass(frozen=True)
class State:
    """What the listing of the store says of a cell that ended."""

    done: bool
    changed: int  # ns since 1970, of its record
    size: int  # of its record
    timed: tuple[int, ...] = ()  # likewise of its speed that was measured after it, if it was


def sync(
    store: Store,
    launch: dict[str, Any],
    uri: str | None = None,
    report: Path | None = None,
    wait_s: float = WAIT_S,
    running: bool | None = None,
    check: Callable[[], None] = lambda: None,
) -> Synced:
    """Write what is new of a launch; `report` is the folder with its leaderboard, if made.

    wait_s: the longest wait for another process that writes; running: whether it is at work
    (None: its lock tells); check: called between batches, may raise to stop.
    Raises as `opened` when the tracking store cannot be reached.
    """
    if running is None:
        running = lock_of(store, launch["id"]).held
    states = states_of(store, [cell["key"] for cell in launch["cells"]])
    seen = {
        cell["key"]: _seen(launch, cell, states[cell["key"]])
        for cell in launch["cells"]
        if cell["key"] in states
    }
    status = _status(launch, states, running)
    seen[""] = digest_of([FORM, status, _counts(launch, states), reports.state_of(report)])
    if (done := unchanged(store, launch, uri, seen)) is not None:
        return done
    with launched(store, launch, uri, wait_s) as runs:
        stale = [
            cell
            for cell in launch["cells"]
            if cell["key"] in seen and runs.seen(cell["key"]) != seen[cell["key"]]
        ]
        parent = _parent(launch, states, status, seen[""], report)
        if running:  # shown as such before the rest, which may take a while
            runs.write_parent(parent)
        for some in parts(stale, AT_ONCE):
            check()
            contents = {}
            for cell in some:
                key = cell["key"]
                if (record := store.result(key)) is None:  # set aside just now
                    continue
                tags = {PARENT: runs.parent.id, SEEN: seen[key]}
                changed = states[key].changed / 1e9
                contents[key] = cell_content(store, launch, cell, record, changed, tags)
            runs.write(contents)
        if not running:
            runs.write_parent(parent)
        counts = _counts(launch, states)
        runs.open_with(launch, counts, parent.tags.get(NOTE, ""), headlines(), _varied(launch))
    return Synced(runs.experiment, len(stale), len(seen) - 1 - len(stale))


def _varied(launch: dict[str, Any]) -> list[str]:
    """Names of the settings in which the entries of a method differ from each other."""
    values: dict[str, set[str]] = defaultdict(set)
    for altered in launch.get("parameters", {}).values():
        for name, value in altered.items():
            values[name].add(text_of(value))
    return [name for name, found in values.items() if len(found) > 1]


def states_of(store: Store, keys: list[str]) -> dict[str, State]:
    """By key, of the jobs that ended one way or the other."""
    found = {}
    for key in keys:
        for done, path in ((True, store.folder(key) / "result.json"), (False, store.failure(key))):
            if (record := Stamp.of(path)) is None:
                continue
            later = Stamp.of(store.path / FOLDER / f"{key}.json") if done else None
            timed = (later.modified, later.size) if later else ()
            found[key] = State(done, record.modified, record.size, timed)
            break
    return found


def _seen(launch: dict[str, Any], cell: dict[str, Any], state: State) -> str:
    about = [
        launch.get("marks"),
        launch.get("demo"),
        launch.get("parameters", {}).get(entry_of(cell)),
    ]
    return digest_of([FORM, cell, about, state.changed, state.size, *state.timed])


def _status(launch: dict[str, Any], states: dict[str, State], running: bool) -> str:
    if sum(state.done for state in states.values()) == len(launch["cells"]):
        return FINISHED
    if running:
        return RUNNING
    return KILLED if len(states) < len(launch["cells"]) else FAILED


def _counts(launch: dict[str, Any], states: dict[str, State]) -> str:
    done = sum(state.done for state in states.values())
    pending = len(launch["cells"]) - len(states)
    return f"{done} done, {len(states) - done} failed, {pending} pending"


def _parent(
    launch: dict[str, Any], states: dict[str, State], status: str, seen: str, report: Path | None
) -> Content:
    # a launch can be younger than all its results, if others computed them
    ended = max([launch["started"], *(state.changed / 1e9 for state in states.values())])
    counts = _counts(launch, states)
    tags = {LAUNCH: launch["id"], SEEN: seen, "cells": counts}
    files: dict[str, Path | str] = {"config.json": json.dumps(launch["config"])}
    points = []
    if report is not None:
        points, table = reports.means_of(report, milliseconds(ended))
        files |= reports.files_of(report, "leaderboard")
        tags[NOTE] = reports.summary_of(report)
        if table:
            files[reports.TABLE] = table
            tags["mlflow.loggedArtifacts"] = json.dumps([{"path": reports.TABLE, "type": "table"}])
    return Content(
        name=launch["id"],
        status=status,
        started=launch["started"],
        ended=None if status == RUNNING else ended,
        tags=tags,
        points=points,
        files=files,
    )
