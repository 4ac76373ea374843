"""What there is to see of a sweep, from its files: while it runs, by `status SWEEP`, afterwards.

Trials say themselves how far they are, their jobs what they are doing. So it works from any machine
that sees the store.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from harness.cli.launch import lone_name
from harness.cli.terminal import console, show, table
from harness.cli.times import describe_progress, duration, when
from harness.store import DONE, FAILED, Store, sole
from harness.store.at_work import lock_of
from harness.store.sweeps import (
    DEFAULT,
    RUNNING,
    STOPPED,
    SweepFolder,
    drawn,
    goal,
    sweep_ids,
)

ROWS = 12  # trials in the table of a sweep that has ended
EVERY_S = 1.0  # between two looks of the display of a running sweep
WORDS = {DONE: "done", STOPPED: "stopped early", FAILED: "failed", RUNNING: "running"}


def asked(store: Store, what: Sequence[str] | None) -> str | None:
    """The sweep of that id, or of which that is the beginning; None if something else is meant."""
    if (name := lone_name(what)) is None or name in (known := sweep_ids(store)):
        return name
    found = [one for one in known if one.startswith(name)]
    if not found or f"{name}.json" in store.names("launches"):
        return None
    from harness.planning import config

    if name in config.shipped():
        return None
    return sole(name, found)


def latest(store: Store) -> str | None:
    """The sweep that a watch without a name shows; None for a launch.

    What is at work goes before what is not, then what began later.
    """

    def place(name: str, started: float) -> tuple[bool, float]:
        return lock_of(store, name).held, started

    sweeps = [(place(one["sweep"], one["started"]), one["sweep"]) for one in overview(store)]
    if not sweeps:  # launches are many, and each has a lock to try
        return None
    when_last, last = max(sweeps)
    launches = (place(launch["id"], launch["started"]) for launch in store.launches())
    return last if when_last > max(launches, default=(False, 0.0)) else None


def picture(store: Store, sweep_id: str) -> RenderableType:
    """How far a sweep is: its trials by state, the best so far, and what those that run do."""
    trials, record, _ = SweepFolder(store, sweep_id).peek()
    if record is None or "sweep" not in record:
        return f"{escape(sweep_id)} is about to begin"
    left_s = _left_s(record, trials) if is_running(store, sweep_id) else None
    lines: list[RenderableType] = [_head(store, record, trials), _bar(record, trials, left_s)]
    if best := _best(record, trials):
        lines.append(best)
    active = [trial for trial in trials if trial["status"] == RUNNING]
    if active and is_running(store, sweep_id):
        lines.append(_table(store, record, active))
    failed = [trial for trial in trials if trial["status"] == FAILED]
    lines += [f"[red]failed[/red] {_title(t)}: {escape(t['reason'])}" for t in failed[-3:]]
    return Group(*lines)


def overview(store: Store) -> list[dict[str, Any]]:
    """What there is to say of each sweep of the store, as plain values."""
    found = (plain(store, sweep_id) for sweep_id in sweep_ids(store))
    return [one for one in found if one]


def plain(store: Store, sweep_id: str, each: bool = False) -> dict[str, Any]:
    """A sweep in numbers, with each trial if asked for; empty where nothing is known of it."""
    trials, record, _ = SweepFolder(store, sweep_id).peek()
    if record is None or "sweep" not in record:
        return {}
    found = Counter(trial["status"] for trial in drawn(trials))
    best, names = leading(record, trials), ("number", "status", "values", "means", "trained")
    return {
        "sweep": sweep_id,
        "started": record["started"],
        "state": _state(store, record),
        "points": record.get("points", len(drawn(trials))),
        **{state: found[state] for state in WORDS},
        "metric": goal(record)[0],
        "best": best and best["means"][goal(record)[0]],
        "best_trial": best and best["number"],
        "left_s": _left_s(record, trials) if is_running(store, sweep_id) else None,
    } | ({"trials": [{n: t.get(n) for n in names} for t in trials]} if each else {})


def listed(sweeps: Sequence[Mapping[str, Any]]) -> Table:
    """Of `overview`, for the terminal."""
    from harness.metrics.shown import told

    shown = table("sweep", "started", "trials ended", "best so far", "state")
    shown.columns[0].no_wrap = True
    for one in sweeps:
        best = "" if one["best"] is None else told(one["metric"], one["best"])
        ended = f"{sum(one[state] for state in WORDS if state != RUNNING)} of {one['points']}"
        failed = f", {one[FAILED]} failed" if one[FAILED] else ""
        about = when(one["started"]), ended + failed, best, one["state"]
        shown.add_row(escape(one["sweep"]), *about)
    return shown


def tell(store: Store, sweep_id: str, as_json: bool, lines: bool = False) -> None:
    """How far it is; lines: JSON as one line"""
    if as_json:
        found = plain(store, sweep_id, each=True)
        print(json.dumps(found, ensure_ascii=False, indent=None if lines else 1), flush=True)
    else:
        show(picture(store, sweep_id))


def watch(store: Store, sweep_id: str, every: float | None, as_json: bool) -> None:
    """Until it ends, and at its end. every: s between two looks"""
    from harness.cli.watch import PIPED_S, TERMINAL_S, ended_alone

    screen = console.is_terminal and not as_json
    every = every or (TERMINAL_S if screen else PIPED_S)
    with ended_alone(sweep_id):
        with live(store, sweep_id) if screen else nullcontext():
            while is_running(store, sweep_id):
                if not screen:
                    tell(store, sweep_id, as_json, lines=True)
                time.sleep(every)
        tell(store, sweep_id, as_json, lines=True)


def outcome(record: dict[str, Any], trials: list[dict[str, Any]]) -> Table:
    """The best trials and the unchanged settings, when it has ended."""
    from harness.metrics.shown import heading
    from reports.page.sweeps import rows

    (metric, sign), metrics = goal(record), record["sweep"]["objective"]["metrics"]
    numbers = ("trial", *map(heading, metrics), "over unchanged")
    columns = ("trial", "settings", *numbers[1:], "cells", "state")
    shown = table(*columns, numbers=numbers, title=record["id"])
    best = sorted(
        rows(record, trials),
        key=lambda t: (t["status"] != DONE, -sign * t["means"].get(metric, 0), t["number"]),
    )
    for t in [t for i, t in enumerate(best) if i < ROWS or t["id"] == DEFAULT]:
        shown.add_row(
            str(t["number"]),
            escape(t["settings"]),
            *(t["shown"][m] for m in metrics),
            t["gained"],
            f"{t['trained']:.3g}/{t['of']}",
            WORDS[t["status"]],
            style="bold" if t["id"] in record["front"] else None,
        )
    return shown


@contextmanager
def live(store: Store, sweep_id: str) -> Generator[None]:
    """The picture below the lines of `relief sweep` while it runs, on a terminal."""
    if not console.is_terminal:
        yield
        return
    last: list[RenderableType] = [""]

    def look() -> RenderableType:
        with suppress(OSError, ValueError):  # a file that is just being replaced
            last[0] = picture(store, sweep_id)
        return last[0]

    shown = dict(refresh_per_second=1 / EVERY_S, transient=True, get_renderable=look)
    with Live(console=console, **shown):
        console.show_cursor(True)  # whoever ends the process at once leaves it so
        yield


def is_running(store: Store, sweep_id: str) -> bool:
    return lock_of(store, sweep_id).held


def leading(record: Mapping[str, Any], trials: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The best of the trials that came to their end, by the first metric; of equals the first."""
    (metric, sign), done = goal(record), [t for t in trials if t["status"] == DONE]
    return max(done, key=lambda t: (sign * t["means"][metric], -t["number"]), default=None)


