"""Locks that the system frees when their holder dies, and who holds them.

NAME.lock is empty, NAME.holder beside it says who took it last and has not given it back.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness.store.files import write_brief
from harness.store.processes import Holder, Process

log = logging.getLogger(__name__)

TELL_S = 2.0  # a wait that is longer is told


@dataclass(frozen=True)
class Lock:
    """A lock by the path of its file, whose name ends in .lock."""

    path: Path

    @contextmanager
    def hold(
        self, timeout: float = -1, waits: Callable[[Holder | None], None] | None = None
    ) -> Generator[None]:
        """Have it in the block; filelock.Timeout after `timeout` s, never if that is negative.

        waits: called once if it takes more than 2 s (default: a warning says who holds it)
        """
        lock = self._lock()
        endless = timeout < 0
        try:
            lock.acquire(timeout=TELL_S if endless else min(timeout, TELL_S))
        except Timeout:
            if not endless and timeout <= TELL_S:
                raise
            (waits or self._tell)(self.holder)
            lock.acquire(timeout=-1 if endless else timeout - TELL_S)
        try:
            with suppress(OSError):  # a full disk; it only informs
                write_brief(self._about, Process.own().plain() | {"since": time.time()})
            yield
        finally:
            with suppress(OSError):
                self._about.unlink(missing_ok=True)
            lock.release()

    @property
    def holder(self) -> Holder | None:
        """Who last took it and has not given it back; None if that is not known."""
        try:
            told = json.loads(self._about.read_text(encoding="utf-8"))
            return Holder(Process.of(told), float(told["since"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def held(self) -> bool:
        """Whether some process has it right now."""
        if not self.path.exists():
            return False
        try:
            with self._lock().acquire(timeout=0):
                return False
        except Timeout:
            return True
        except PermissionError:  # somebody else's store, of which we may read who said so
            return (holder := self.holder) is not None and not holder.process.gone

    @property
    def _about(self) -> Path:
        return self.path.with_suffix(".holder")

    def _lock(self) -> FileLock:
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a folder and should be a file: remove it")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path)

    def _tell(self, holder: Holder | None) -> None:
        who = holder or "an unknown process"
        log.warning("waiting for the lock of %s, held by %s", self.path.stem, who)
