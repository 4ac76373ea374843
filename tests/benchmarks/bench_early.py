"""Early ends inside trainings beside ASHA over whole cells: training steps for the best of 16.

python -m tests.benchmarks.bench_early [--store DIR] [--repetitions 0 1 2] [--reductions 2 3]
                          [--settled 0.3 0.5] [--orders 60] [--cells 2] [--steps 400]

Every point of a repetition is computed once to its end, in this process, and what its trial
reports on the way is kept in the store (with --store the next call goes on from there). On these
reports decide, one trial after another: Tune's own ASHA over cells alone, the same with the looks
from a share of each training on, and promotion with its first rung there. All see the same points
and values; the steps that a job takes until its trial's end reaches it are not in it. Since a
search one by one depends on the order of its points, each policy is also judged over random orders.

"as good": the chosen point's objective at its end is at most --noise below that of the point which
ASHA over cells chooses in the same order.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from ray.tune.search import Searcher
from scipy.stats import spearmanr

from harness.engine.executors import InProcess
from harness.engine.promotion import Promotion, rungs
from harness.engine.trial import NEAR, POINT, UNTIL, Site, as_told, compute
from harness.engine.tuning import _scheduler
from harness.planning.space import Sweep, load
from harness.store import Store
from harness.store.sweeps import SweepFolder

SWEEP = str(Path(__file__).with_name("early.yaml"))
METRIC = "aupro_0.3"
SETTINGS = {2: "[3d]", 6: "[rgb,3d,rgb+3d]"}  # by cells of a point, of two categories
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
    """What the trial of a point reports, every look and every cell."""
    found: Reports = []

    def keep(means, trained):
        found.append((trained, means[METRIC]))

    compute(sweep, name, values, store, SweepFolder(store, "bench"), Here(), keep)
    return found


def searched(sweep: Sweep, trials: Sequence[Reports]) -> tuple[float, float]:
    """Trainings that the search takes, and its best value."""
    scheduler, taken, ends = _scheduler(sweep), 0.0, []
    least = sweep.early.settled if sweep.inside else 1.0
    for number, reports in enumerate(trials):
        trial = SimpleNamespace(trial_id=str(number), status="PENDING", TERMINATED="TERMINATED")
        scheduler.on_trial_add(None, trial)
        shown = [r for r in reports if r[0] % 1 == 0 or r[0] % 1 > least - 1e-9]
        for trained, value in shown:
            told = as_told(value, trained)
            if scheduler.on_trial_result(None, trial, told) != "CONTINUE":
                break
        taken += trained
        if trained == reports[-1][0]:
            ends.append(value)
    return taken, max(ends)


def climbed(sweep: Sweep, trials: Sequence[Reports]) -> tuple[float, float]:
    """As `searched`, by promotion."""
    whole = round(trials[0][-1][0])
    ladder = rungs(sweep.grace, sweep.early.reduction, whole)
    search, taken, ends = Promotion([{}] * len(trials), ladder, sweep.early.reduction, 1), 0.0, []
    came = [0.0] * len(trials)
    for trial_id in map(str, itertools.count()):
        if (given := search.suggest(trial_id)) == Searcher.FINISHED:
            return taken, max(ends)
        number, until = int(given[POINT]) - 1, given[UNTIL]
        for trained, value in trials[number]:
            told = as_told(value, trained)
            search.on_trial_result(trial_id, {**told, f"config/{POINT}": given[POINT]})
            if trained > until - NEAR:
                break
        taken, came[number] = taken + trained - came[number], trained
        search.on_trial_complete(trial_id)
        if trained == whole:
            ends.append(value)


def told(trials: Sequence[Reports]) -> str:
    """How far looks at the first training rank the points as their ends do (Spearman)."""
    ends = [reports[-1][1] for reports in trials]
    looks = zip(*(reports[: len(reports) // 2] for reports in trials))
    shares = [(look[0][0], spearmanr([value for _, value in look], ends)[0]) for look in looks]
    return "  ".join(f"{share:.1f}: {found:.2f}" for share, found in shares)


def compare(trials: Sequence[Reports], given: argparse.Namespace, seed: int) -> None:
    rng = np.random.default_rng(0)
    orders = [np.arange(len(trials))]
    orders += [rng.permutation(len(trials)) for _ in range(given.orders)]
    policies = [(kind, share) for kind in ("asha", "promotion") for share in given.settled]
    policies = [("asha", None), *policies]
    for reduction in given.reductions:
        cells: list[tuple[float, float]] = []
        for kind, share in policies:
            early = [f"early.reduction={reduction}", f"early.kind={kind}"]
            early += ["early.looks=false"] if share is None else [f"early.settled={share:g}"]
            early.append(f"settings={SETTINGS[given.cells]}")
            sweep = load(SWEEP, early)
            rule = climbed if sweep.climbs else searched
            found = [rule(sweep, [trials[i] for i in order]) for order in orders]
            cells = cells or found
            taken = np.array([one[0] for one in found]) / np.array([one[0] for one in cells])
            lost = np.array([one[1] for one in cells]) - np.array([one[1] for one in found])
            name = f"{kind} " + ("cells" if share is None else f"{share:g}")
            print(
                f"{seed:4}  {reduction:9}  {name:13}  {taken[0]:5.2f}  {found[0][1]:.3f}"
                f"  {taken.mean():6.2f}  {lost.mean():9.3f}  {(lost <= given.noise).mean():7.0%}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="where computed points stay")
    parser.add_argument("--repetitions", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reductions", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--settled", type=float, nargs="+", default=[0.2, 0.3])
    parser.add_argument("--orders", type=int, default=60, help="random ones")
    parser.add_argument(
        "--noise", type=float, default=0.05, help="of the objective, that counts as equal"
    )
    parser.add_argument("--steps", type=int, default=400, help="of a training")
    parser.add_argument("--cells", type=int, choices=SETTINGS, default=2, help="of a point")
    given = parser.parse_args()
    place = nullcontext(given.store) if given.store else tempfile.TemporaryDirectory()
    with place as folder:
        for seed in given.repetitions:
            more = [f"seeds=[{seed}]", f"das3d.train.steps={given.steps}", "early.settled=0.1"]
            more.append(f"settings={SETTINGS[given.cells]}")
            sweep, rng, store = load(SWEEP, more), np.random.default_rng(seed), Store(folder)
            points = [drawn(sweep, rng) for _ in range(sweep.points)]
            trials = [reported(sweep, store, f"{seed}-{i}", p) for i, p in enumerate(points)]
            print(f"seed {seed}, looks at the first training against the end: {told(trials)}")
            print("seed  reduction  by             steps   best  | orders: steps  loss  as good")
            compare(trials, given, seed)


if __name__ == "__main__":
    main()
