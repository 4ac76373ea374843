"""How one attempt at a job ended, as its worker says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    key: str
    status: str
    reason: str = ""  # one line
    log: tuple[str, ...] = ()  # its last lines
    changed: bool = False  # it was computed again, and its files have other bytes than before
