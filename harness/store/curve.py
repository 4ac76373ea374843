"""The losses that a job reported, as a small file beside its result.

    <job>/curve.csv    phase,step,loss: a line a point, phases and steps in their order

Reports come by the clock, so which steps are there differs from run to run; results do not
depend on it.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from pathlib import Path
from typing import Protocol

from harness.store.files import write_text

log = logging.getLogger(__name__)

FILE = "curve.csv"
POINTS = 500  # the most that a phase keeps, spread evenly over its steps
WRITE_EVERY_S = 10.0

Points = list[tuple[int, float]]


class Reported(Protocol):
    """What a curve reads of a report from a long loop (methods/contract.py: Progress)."""

    @property
    def phase(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def loss(self) -> float | None: ...


class Curve:
    """Collects losses in a job's folder; goes on with what an interrupted attempt left there."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self.phases = read_curve(folder)
        self.written = time.monotonic()

    def add(self, progress: Reported) -> None:
        if progress.loss is None or not math.isfinite(progress.loss):
            return
        points = self.phases.setdefault(progress.phase, [])
        while points and points[-1][0] >= progress.step:  # steps since the checkpoint come again
            points.pop()
        gap = progress.total / POINTS
        last = progress.step == progress.total
        if points and progress.step - points[-1][0] < gap and not last:
            return
        points.append((progress.step, progress.loss))
        if time.monotonic() - self.written >= WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        if not self.phases:
            return
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("phase", "step", "loss"))
        for phase, points in self.phases.items():
            lines.writerows((phase, step, f"{loss:.6g}") for step, loss in points)
        write_text(self.path, text.getvalue())
        self.written = time.monotonic()


def read_curve(folder: Path) -> dict[str, Points]:
    """phase -> (step, loss) in order; empty where the job reported no loss."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    phases: dict[str, Points] = {}
    for row in list(csv.reader(io.StringIO(text.replace("\0", ""))))[1:]:
        try:
            phase, step, loss = row
            phases.setdefault(phase, []).append((int(step), float(loss)))
        except ValueError:  # a torn line; no result depends on it
            log.warning("%s has a damaged line, left out", folder / FILE)
    return phases
