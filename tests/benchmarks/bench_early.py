"""ASHA inside trainings beside ASHA over whole cells: training steps for the best of 16 points.

python -m tests.benchmarks.bench_early [--repetitions 0 1 2] [--reductions 2 3] [--graces 0.1 0.3]
                                           [--steps 40]

Every point of a repetition is computed once to its end, in this process, and what its trial
reports on the way is kept. Tune's own scheduler then decides on these reports, one trial after
another, with the looks at trainings and without them. So both see the same points and the same
values; the steps that a job takes until its trial's end reaches it are not in it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from harness.engine.executors import InProcess
from harness.engine.trial import Site, compute
from harness.engine.tuning import OBJECTIVE, THOUSANDTHS, TRAINED, _scheduler
from harness.planning.space import Sweep, load
from harness.store import Store
from harness.store.sweeps import SweepFolder

SWEEP = str(Path(__file__).with_name("early.yaml"))
METRIC = "aupro_0.3"
Reports = list[tuple[float, float]]  # trainings, mean of the metric


class Here(Site):
    """Jobs in this process."""

    def executor(self, plan):
        return InProcess()


def drawn(sweep: Sweep, rng: np.random.Generator) -> dict[str, float]:
    """A point of a space that has ends everywhere."""
    values = {}
    for name, domain in sweep.space.items():
        low, high = domain.ends
        inside = rng.uniform(0, 1)
        log = domain.kind == "loguniform"
        values[name] = low * (high / low) ** inside if log else low + (high - low) * inside
    return values


def reported(sweep: Sweep, store: Store, name: str, values: dict[str, float]) -> Reports:
    found: Reports = []

    def keep(means, trained):
        found.append((trained, means[METRIC]))

    compute(sweep, name, values, store, SweepFolder(store, "bench"), Here(), keep)
    return found


def searched(sweep: Sweep, trials: list[Reports]) -> tuple[float, float, int]:
    """Trainings that the search takes, its best value, and how many trials come to their end."""
    scheduler, taken, ends = _scheduler(sweep), 0.0, []
    for number, reports in enumerate(trials):
        trial = SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(None, trial)
        shown = [r for r in reports if sweep.inside or r[0] % 1 == 0]
        for trained, value in shown:
            told = {OBJECTIVE: value, TRAINED: round(THOUSANDTHS * trained)}
            if scheduler.on_trial_result(None, trial, told) != "CONTINUE":
                break
        taken += trained
        if trained == reports[-1][0]:
            ends.append(value)
    return taken, max(ends), len(ends)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reductions", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--graces", type=float, nargs="+", default=[0.1, 0.3], help="trainings")
    parser.add_argument("--steps", type=int, default=40, help="of a training")
    given = parser.parse_args()
    print("seed  reduction  grace  steps  share  whole  best")
    for seed in given.repetitions:
        more = [f"seeds=[{seed}]", f"das3d.train.steps={given.steps}", "protocol.latency_samples=0"]
        sweep = load(SWEEP, more)
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as folder:
            store = Store(folder)
            points = [drawn(sweep, rng) for _ in range(sweep.points)]
            trials = [reported(sweep, store, str(i), p) for i, p in enumerate(points)]
        for reduction in given.reductions:
            over_cells = 0.0
            for grace in (None, *given.graces):
                early = [f"early.reduction={reduction}"]
                early += ["early.looks=false"] if grace is None else [f"early.grace={grace:g}"]
                taken, best, whole = searched(load(SWEEP, [*more, *early]), trials)
                over_cells = over_cells or taken
                grace_text = "cells" if grace is None else f"{grace:g}"
                line = f"{seed:4}  {reduction:9}  {grace_text:>5}  {given.steps * taken:5.0f}"
                print(f"{line}  {taken / over_cells:5.2f}  {whole:5}  {best:.3f}", flush=True)


if __name__ == "__main__":
    main()
