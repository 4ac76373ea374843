"""What the trials of a sweep took, and what their early ends saved.

A job counts once, for the first trial that it is of, and if it began after the sweep did: neither
a killed driver nor a search that starts again makes work free that was done for the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.store import Store
from harness.store.curve import read_curve, read_looks

Jobs = Sequence[Sequence[Any]]  # of a trial's record: key, whether it is a cell, its share of a GPU


def account(store: Store, trials: Sequence[dict[str, Any]], since: float) -> None:
    """Gives trials that have none yet their effort. since: when the sweep began"""
    counted: set[str] = set()
    for trial in trials:
        own = [job for job in trial.get("jobs", ()) if job[0] not in counted]
        counted |= {key for key, *_ in own}
        if not trial.get("effort"):
            trial["effort"] = effort(store, own, since)


def effort(store: Store, jobs: Jobs, since: float) -> dict[str, float]:
    """Steps of training; seconds of jobs, and these times their shares of a GPU.

    What the store had before took nothing. A cell that never began is counted as long as the
    others of the trial.
    """
    took = [(cell, gpus, _taken(store, key, since)) for key, cell, gpus in jobs]
    totals = [t.total for cell, _, t in took if cell and t.total]
    usual = sum(totals) / len(totals) if totals else 0.0
    steps = sum(t.steps for *_, t in took)
    left = sum((t.total or usual) - t.reached for cell, _, t in took if cell and not t.done)
    of_cells = [t for cell, _, t in took if cell and t.steps]
    pace = sum(t.seconds for t in of_cells) / max(1, sum(t.steps for t in of_cells))
    share = max((gpus for cell, gpus, _ in took if cell), default=0.0)
    return {
        "steps": steps,
        "saved_steps": left,
        "seconds": sum(t.seconds for *_, t in took),
        "saved_seconds": left * pace,
        "gpu_seconds": sum(gpus * t.seconds for _, gpus, t in took),
        "saved_gpu_seconds": left * pace * share,
    }


@dataclass(frozen=True)
class _Taken:
    """Of a job: steps and seconds since the sweep began; the steps it has come to, of how many."""

    done: bool
    steps: int = 0
    reached: int = 0
    total: int = 0
    seconds: float = 0.0


def _taken(store: Store, key: str, since: float) -> _Taken:
    result = store.result(key) if store.done(key) else None
    folder = result.folder if result else store.progress_file(key).parent
    progress = {} if result else store.progress(key) or {}
    steps, totals = {}, {}
    for phase, points in read_curve(folder).items():
        steps[phase] = totals[phase] = points[-1][0]
    for look in read_looks(folder):
        steps[look.phase] = max(steps.get(look.phase, 0), look.step)
        totals[look.phase] = look.total
    if progress.get("loss") is not None:
        phase = progress["phase"]
        steps[phase] = max(steps.get(phase, 0), progress["step"])
        totals[phase] = progress["total"]
    reached, total = sum(steps.values()), sum(totals.values())
    if result:
        fresh = (result.started or 0.0) >= since
        return _Taken(True, reached * fresh, reached, total, fresh * result.timings["total_s"])
    began = progress.get("started", 0.0)
    if began < since:
        return _Taken(False, 0, reached, total)
    seen = store.progress_file(key).stat().st_mtime
    return _Taken(False, reached, reached, total, max(0.0, seen - began))
