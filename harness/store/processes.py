"""Processes by name: who holds a lock, who computes a job, and whether they still live."""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STOPPED = ("T", "t")  # states in proc(5): by SIGSTOP or a debugger
GONE = ("", "Z", "X")


@dataclass(frozen=True)
class Process:
    """A process of some machine; a number alone may be another process by now."""

    host: str
    pid: int
    born: int = 0  # clock ticks since the machine's start; 0 where the system does not say

    @classmethod
    def own(cls) -> Process:
        return cls(platform.node(), os.getpid(), _stat(os.getpid())[1])

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Process:
        """From a dictionary that has these among others. Raises KeyError, TypeError, ValueError."""
        return cls(str(given["host"]), int(given["pid"]), int(given.get("born", 0)))

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def here(self) -> bool:
        """Whether it is (or was) of this machine."""
        return self.host == platform.node()

    @property
    def state(self) -> str:
        """Its letter of proc(5), e.g. R, S, D, T; "" if it is gone. For processes of this machine.

        Where there is no proc: "S" as long as the number is taken.
        """
        state, born, _ = _stat(self.pid)
        if state and self.born and born != self.born:
            return ""
        if not state and not Path("/proc/self/stat").exists():
            return "S" if _taken(self.pid) else ""
        return state

    @property
    def gone(self) -> bool:
        """Whether it is known to be gone: never of another machine's."""
        return self.here and self.state in GONE

    @property
    def stopped(self) -> bool:
        return self.here and self.state in STOPPED

    @property
    def cpu_s(self) -> float:
        """CPU time that it has used so far, s."""
        return _stat(self.pid)[2]

    def kill(self) -> bool:
        """SIGKILL if it is of this machine and still that process; -> whether it was."""
        if not self.here or self.gone:
            return False
        try:
            os.kill(self.pid, signal.SIGKILL)
        except OSError:
            return False
        return True

    def __str__(self) -> str:
        return f"process {self.pid} of {self.host}" + (" (stopped)" if self.stopped else "")


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, since when."""

    process: Process
    since: float  # s since the epoch, by the holder's clock

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.process}, since {at}"


def _stat(pid: int) -> tuple[str, int, float]:
    """(state, start in ticks, CPU time in s) of proc(5); ("", 0, 0.0) if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "", 0, 0.0
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    ticks_s = os.sysconf("SC_CLK_TCK")
    return fields[0], int(fields[19]), (int(fields[11]) + int(fields[12])) / ticks_s


def _taken(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
