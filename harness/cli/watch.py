"""relief status --watch: the live picture of a launch, from files alone.

Read are the file of its driver (harness/engine/live.py), the signs of life of its jobs and what
these say of their progress. So it works from any machine that sees the store, and costs the launch
nothing. Ages are by this machine's clock, from the moment of the first look.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live as Screen
from rich.markup import escape
from rich.table import Table

from harness.cli.terminal import console, errors, show, table
from harness.cli.times import clock, describe_progress, duration, when
from harness.engine.heartbeat import BEAT_S, COMPUTING
from harness.engine.interrupts import interruptible
from harness.engine.live import file_of
from harness.store import DONE, Store
from harness.store.at_work import lock_of
from harness.store.processes import Holder, Process

TERMINAL_S, PIPED_S = 2.0, 30.0  # between two looks
SILENT_S = 10 * BEAT_S  # a driver that tells nothing for so long is told of
SHOWN = 5  # failures
STARTING, RUNNING, GONE = "starting", "running", "gone"


@dataclass
class Picture:
    """What there is to see of a launch at one moment."""

    driver: dict[str, Any]  # what its driver says; empty if none is at work
    beats: dict[str, dict[str, Any]] = field(default_factory=dict)  # key -> its worker's last
    silent_s: float = 0.0  # since the driver last said something new
    held: bool = False  # the launch's lock is, and its driver says nothing yet
    holder: Holder | None = None  # by whom, if that is known

    @property
    def state(self) -> str:
        """STARTING: Ray is about to come up; GONE: it ended, or its driver died"""
        if self.held:
            return STARTING
        return GONE if not self.driver or Process.of(self.driver).gone else RUNNING


class Looker:
    """Looks at a launch again and again."""

    def __init__(self, store: Store, launch_id: str):
        self.store, self.path = store, file_of(store, launch_id)
        self.lock = lock_of(store, launch_id)
        self.told, self.heard = None, time.monotonic()

    def look(self) -> Picture:
        driver = _read(self.path)
        if not driver or Process.of(driver).gone:
            held = self.lock.held
            return Picture(driver, held=held, holder=self.lock.holder if held else None)
        if driver.get("told") != self.told:
            self.told, self.heard = driver.get("told"), time.monotonic()
        beats = {}
        for name in self.store.names("alive"):
            key = name.partition("-")[0]
            if key in driver.get("running", {}):
                beat = _read(self.store.alive / name)
                if beat and beats.get(key, {}).get("state") != COMPUTING:  # others wait for it
                    beats[key] = beat
        return Picture(driver, beats, time.monotonic() - self.heard)


def watch(store: Store, launch: dict[str, Any], every: float | None, as_json: bool = False) -> None:
    """Show a launch until it ends; with one picture of one that does not run."""
    with ended_alone(launch["id"]):
        _watch(store, launch, every, as_json)


@contextmanager
def ended_alone(name: str) -> Generator[None]:
    """Around a watch: Ctrl-C ends it, and not what is watched."""
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        errors.print(
            f"no longer watched; {escape(name)} goes on: `relief status {escape(name)} --watch` "
            "shows it again",
            soft_wrap=True,
        )


def _watch(store: Store, launch: dict[str, Any], every: float | None, as_json: bool) -> None:
    looker, live = Looker(store, launch["id"]), console.is_terminal and not as_json
    every = every or (TERMINAL_S if live else PIPED_S)
    seen, before = looker.look(), ""
    with Screen(console=console, auto_refresh=False) if live else nullcontext() as screen:
        while seen.state != GONE:
            starts = seen.state == STARTING
            if screen is not None:
                screen.update(_shown(store, launch, seen), refresh=True)
            elif starts and before == STARTING:  # is said once
                pass
            elif as_json:
                _print(store, launch, seen)
            else:
                show(_shown(store, launch, seen))
            time.sleep(min(every, TERMINAL_S) if starts else every)
            seen, before = looker.look(), seen.state
    if as_json:
        _print(store, launch, seen)
    else:
        console.print(*_ending(store, launch, seen), sep="\n", soft_wrap=True)


def _print(store: Store, launch: dict[str, Any], seen: Picture) -> None:
    """One look as a line of JSON (harness/cli/README.md, section 4)."""
    driver = seen.driver
    jobs = []
    for key, job in driver.get("running", {}).items():
        beat, progress = seen.beats.get(key, {}), store.progress(key)
        where = {name: beat.get(name) for name in ("host", "pid", "since", "state")}
        jobs.append({"key": key, **job, **where, "progress": progress})
    names = ("started", "told", "total", "counts", "waiting", "ends", "there", "failures")
    about = {"launch": launch["id"], "lives": seen.state != GONE, "state": seen.state}
    about |= {"silent_s": seen.silent_s} | {name: driver.get(name) for name in names}
    about["started"] = seen.holder.since if seen.holder else about["started"]
    print(json.dumps(about | {"running": jobs}, ensure_ascii=False), flush=True)


def _shown(store: Store, launch: dict[str, Any], seen: Picture) -> RenderableType:
    if seen.held:
        return f"[bold]{escape(launch['id'])}[/bold] is starting{_since(seen.holder)}"
    driver = seen.driver
    counts, there = driver["counts"], driver["there"]
    failed = sum(n for status, n in counts.items() if status != DONE)
    ends = "expected end unknown, until one of each method is done"
    if driver["ends"] is not None:
        left = duration(max(0.0, driver["ends"] - time.time()))
        ends = f"expected end {when(driver['ends'])} (in {left})"
    lines = [
        f"[bold]{escape(launch['id'])}[/bold] by {Process.of(driver)}, "
        f"since {when(driver['started'])}: {counts.get(DONE, 0)} of {driver['total']} jobs done, "
        f"{failed} failed, {len(driver['running'])} running, {driver['waiting']} waiting; {ends}",
        _shares(driver["running"], there),
    ]
    if seen.silent_s > SILENT_S:
        lines.append(f"[red]its driver has said nothing for {duration(seen.silent_s)}[/red]")
    return Group(*lines, _table(store, seen), *_failures(driver["failures"]))


def _since(holder: Holder | None) -> str:
    if holder is None:
        return ""
    past = duration(max(0.0, time.time() - holder.since))
    return f", since {clock(holder.since)} ({past}), by {holder.process}"


def _shares(running: dict[str, Any], there: dict[str, Any]) -> str:
    had = {n: sum(job[n] for job in running.values()) for n in ("cpus", "gpus", "memory_gb")}
    named = {"cpus": "CPUs", "gpus": "GPUs"}
    parts = [f"{had[n]:g} of {there[n]:g} {word}" for n, word in named.items() if there[n]]
    parts.append(f"{had['memory_gb']:.1f} GiB")
    return f"reserved: {', '.join(parts)}; nodes: {there['nodes']}"


def _table(store: Store, seen: Picture) -> Table:
    numbers = ("since", "CPUs", "GPUs", "GiB", "ends in")
    shown = table("job", "where", *numbers[:-1], "progress", "ends in", numbers=numbers)
    for key, job in seen.driver["running"].items():
        beat, progress = seen.beats.get(key, {}), store.progress(key) or {}
        since = max(0.0, time.time() - beat["since"]) if beat else None
        shown.add_row(
            escape(job["title"]),
            f"{beat['host']}:{beat['pid']}" if beat else "-",
            "-" if since is None else duration(since),
            *(f"{job[name]:g}" for name in ("cpus", "gpus", "memory_gb")),
            "ended" if not beat and store.done(key) else escape(_progress(beat, progress)),
            _ends(job["takes"], since, progress),
        )
    return shown


def _progress(beat: dict[str, Any], progress: dict[str, Any]) -> str:
    if not beat:
        return "starting"
    if beat.get("why"):
        return beat["why"]
    if not progress:
        return ""
    share = f"{progress['step']}/{progress['total']} " if progress.get("total", 0) > 1 else ""
    return share + describe_progress({k: v for k, v in progress.items() if k != "seconds_left"})


def _ends(takes: float | None, since: float | None, progress: dict[str, Any]) -> str:
    """By the job itself, else by what jobs alike took."""
    if (left := progress.get("seconds_left")) is not None:
        return duration(left)
    if takes is None or since is None:
        return "-"
    return f"about {duration(takes - since)}" if takes > since else "any time"


def _failures(failures: list[dict[str, str]]) -> Iterator[str]:
    for failure in failures[-SHOWN:]:
        yield (
            f"[red]{failure['status']}[/red] {escape(failure['title'])}: "
            f"{escape(failure['reason'])}"
        )


def _ending(store: Store, launch: dict[str, Any], seen: Picture) -> Iterator[str]:
    """What a launch that nobody drives has come to."""
    from harness.cli.status import INTERRUPTED, PENDING, RUNNING, States

    states, cells = States(store), launch["cells"]
    found = [states.of(cell["key"]) for cell in cells]
    done = found.count(DONE)
    name = escape(launch["id"])
    if seen.driver:
        yield f"[red]the driver of {name} is gone[/red]: the same `relief run` goes on"
    else:
        yield f"[bold]{name}[/bold] does not run: {done} of {len(cells)} cells are done"
    others = (DONE, PENDING, RUNNING, INTERRUPTED)
    if failed := sum(state not in others for state in found):
        yield f"{failed} failed: `relief status {name}` lists the reasons"


def _read(path: Path) -> dict[str, Any]:
    """Empty if it is not there, or just being written."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
