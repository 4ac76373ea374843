"""Ctrl-C and SIGTERM: one line, exit code 130, whenever they come.

While a command works they raise KeyboardInterrupt, and it tidies up. Before and after that, while
modules are imported and while Python ends, an exception would only be a traceback from anywhere:
there the process ends at once, which costs nothing, since all that is kept is written in steps.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_INTERRUPTED = 130
LINE = "interrupted: finished jobs and checkpoints are kept, the same command goes on"


class Interrupted(KeyboardInterrupt):
    """Of a class of its own: Python ends itself by SIGINT if a plain one has passed an `exec`."""


def end_at_once() -> None:
    """From here on a signal ends the process, with one line."""

    def end(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            os.write(2, f"{LINE}\n".encode())
        os._exit(EXIT_INTERRUPTED)

    _set(end)


class Interrupts:
    """From `heed` on, a signal raises KeyboardInterrupt; `came` tells whether one did.

    What runs at that moment may drop the exception, e.g. a callback or an import.
    """

    came = False

    def heed(self) -> None:
        before = sys.unraisablehook

        def interrupt(number: int, frame: FrameType | None) -> None:
            self.came = True
            raise Interrupted

        def unraisable(about: Any) -> None:
            if not isinstance(about.exc_value, KeyboardInterrupt):  # asked for, and not forgotten
                before(about)

        sys.unraisablehook = unraisable
        _set(interrupt)


def _set(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


@contextmanager
def kept_handlers() -> Generator[None]:
    """Around ray.init, which sets a handler of SIGTERM of its own that ends the process."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    except SystemExit as ended:  # by that handler
        raise Interrupted from ended
    finally:
        with suppress(ValueError):  # not in the main thread, where Ray sets none
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def interruptible() -> Generator[Callable[[], None]]:
    """SIGTERM ends a launch as Ctrl-C does.

    Ray's calls, when they end in the moment of a signal, may drop the KeyboardInterrupt. So it is
    raised again at the next call of what this yields, and at the end.
    """
    asked = False

    def interrupt(*_: Any) -> None:
        nonlocal asked
        asked = True
        raise Interrupted

    def check() -> None:
        if asked:
            raise Interrupted

    previous = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield check
        check()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
