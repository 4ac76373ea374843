"""Saved states of a fit, from which a killed job goes on: written beside the fit, not in its way.

    checkpoint.pt         the last state
    checkpoint.before.pt  the one before, for the case that the last is damaged

A state is copied to memory of its own, while the fit waits, and written by a thread, while it goes
on. At most one is being written.
"""

from __future__ import annotations

import copy
import logging
import os
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from methods.files import replaced

log = logging.getLogger(__name__)

NAMES = ("checkpoint.pt", "checkpoint.before.pt")
WAITING = 0.01  # most of a fit's time in which it waits for copies: larger states are saved rarer
WRITING = 0.1  # most of the time in which the disk is kept busy


class Checkpoints:
    """Those of one fit, in its folder.

    every_s: least seconds between two; 0: one whenever asked, written before `save` returns.
    """

    def __init__(self, folder: Path | None, every_s: float):
        self.paths = tuple(folder / name for name in NAMES) if folder else ()
        self.every_s = every_s
        self.saved_at = time.monotonic()
        self.copied_s = self.written_s = 0.0  # of the last one
        self._writing: Future[None] | None = None

    def load(self) -> dict | None:
        """The last state that is whole, tensors on the CPU; None at a fresh start."""
        import torch

        self.settle()
        for path in self.paths:
            if not path.exists():
                continue
            if is_whole(path):
                return torch.load(path, map_location="cpu", weights_only=True)
            log.warning("checkpoint=%s is damaged: going on from the one before, if any", path)
        return None

    def save(self, state: Callable[[], dict], now: bool = False) -> None:
        """Save what `state` returns, if it is time; now: in any case, and written on return.

        Raises what an earlier writing failed by, OSError if the disk is full.
        """
        if not self.paths or not (now or self._is_time()):
            return
        self.settle()
        started = time.monotonic()
        if now or self.every_s == 0:
            self._write(state())
        else:
            copied = on_host(state(), apart=True)
            self.copied_s = time.monotonic() - started
            pool = ThreadPoolExecutor(1, "checkpoint")
            self._writing = pool.submit(self._write, copied)
            pool.shutdown(wait=False)
        self.saved_at = time.monotonic()

    def __enter__(self) -> None:
        """Around a fit: none is being written any more when it is left, whatever it is left by."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.settle()
        except Exception:
            if kind is None:
                raise

    def settle(self) -> None:
        """Wait until the last state is written. Raises what its writing failed by."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _is_time(self) -> bool:
        if self.every_s == 0:
            return True
        every_s = max(self.every_s, self.copied_s / WAITING, self.written_s / WRITING)
        done = self._writing is None or self._writing.done()
        return done and time.monotonic() - self.saved_at >= every_s

    def _write(self, state: dict) -> None:
        started = time.monotonic()
        last, before = self.paths
        if last.exists():
            os.replace(last, before)
        save_tensors(last, state)
        self.written_s = time.monotonic() - started


def on_host(state: Any, apart: bool = False) -> Any:
    """The same on the CPU. apart: in memory that nothing else writes to, too"""
    import torch

    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=apart)
    if isinstance(state, dict):
        same = copy.copy(state)  # its type, and what modules note of their versions
        same.update({key: on_host(value, apart) for key, value in state.items()})
        return same
    if isinstance(state, (list, tuple)):
        return type(state)(on_host(value, apart) for value in state)
    return state


def is_whole(path: Path) -> bool:
    """Whether a file that torch.save wrote has all its bytes, as their checksums (CRC-32) say.

    torch.load looks at them only in part: a flipped byte in a tensor would be another number.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError):
        return False


def save_tensors(path: Path, state: dict) -> None:
    """torch.save that leaves the old file or the whole new one, never half of it.

    What is on a device is saved as the host's, so that a machine without one can read it.
    """
    import torch

    with replaced(path) as file:
        torch.save(on_host(state), file)
