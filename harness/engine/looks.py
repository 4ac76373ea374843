"""Looks at a training of a cell: what the harness makes of a job's description for its method."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.store.curve import LOOKS, read_looks, write_looks
from methods.contract import Method, Validation
from methods.validation import chosen

Score = Callable[[Method], dict[str, float] | None]  # metrics on validation samples


class Looking(Validation):
    """Validation that measures the seconds that it takes."""

    seconds = 0.0


def look_at(
    method: Method, score: Score | None, work: Path, selection: Mapping[str, Any], every: float
) -> Looking:
    """Have the fit that comes looked at, if its job says so; the looks go into its folder.

    score: None where there are no validation samples; selection: of the job's spec; every: what
    its place says, where the spec says nothing. -> what knows the looks and their seconds
    """

    def timed() -> dict[str, float]:
        began = time.perf_counter()
        found = score(method) if score else None
        looking.seconds += time.perf_counter() - began
        return found or {}

    every = selection.get("every") or every
    tell = functools.partial(write_looks, work)
    looking = Looking(timed, every, selection.get("metric"), tell)
    if score and every:
        method.run.validation = looking
    else:
        (work / LOOKS).unlink(missing_ok=True)  # of an attempt for another launch
    return looking


def selected(work: Path, selection: Mapping[str, Any]) -> dict[str, Any]:
    """The step whose network was kept, where it need not be the last."""
    looks, metric = read_looks(work), selection.get("metric")
    if not looks or not metric:
        return {}
    look = chosen(looks, metric)
    known = {"phase": look.phase, "step": look.step, "total": look.total}
    return known | {"metric": metric, "value": look.metrics[metric]}
