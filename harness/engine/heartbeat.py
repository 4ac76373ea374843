"""Signs of life: every process at a job writes that it lives, and the driver looks.

A thread writes STORE/alive/<key>-<host>-<pid>.json every 2 s, whatever the job does: a method
that reports nothing for an hour lives, a process that was stopped does not. Beside the job's work
folder and not in it, since the process beats while that folder is published, and several
processes may be at one job, of which one computes. Only changes count, by the clock of whoever
looks: no clock of another machine is compared.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.store import Store
from harness.store.processes import Holder, Process

BEAT_S = 2.0
# variables in which an executor tells a worker where it is: Ray's node, and whose worker it is
NODE, DRIVER = "RELIEF_NODE", "RELIEF_DRIVER"
WAITING, COMPUTING = "waiting", "computing"
BUSY = (
    0.2  # of one CPU: a process that uses more lives, even if a long call keeps its threads still
)
LINE = 1024  # bytes of a beat, padded


class Heartbeat(AbstractContextManager):
    """Beats while the block runs. `state` tells what the process does at the job."""

    def __init__(self, store: Store, key: str, about: Mapping[str, Any] = MappingProxyType({})):
        """about: what `relief status --watch` shows of the job."""
        own = Process.own()
        self.path = store.alive / f"{key}-{own.host}-{own.pid}.json"
        self.about: dict[str, Any] = own.plain() | {
            "node": os.environ.get(NODE, ""),
            "driver": os.environ.get(DRIVER, ""),
            "since": time.time(),
            **about,
        }
        self.count, self.ended = 0, threading.Event()
        self.changed = threading.Lock()
        self.thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def __enter__(self) -> Heartbeat:
        self.state(COMPUTING)
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.ended.set()
        self.thread.join()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def state(self, state: str, why: str = "") -> None:
        self.about |= {"state": state, "why": why}
        self._write()

    def wait(self, key: str, holder: Holder | None) -> None:
        """What `Store.lock` calls when it has to wait."""
        self.state(WAITING, f"waiting for the lock held by {holder or 'an unknown process'}")

    def _beat(self) -> None:
        while not self.ended.wait(BEAT_S):
            self._write()

    def _write(self) -> None:
        """In place and closed each time: that works on a full disk, and NFS sends what is closed.

        Never synced: it only informs, and is soon written again.
        """
        with self.changed:
            self.count += 1
            text = json.dumps(self.about | {"count": self.count}).encode()
            with suppress(OSError):  # then the driver hears nothing, and finds out why
                self.path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
                try:
                    os.write(handle, text.ljust(LINE) + b"\n")
                finally:
                    os.close(handle)


@dataclass
class Pulse:
    """What was heard of one process at a job. Times are of this process's monotonic clock, s."""

    path: Path
    text: bytes
    about: dict[str, Any]
    heard: float
    began: float  # its state
    lives: bool  # it beat while we looked; else it may be the trace of a process long dead
    cpu_s: float = 0.0

    @property
    def process(self) -> Process:
        return Process.of(self.about)

    @property
    def node(self) -> str:
        return str(self.about.get("node", ""))

    @property
    def driver(self) -> str:
        return str(self.about.get("driver", ""))

    @property
    def state(self) -> str:
        return self.about.get("state", COMPUTING)


@dataclass
class Pulses:
    """What the driver hears of the jobs that it watches."""

    store: Store
    heard: dict[str, dict[str, Pulse]] = field(default_factory=dict)  # key -> file -> pulse

    def begin(self, key: str) -> None:
        """Before a job is handed to a worker: what is there already is not of that worker."""
        self.heard[key] = {}
        self._hear({key}, lives=False)

    def end(self, key: str) -> None:
        """After a job; a process killed at it, still there at the last look, leaves no trace."""
        for pulse in self.heard.pop(key, {}).values():
            if pulse.process.gone:
                pulse.path.unlink(missing_ok=True)

    def look(self, keys: Iterable[str]) -> None:
        """Read what the processes at these jobs have written."""
        self._hear(set(keys), lives=True)

    def excuse(self) -> None:
        """Whoever did not look for a while (stopped itself, say) has missed beats."""
        for pulses in self.heard.values():
            for pulse in pulses.values():
                pulse.heard = time.monotonic()

    def of(self, key: str) -> list[Pulse]:
        """The processes that live, or did when they were last heard of."""
        return [pulse for pulse in self.heard.get(key, {}).values() if pulse.lives]

    def _hear(self, keys: set[str], lives: bool) -> None:
        now, there = time.monotonic(), set()
        try:
            names = os.listdir(self.store.alive) if keys else []
        except OSError:
            return
        for name in names:
            key = name.partition("-")[0]
            if key in keys and name.endswith(".json"):
                there.add((key, name))
                self._read(key, name, now, lives)
        for key in keys:
            for name in [n for n in self.heard.get(key, {}) if (key, n) not in there]:
                del self.heard[key][name]

    def _read(self, key: str, name: str, now: float, lives: bool) -> None:
        path, known = self.store.alive / name, self.heard.setdefault(key, {}).get(name)
        try:
            text = path.read_bytes()
            if known is None or known.text != text:
                about = json.loads(text)
                process = Process.of(about)
            else:
                about, process = known.about, known.process
        except (OSError, ValueError, KeyError, TypeError):  # gone, or just being written
            return
        if known is None:
            self.heard[key][name] = Pulse(path, text, about, now, now, lives or process.here)
        elif known.text != text:
            if about.get("state") != known.about.get("state"):
                known.began = now
            known.text, known.about, known.heard, known.lives = text, about, now, True
        if process.here:
            self._feel(key, name, process, now)

    def _feel(self, key: str, name: str, process: Process, now: float) -> None:
        """Of a process of this machine more is known than what it writes."""
        pulse = self.heard[key][name]
        if process.gone:
            pulse.path.unlink(missing_ok=True)
            del self.heard[key][name]
            return
        used, pulse.cpu_s = process.cpu_s - pulse.cpu_s, process.cpu_s
        if pulse.heard < now and used > BUSY * BEAT_S:
            pulse.heard = now


def end_idle(given: Mapping[str, Any]) -> None:
    """Kill a process of the machine that this runs on, unless it is busy.

    Here, where the worker that is started for it imports little.
    """
    process = Process.of(given)
    before = process.cpu_s
    time.sleep(1)
    if process.cpu_s - before < BUSY:
        process.kill()
