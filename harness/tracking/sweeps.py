"""A sweep in MLflow: a parent run, a child a trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.metrics.shown import heading, shown
from harness.store import FAILED as TRIAL_FAILED
from harness.store import Store
from harness.store.at_work import lock_of
from harness.store.specs import Spec
from harness.store.sweeps import DEFAULT, SweepFolder, drawn, goal
from harness.store.sweeps import RUNNING as TRIAL_RUNNING
from harness.tracking.client import Synced, launched, unchanged
from harness.tracking.content import (
    FAILED,
    FINISHED,
    FORM,
    KEY,
    KILLED,
    LAUNCH,
    NOTE,
    PARENT,
    RUNNING,
    SEEN,
    Content,
    Point,
    digest_of,
    milliseconds,
    plain_name,
    text_of,
)
from harness.tracking.database import WAIT_S
from harness.tracking.report import files_of

BEST = 10  # trials in the description


def sync_sweep(
    store: Store,
    sweep_id: str,
    uri: str | None = None,
    wait_s: float = WAIT_S,
    running: bool | None = None,
    check: Callable[[], None] = lambda: None,
) -> Synced:
    """Write what is new of a sweep: its files, and its trials with settings and scores.

    As `sync` of a launch. Raises FileNotFoundError where there is no such sweep.
    """
    folder = SweepFolder(store, sweep_id)
    if running is None:
        running = lock_of(store, sweep_id).held
    trials, record, torn = folder.peek()
    if record is None:
        raise FileNotFoundError(f"no sweep {sweep_id!r} in {store.path}")
    seen = {trial["id"]: digest_of([FORM, trial, running]) for trial in trials}
    status = _status(record, running)
    pages = [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.path.glob("*.*"))]
    seen[""] = digest_of([FORM, status, record.get("best"), pages])
    if (done := unchanged(store, record, uri, seen, alone=not torn)) is not None:
        return done
    with launched(store, record, uri, wait_s) as runs:
        stale = [trial for trial in trials if runs.seen(trial["id"]) != seen[trial["id"]]]
        parent = _parent(record, trials, folder.path, status, seen[""])
        if running:
            runs.write_parent(parent)
        check()
        usual = _usual(store, record, trials)
        contents = {}
        for trial in stale:
            tags = {PARENT: runs.parent.id, SEEN: seen[trial["id"]], LAUNCH: sweep_id}
            contents[trial["id"]] = _trial(trial, usual, running, tags)
        runs.write(contents)
        if not torn:
            runs.drop(runs.runs.keys() - seen.keys())  # of a search that was begun again
        if not running:
            runs.write_parent(parent)
        means = [f"mean/{name}" for name in record["sweep"]["objective"]["metrics"]]
        counts, table = _counts(record, trials), parent.tags[NOTE]
        runs.open_with(record, counts, table, means, list(record["sweep"]["space"]))
    return Synced(runs.experiment, len(stale), len(trials) - len(stale))


def _status(record: Mapping[str, Any], running: bool) -> str:
    if record.get("ended") is not None:
        return FINISHED
    return RUNNING if running else KILLED


def _trial(
    trial: Mapping[str, Any],
    usual: Mapping[str, Any],
    running: bool,
    tags: Mapping[str, str],
) -> Content:
    values = trial["values"] or usual
    ended = trial["ended"] or trial["started"]
    at = milliseconds(ended)
    points = [
        Point(plain_name(name), value, at, step)
        for step, cell in enumerate(trial["cells"], 1)
        for name, value in cell["scores"].items()
    ]
    points += [Point(plain_name(f"mean/{k}"), v, at, 0) for k, v in trial["means"].items()]
    status = {TRIAL_FAILED: FAILED, TRIAL_RUNNING: RUNNING if running else KILLED}.get(
        trial["status"], FINISHED
    )
    return Content(
        name=f"trial {trial['number']}",
        status=status,
        started=trial["started"],
        ended=None if status == RUNNING else ended,
        tags={KEY: trial["id"], "status": trial["status"], "reason": trial["reason"], **tags},
        params={name: text_of(value) for name, value in values.items()},
        points=[point for point in points if math.isfinite(point.value)],
    )


def _usual(store: Store, record: Mapping[str, Any], trials: list[dict[str, Any]]) -> dict[str, Any]:
    """What the swept settings are in the trial that changes none; as far as a cell of it tells."""
    trial = next((trial for trial in trials if trial["id"] == DEFAULT and trial["cells"]), None)
    result = store.result(trial["cells"][0]["key"]) if trial else None
    if result is None:
        return {}
    names = record["sweep"]["space"]
    found = {name: _setting(result.spec, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _setting(spec: Spec, name: str) -> Any:
    """By its name in a configuration, as das3d.p_z[1]; None where there is none."""
    value: Any = spec.settings
    for part in name.removeprefix(f"{spec.method}.").replace("[", ".").replace("]", "").split("."):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return value


def _parent(
    record: Mapping[str, Any],
    trials: list[dict[str, Any]],
    folder: Path,
    status: str,
    seen: str,
) -> Content:
    ended = max([record["started"], *(t["ended"] or t["started"] for t in trials)])
    best = next((trial for trial in trials if trial["id"] == record.get("best")), None)
    means = best["means"] if best else {}
    tags = {LAUNCH: record["id"], SEEN: seen, "kind": "sweep", NOTE: _note(record, trials)}
    return Content(
        name=record["id"],
        status=status,
        started=record["started"],
        ended=None if status == RUNNING else ended,
        tags=tags | ({"best": best["id"]} if best else {}),
        points=[
            Point(plain_name(f"best/{name}"), value, milliseconds(ended), 0)
            for name, value in means.items()
            if math.isfinite(value)
        ],
        files=files_of(folder, "sweep", deep=False),
    )


def _note(record: Mapping[str, Any], trials: list[dict[str, Any]]) -> str:
    """The best trials as a table in Markdown."""
    metrics, (metric, sign) = record["sweep"]["objective"]["metrics"], goal(record)
    told = [trial for trial in trials if metric in trial["means"]]
    told.sort(key=lambda t: t["means"][metric], reverse=sign > 0)
    lines = [
        "| trial | settings | " + " | ".join(map(heading, metrics)) + " | cells |",
        "|---|---|" + "---|" * (len(metrics) + 1),
    ]
    for trial in told[:BEST]:
        means = " | ".join(shown(name, trial["means"].get(name)) for name in metrics)
        settings = trial["settings"].replace("|", "\\|")
        lines.append(
            f"| {trial['number']} | {settings} | {means} | {len(trial['cells'])} of {trial['of']} |"
        )
    return "\n".join([*lines, "", f"{_counts(record, trials)}."])


def _counts(record: Mapping[str, Any], trials: list[dict[str, Any]]) -> str:
    found = drawn(trials)
    ended = sum(trial["status"] != TRIAL_RUNNING for trial in found)
    on, points = record["sweep"]["objective"]["on"], record.get("points", len(found))
    return f"{ended} of {points} trials ended, means over cells of {on} data"
