"""Keeps MLflow current while a launch or a sweep runs: a process of its own, at low priority.

Low as soon as it has written that the launch runs: where all cores are busy a process of low
priority may not come to that for minutes, and MLflow would show how the last launch ended.
The driver starts it, tells it by a pipe what to do, and ends it with the word STOP. A pipe that
closes without that word means that the driver died: then the process writes how things stand once
more, so that MLflow does not say RUNNING for ever, and ends. What goes wrong it says in lines on
its standard output, each once; the next sync catches up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

from harness.store import Store
from harness.store.at_work import lock_of
from harness.store.locks import TELL_S
from harness.store.processes import Process
from harness.tracking.database import WAIT_S
from harness.tracking.launches import sync
from harness.tracking.sweeps import sync_sweep

Kind = Literal["launch", "sweep"]
EVERY_S = 30.0
SHARE = 20  # a sync that takes t s is not repeated within SHARE * t
NICENESS = 19
DYING_S = 30.0  # the longest that a killed driver's end is waited for
STOP = "stop"


class Stopped(Exception):
    """The driver has ended."""


class Mirror:
    """The driver's side; while it lives, whoever drives holds the lock of the launch or sweep.

    command: starts a process that calls `run_mirror`; say: takes a line about what goes wrong
    """

    def __init__(
        self,
        store: Store,
        kind: Kind,
        name: str,
        uri: str | None,
        command: Sequence[str],
        say: Callable[[str], None],
        every_s: float = EVERY_S,
    ):
        self.store, self.name, self.command, self.say = store, name, command, say
        self.told = {
            "store": str(store.path),
            "kind": kind,
            "name": name,
            "uri": uri,  # by the pipe, since every user sees the arguments of a process
            "every_s": every_s,
            "driver": Process.own().plain(),
        }
        self.process: subprocess.Popen[str] | None = None
        self.listener = threading.Thread(target=self._listen, daemon=True, name="mlflow-mirror")

    def start(self) -> None:
        if self.told["uri"] == "none":
            return
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries' warnings; errors come as lines
            text=True,
            start_new_session=True,  # Ctrl-C is for the driver, which ends it
        )
        self._write(json.dumps(self.told) + "\n")
        self.listener.start()

    def stop(self, wait_s: float = WAIT_S) -> None:
        """End it, and wait for what it is writing, at most wait_s."""
        if self.process is None:
            return
        self._write(STOP, last=True)
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.say(f"what writes to MLflow did not end within {wait_s:g} s and was ended")
        self.listener.join(1.0)

    def _write(self, text: str, last: bool = False) -> None:
        assert self.process is not None and self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died; what it lacks, the next sync writes
            self.process.stdin.write(text)
            self.process.stdin.close() if last else self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            self.say(line.rstrip("\n"))


def run_mirror(describe: Callable[[Exception], str]) -> None:
    """What the process does. describe: an error in one line, without passwords."""
    told = json.loads(sys.stdin.readline())
    _Mirroring(told, describe).run()


class _Mirroring:
    def __init__(self, told: dict[str, Any], describe: Callable[[Exception], str]):
        self.told, self.describe = told, describe
        self.store = Store(told["store"])
        self.ended, self.died, self.said, self.low = threading.Event(), False, "", False
        threading.Thread(target=self._hear, daemon=True).start()

    def run(self) -> None:
        wait_s = 0.0
        while not self.ended.wait(wait_s):
            took = self._sync(running=True)
            self._step_back()
            wait_s = max(self.told["every_s"], SHARE * took)
        if self.died:
            self._await_end()
            self._sync(running=None)

    def _await_end(self) -> None:
        """Until the driver is gone and its lock free, which what it started may keep a moment."""
        driver, end = Process.of(self.told["driver"]), time.monotonic() + DYING_S
        lock = lock_of(self.store, self.told["name"])
        while (not driver.gone or lock.held) and time.monotonic() < end:
            time.sleep(0.1)

    def _hear(self) -> None:
        self.died = STOP not in sys.stdin.read()
        self.ended.set()

    def _check(self) -> None:
        """Between what is written: the state of the launch comes first."""
        self._step_back()
        if self.ended.is_set() and not self.died:
            raise Stopped

    def _step_back(self) -> None:
        """From here on whatever else runs goes first."""
        if not self.low:
            self.low = True
            with suppress(OSError, AttributeError):
                os.nice(NICENESS)

    def _sync(self, running: bool | None) -> float:
        """Once; -> CPU time it took, s."""
        store, name, uri = self.store, self.told["name"], self.told["uri"]
        options = dict(wait_s=TELL_S, running=running, check=self._check)
        before = sum(os.times()[:2])
        try:
            if self.told["kind"] == "sweep":
                sync_sweep(store, name, uri, **options)
            else:
                sync(store, store.launch(name), uri, **options)
        except Stopped:
            pass
        except Exception as error:  # whatever tracking does, the benchmark goes on
            line = self.describe(error)
            if line != self.said:
                print(line, flush=True)
            self.said = line
        return sum(os.times()[:2]) - before
