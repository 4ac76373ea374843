"""relief status: how far launches are, from files alone; live it is harness/cli/watch.py."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape

from harness.cli.launch import (
    DEFAULT_STORE,
    Background,
    Data,
    StorePath,
    lone_name,
)
from harness.cli.runs import planned_of
from harness.cli.terminal import show, table
from harness.store import DONE, FAILED, Store, sole, title_of
from harness.store.at_work import lock_of
from harness.store.processes import Process
from harness.store.timed import FOLDER, timing_of
from methods.errors import UserError

RUNNING, INTERRUPTED, PENDING = "running", "interrupted", "pending"
NAMED = 20  # launches, in an error
SILENT_S = 60.0  # a sign of life that is older, of another machine, says nothing

What = Annotated[
    Optional[list[str]],
    typer.Argument(
        metavar="[LAUNCH | CONFIG [KEY=VALUE]...]",
        help="A launch or a sweep by its name in the table, or the beginning of it; or a "
        "configuration as `run` takes it. Without: all of them.",
    ),
]


def status(
    what: What = None,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
    watched: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="The live picture of a launch or sweep (default: the one at work, or the latest).",
        ),
    ] = False,
    every: Annotated[
        Optional[float],
        typer.Option(min=0.1, help="With --watch: seconds between two looks (2; piped 30)."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --watch one line a look.")
    ] = False,
) -> None:
    """Print how far each launch in the store is, or one of them job by job.

    Ctrl-C ends --watch and nothing else.
    """
    where = Store(store)
    from harness.cli import searched

    bare = not what and data is None
    sweep_id = searched.latest(where) if bare and watched else searched.asked(where, what)
    if sweep_id is not None:
        if watched:
            searched.watch(where, sweep_id, every, as_json)
        else:
            searched.tell(where, sweep_id, as_json)
    elif watched:
        from harness.cli.watch import watch

        watch(where, launch_of(where, what, data, background), every, as_json)
    elif bare:
        _overview(where, as_json)
    elif (launch_id := _named(where, what)) is not None:
        launch = where.launch(launch_id)
        _jobs(where, launch_id, {c["key"]: title_of(c) for c in launch["cells"]}, as_json)
    else:
        where, plan = planned_of(what, store, data, background)
        _jobs(where, plan.launch_id, {k: job.title for k, job in plan.jobs.items()}, as_json)


def launch_of(
    store: Store, what: list[str] | None, data: str | None, background: str | None
) -> dict[str, Any]:
    """The launch that is meant, by its name or as a configuration; without either the latest of
    those at work, or of all.
    """
    if not what and data is None:
        known = store.known_launches()
        return next((one for one in reversed(known) if lock_of(store, one["id"]).held), known[-1])
    if (launch_id := _named(store, what)) is None:
        launch_id = planned_of(what, store.path, data, background)[1].launch_id
    return store.launch(launch_id)


def _named(store: Store, what: list[str] | None) -> str | None:
    """The launch that begins so; None if a configuration is meant."""
    if (name := lone_name(what)) is None:
        return None
    known = sorted(launch.removesuffix(".json") for launch in store.names("launches"))
    if name in known:
        return name
    from harness.planning import config

    found = [launch for launch in known if launch.startswith(name)]
    if not found and name not in config.shipped():
        no, there = f"{name!r} is no configuration", ", ".join(known[:NAMED])
        if not known:
            raise UserError(f"{no}, and {store.path} has no launch: start one with `relief run`")
        more = ", ..." if len(known) > NAMED else ""
        raise UserError(f"{no}, and no launch in {store.path} begins so; there are {there}{more}")
    return None if not found or name in config.shipped() else sole(name, found)


class States:
    """What jobs are in, by a few listings; only records of failures are read."""

    def __init__(self, store: Store):
        self.store = store
        self.beating = {
            name.partition("-")[0] for name in store.names("alive") if _lives(store, name)
        }
        self.locks, self.failed = store.names("locks"), store.names("failures")
        self.begun, self.timed = store.names("work"), store.names(FOLDER)

    def of(self, key: str) -> str:
        if self.store.done(key):
            return DONE
        if key in self.beating or (f"{key}.lock" in self.locks and self.store.locked(key)):
            return RUNNING
        if f"{key}.json" in self.failed and (failure := self.store.result(key)):
            return failure.status
        return INTERRUPTED if key in self.begun and self.store.progress(key) else PENDING

    def note(self, key: str, state: str) -> str:
        """How far a running job is, why one failed, what a finished cell was timed at later."""
        from harness.cli.times import describe_progress

        if state == RUNNING:
            progress = self.store.progress(key)
            return describe_progress(progress) if progress else ""
        if state == DONE and f"{key}.json" in self.timed:
            return self._timed(key)
        if state in (DONE, PENDING, INTERRUPTED):
            return ""
        result = self.store.result(key)
        return result.reason if result else ""

    def _timed(self, key: str) -> str:
        from harness.cli.times import when

        record = self.store.result(key)
        if record is None or (found := timing_of(record)) is None:
            return ""
        shared = "" if found.valid else ", shared"
        return f"{1000 * found.speed['latency_p50_s']:.3g} ms an image, {when(found.when)}{shared}"


def _lives(store: Store, name: str) -> bool:
    """Whether the process that left this sign of life is still there, as far as can be told."""
    path = store.alive / name
    try:
        process = Process.of(json.loads(path.read_bytes()))
        return not process.gone if process.here else time.time() - path.stat().st_mtime < SILENT_S
    except (OSError, ValueError, KeyError, TypeError):  # gone meanwhile, or torn
        return False


def _overview(store: Store, as_json: bool) -> None:
    from harness.cli import searched
    from harness.cli.times import when

    numbers, rows = ("cells", DONE, FAILED, RUNNING, PENDING), []
    states, sweeps = States(store), searched.overview(store)
    for launch in store.launches() if as_json or sweeps else store.known_launches():
        found = Counter(states.of(cell["key"]) for cell in launch["cells"])
        waits = found[PENDING] + found[INTERRUPTED]
        failed = found.total() - waits - found[DONE] - found[RUNNING]
        counts = (len(launch["cells"]), found[DONE], failed, found[RUNNING], waits)
        about = {"launch": launch["id"], "started": launch["started"]}
        rows.append(about | dict(zip(numbers, counts)))
    store.index.flush()
    if as_json:
        _print({"store": str(store.path), "launches": rows, "sweeps": sweeps})
        return
    shown = table("launch", "started", *numbers, numbers=numbers)
    for row in rows:
        counts = (str(row[name]) for name in numbers)
        shown.add_row(escape(row["launch"]), when(row["started"]), *counts)
    if rows:
        show(shown)
    if sweeps:
        show(searched.listed(sweeps))
    for one in sweeps:
        if one["state"] == RUNNING:
            show(searched.picture(store, one["sweep"]))


def _jobs(store: Store, launch_id: str, titles: dict[str, str], as_json: bool) -> None:
    states, rows = States(store), []
    for key, title in titles.items():
        state = states.of(key)
        progress = store.progress(key) if state in (RUNNING, INTERRUPTED) else None
        about = {"key": key, "title": title, "state": state, "note": states.note(key, state)}
        rows.append(about | {"progress": progress})
    store.index.flush()
    if as_json:
        _print({"store": str(store.path), "launch": launch_id, "jobs": rows})
        return
    shown = table("job", "state", "", title=launch_id)
    for row in rows:
        shown.add_row(escape(row["title"]), row["state"], escape(row["note"]))
    show(shown)


def _print(found: dict[str, Any]) -> None:
    print(json.dumps(found, indent=1, ensure_ascii=False))
