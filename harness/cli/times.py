"""How times are told: spans, moments, what a job says of its progress, and how spans are known."""

from __future__ import annotations

import time
from typing import NamedTuple


class KnownBy(NamedTuple):
    sign: str  # before a time in a table
    told: str


SOURCES = {  # of expected times, the surest first (harness/planning/costs.py)
    "measured": KnownBy("", "measured of jobs alike"),
    "model": KnownBy("~", "by what they compute"),
    "guess": KnownBy("?", "guessed"),
    "unknown": KnownBy("", "unknown until one is measured"),
}


def describe_progress(progress: dict) -> str:
    """ "train, loss 0.123, 40 s left" from a job's progress record."""
    parts = [progress["phase"]]
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.4g}")
    if progress.get("seconds_left") is not None:
        parts.append(f"{duration(progress['seconds_left'])} left")
    if progress.get("attempt", 1) > 1:
        parts.append(f"attempt {progress['attempt']}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def clock(epoch: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(epoch))


def when(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch))