def _title(trial: Mapping[str, Any]) -> str:
    return f"trial {trial['number']} ({escape(trial['settings'])})"


def _state(store: Store, record: Mapping[str, Any]) -> str:
    if is_running(store, record["id"]):
        return "running"
    if record.get("ended") is not None:
        return "ended"
    return "interrupted"


def _head(store: Store, record: Mapping[str, Any], trials: Sequence[dict[str, Any]]) -> str:
    found = Counter(trial["status"] for trial in drawn(trials))
    counts = ", ".join(f"{n} {WORDS.get(state, state)}" for state, n in sorted(found.items()))
    state = _state(store, record)
    if state == "interrupted":
        state = "[yellow]interrupted[/yellow]: the same `relief sweep` goes on"
    elif state == "ended":
        state = f"ended {when(record['ended'])}"
    since = f"since {when(record['started'])}"
    return f"[bold]{escape(record['id'])}[/bold] {since}, {state}; trials: {counts or 'none yet'}"


def _bar(
    record: Mapping[str, Any], trials: Sequence[dict[str, Any]], left_s: float | None
) -> RenderableType:
    ended = sum(trial["status"] != RUNNING for trial in drawn(trials))
    total = record.get("points", len(drawn(trials)))
    told = f"{ended} of {total}" + (f", about {duration(left_s)} left" if left_s else "")
    row = Table.grid(padding=(0, 1))
    row.add_row("trials ended", ProgressBar(total or 1, ended, width=24), told)
    return row


