"""Around Ray's own calls: variables before its start, calls that may hang, lines, processes."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.engine.executors import LostError
from harness.store.processes import Process

log = logging.getLogger(__name__)

GUARD_EVERY_S = 1.0
SAID_AFTER_S = 1.0  # a start of Ray that takes longer is told


def limited(call: Callable[[], Any], seconds: float) -> Any:
    """What `call` returns or raises. TimeoutError if that takes longer; then it is left alone."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:  # raised where the call was made
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@contextmanager
def guarded(look: Callable[[], Any], lost: Callable[[LostError], Any]) -> Generator[None]:
    """While the block runs, which may hang in Ray's calls, a thread looks whether Ray is there.

    look: raises LostError if it is not; lost: called with that, in the thread
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(GUARD_EVERY_S):
            try:
                look()
            except LostError as error:
                if not over.is_set():
                    lost(error)
                return

    thread = threading.Thread(target=watch, daemon=True, name="guard of Ray")
    thread.start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def said(line: str) -> Generator[None]:
    """Print the line if the block takes longer than a second."""
    timer = threading.Timer(SAID_AFTER_S, print, args=(line,), kwargs={"flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def quiet(ray: Any) -> None:
    """Keep Ray's own lines from the terminal: what matters of them is told by us.

    They stay in the logs of Ray's session; RELIEF_DEBUG=1 prints them.
    """
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    if worker is not None and not os.environ.get("RELIEF_DEBUG"):
        worker.print_to_stdstream = lambda data, *args, **options: log.debug("ray: %s", data)


def children(pid: int, names: tuple[str, ...] = ()) -> dict[str, Process]:
    """The processes that a process started, by name (if `names` are given) or number.

    Empty where there is no proc.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        head, _, tail = text.rpartition(")")
        name, fields = head.partition("(")[2], tail.split()
        if int(fields[1]) == pid and (not names or name in names):
            process = Process(socket.gethostname(), int(folder.name), int(fields[19]))
            found[name if names else folder.name] = process
    return found


def prepare_environment(local: bool) -> None:
    """Variables that Ray reads at import or start (harness/engine/README.md, section 4)."""
    values = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers use this very environment
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # jobs without GPU see no GPU
        "RAY_worker_niceness": "0",
        # else Ray ends the driver's process a minute after it lost its head
        "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
        "DO_NOT_TRACK": "true",
    }
    if local:
        values["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # listen on loopback only
    for name, value in values.items():
        os.environ.setdefault(name, value)
