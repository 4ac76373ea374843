"""Launches in forked children of a process that has all imports behind it.

A launch of tests/faults/launch.yaml then takes about a second, and is a process of its own that
can be killed. What it prints goes into a file.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
TOY = HERE / "launch.yaml"
TINY = HERE.parent / "harness" / "tiny.yaml"
ROOT = HERE.parents[1]
LIMIT_S = 120.0  # of a launch of a second: then it hangs
POLL_S = 0.002


def warm() -> None:
    """Import what a launch needs, and make the toy the only method. Call it once, before forking.

    No thread may run and torch may have computed nothing, or a fork would take over half a lock.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "RELIEF_DEBUG": "", "COLUMNS": "200"}
    import pandas
    import pyarrow.parquet
    import pydantic.type_adapter
    import torch._dynamo
    import xxhash

    import harness.cli.app
    import harness.engine.driver
    import harness.engine.executors
    import harness.engine.on_ray
    import harness.planning.expand
    import harness.tracking
    import methods
    import methods.names
    import reports.page.render

    used = (pandas, pyarrow, pydantic, torch, xxhash, harness.cli.app.built(), reports)
    assert all(used)
    methods.METHODS.clear()
    methods.METHODS["toy"] = "tests.faults.toy:Trained"
    methods.names.METHODS["toy"] = "Toy"
    methods.get("toy")
    gc.freeze()  # what is here is not looked at, so not copied, by the children


class Child:
    """A command of the program in a forked child."""

    def __init__(self, arguments: list[str], log: Path, before: Callable[[], None] = lambda: None):
        """before: called in the child first, e.g. to arm a fault."""
        self.log, self.code = log, None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(arguments, before)

    def _be(self, arguments: list[str], before: Callable[[], None]) -> None:
        code = 99
        try:
            os.setsid()
            with self.log.open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.argv = ["relief", *arguments]
            before()
            runpy.run_module("harness", run_name="__main__")
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Its exit status once it ended, negative for a signal."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float = LIMIT_S) -> int | None:
        """Its exit status; None if it still runs after so long."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(POLL_S)
        return self.code

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def end(self) -> None:
        """Kill it if it still runs."""
        self.send(signal.SIGKILL)
        self.wait()

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")


def each_operation(store: Path, act: Callable[[int], None]) -> Callable[[], None]:
    """What arms a child: `act` is called before each of its changes of a file in the store.

    act: is given the number of the change, from 1
    """
    inside, seen = f"{store}/", 0

    def hook(event: str, values: tuple) -> None:
        nonlocal seen
        if event == "open":
            path, _, flags = values
            if not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.link"):
            path = values[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(inside):
            seen += 1
            act(seen)

    return lambda: sys.addaudithook(hook)