def _left_s(record: Mapping[str, Any], trials: Sequence[dict[str, Any]]) -> float | None:
    """Seconds until all trials should have ended, from what those took that have.

    None as long as none has, or none runs.
    """
    over = [t for t in drawn(trials) if t["status"] in (DONE, STOPPED) and t["ended"]]
    took = [t["ended"] - t["started"] for t in over]
    active = [t for t in drawn(trials) if t["status"] == RUNNING]
    if not took or not active:
        return None
    usual, now = statistics.median(took), time.time()
    waiting = max(0, record.get("points", len(drawn(trials))) - len(drawn(trials)))
    under_way = [max(0.0, usual - (now - t["started"])) for t in active]
    return max((waiting * usual + sum(under_way)) / len(active), *under_way)


def _best(record: Mapping[str, Any], trials: Sequence[dict[str, Any]]) -> str:
    from harness.metrics.shown import quantity, told

    if (best := leading(record, trials)) is None:
        return ""
    metric = goal(record)[0]
    line = f"best so far: {_title(best)}, {told(metric, best['means'][metric])}"
    usual = next((t for t in trials if t["id"] == DEFAULT and t["status"] == DONE), None)
    if usual is None or best is usual:
        return line
    return f"{line}; the unchanged settings have {quantity(metric, usual['means'][metric])}"


def _table(store: Store, record: Mapping[str, Any], trials: Sequence[dict[str, Any]]) -> Table:
    from harness.metrics.shown import heading
    from harness.metrics.shown import shown as value_text

    metric = goal(record)[0]
    numbers = ("trial", heading(metric))
    shown = table("trial", "settings", heading(metric), "cells", "at work", numbers=numbers)
    for trial in trials:
        shown.add_row(
            str(trial["number"]),
            escape(trial["settings"]),
            value_text(metric, trial["means"][metric]) if metric in trial["means"] else "",
            f"{trial.get('trained', 0.0):.3g} of {trial['of'] or '?'}",
            escape("; ".join(_work(store, trial))),
        )
    return shown


def _work(store: Store, trial: Mapping[str, Any]) -> Iterator[str]:
    """What its jobs that are under way do."""
    for key, *_ in trial["jobs"]:
        progress = None if store.done(key) else store.progress(key)
        if progress:
            share = f" {progress['step']}/{progress['total']}" if progress["total"] > 1 else ""
            yield describe_progress(progress).replace(
                progress["phase"], progress["phase"] + share, 1
            )
