"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Generator[Callable[[], None]]:
    """SIGTERM ends a launch as Ctrl-C does. Enter after ray.init, which sets a handler of its own.

    Ray's calls, when they end in the moment of a signal, may drop the KeyboardInterrupt. So it is
    raised again at the next call of what this yields, and at the end.
    """
    asked = False

    def interrupt(*_: Any) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    previous = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield check
        check()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
