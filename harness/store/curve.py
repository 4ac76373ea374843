"""What a training said of itself on the way, as small files beside its job's result.

    <job>/curve.csv         phase,step,loss: a line a point, at evenly spread steps
    <job>/validation.csv    phase,step,total,share and a column for each metric: a line a look
                            (methods/validation.py), where its validation samples were looked at

Both are of the same steps in every run. But a killed attempt may leave a gap of some seconds in its
losses, and not every launch looks. Results do not depend on either.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from harness.store.files import write_text
from methods.validation import Look, on_curve

log = logging.getLogger(__name__)

FILE, LOOKS = "curve.csv", "validation.csv"
ASIDE = (FILE, LOOKS)  # files that equal results need not share
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
        if not on_curve(progress.step, progress.total):
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


def write_looks(folder: Path, looks: Sequence[Look]) -> None:
    """What `read_looks` reads, to the last bit."""
    if not looks:
        return
    names = list(looks[0].metrics)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("phase", "step", "total", "share", *names))
    for look in looks:
        values = [repr(float(look.metrics[name])) for name in names]
        lines.writerow((look.phase, look.step, look.total, repr(look.share), *values))
    write_text(folder / LOOKS, text.getvalue())


def read_looks(folder: Path) -> list[Look]:
    """In order; empty where nobody looked."""
    try:
        text = (folder / LOOKS).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    header, *rows = list(csv.reader(io.StringIO(text.replace("\0", "")))) or [[]]
    found = []
    for row in rows:
        try:
            phase, step, total, share, *values = row
            metrics = dict(zip(header[4:], map(float, values), strict=True))
            found.append(Look(phase, int(step), int(total), float(share), metrics))
        except ValueError:  # as in `read_curve`
            log.warning("%s has a damaged line, left out", folder / LOOKS)
    return found
