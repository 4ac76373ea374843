"""Run a sweep: Ray Tune draws points and stops poor ones, the store's jobs compute them.

A trial is a light coordinator (harness/engine/trial.py): a point known to the store costs nothing,
and trials share views and stages. The unchanged settings are computed first, for comparison.

Tune's state is pickled: continue sweeps in stores of your own only.
"""

from __future__ import annotations

import copy
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.engine.driver import Driver, Listener
from harness.engine.effort import account
from harness.engine.executors import LostError
from harness.engine.on_ray import OnRay
from harness.engine.own_ray import guarded
from harness.engine.trial import Site, compute
from harness.engine.tuning import ANEW, ENVIRONMENT, search
from harness.metrics.pareto import pareto_front
from harness.planning.jobs import Resources
from harness.planning.plan import Plan
from harness.planning.space import Sweep, write_best
from harness.store import DONE, FAILED, Store
from harness.store.sweeps import DEFAULT, RECORD, RUNNING, STATE, STOPPED, SweepFolder
from methods.errors import UserError


def run(
    sweep: Sweep,
    store: Store,
    listen: Listener,
    say: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
    admit: Callable[[OnRay, Plan, Store], None] | None = None,
    **ray_options: Any,
) -> SweepFolder:
    """Run or continue a sweep; what is done is not done again. -> its folder, complete.

    listen: as Driver's, for the first trial; say: takes a line about each further one; check: may
    raise to stop; admit: may exclude nodes of the executor that it is given.
    Raises UserError if no trial could be finished.
    """
    plan = sweep.plan({})
    folder = SweepFolder(store, sweep.id(plan))
    record = _mended(folder) or {
        "id": folder.id,
        "name": sweep.name,
        "started": time.time(),
        "ended": None,
    }
    about = {"sweep": _plain(sweep), "entry": sweep.given["methods"][0], "points": sweep.points}
    record |= about
    if record["ended"] is None:
        folder.write(record)
        folder.forget_failed()
        os.environ.update(ENVIRONMENT)
        executor = OnRay(**ray_options, isolation=plan.config.schedule.isolation)
        try:
            with guarded(executor.living, _end):
                _search(sweep, plan, store, folder, record, executor, listen, say, check, admit)
        finally:
            executor.close()
    _conclude(sweep, folder, record)
    return folder


def _search(
    sweep: Sweep,
    plan: Plan,
    store: Store,
    folder: SweepFolder,
    record: dict[str, Any],
    executor: OnRay,
    listen: Listener,
    say: Callable[[str], None],
    check: Callable[[], None],
    admit: Callable[[OnRay, Plan, Store], None] | None,
) -> None:
    """All trials, that of the unchanged settings first."""
    if admit:
        admit(executor, plan, store)
    # jobs that every point needs are done once, with all CPUs
    joined = Site(executor.excluded).executor(plan)
    Driver(plan, store, joined, plan.config.schedule, listen).run(lambda running: check())
    executor.excluded |= joined.excluded
    fits = _fits(plan.config.resources_of(sweep.entry[0]), executor.nodes)
    site = Site(executor.excluded, fits)
    compute(sweep, DEFAULT, {}, store, folder, site, since=record["started"])
    search(sweep, store, folder, record, executor, fits, say)


def _end(error: LostError) -> None:
    """At once and from any thread: neither Tune nor Ray's calls return when Ray is gone.

    Nothing is lost by it, as by a kill.
    """
    print(
        f"stopped: {error}; finished trials, jobs and checkpoints are kept, the same command goes "
        "on",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(LostError.exit_code)


def _fits(wanted: Resources, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many such jobs run at a time on these nodes, at least one."""

    def on(node: Mapping[str, float]) -> int:
        by_gpus = node.get("GPU", 0) / wanted.gpus if wanted.gpus else math.inf
        return int(min(node.get("CPU", 0) // wanted.cpus, by_gpus))

    return max(1, sum(on(node) for node in nodes))


def _mended(folder: SweepFolder) -> dict[str, Any] | None:
    """The record of the sweep, if there is one; damaged files are set aside, and what they held is
    computed again. Tune takes a trial that ended for known, so without its record the search
    starts again: same seeds, same points, whose cells the store has.
    """
    torn = folder.damaged()
    for path, why in torn.items():
        folder.set_aside(path, f"{path} is damaged: {why}")
    record = folder.record
    lost = {path.stem for path in torn if path != folder.path / RECORD}
    if record and record["ended"] is not None:
        lost |= set(record.get("trials", ())) - {trial["id"] for trial in folder.trials()}
    if record and lost:
        record["ended"] = None
    if lost - {DEFAULT}:
        folder.set_aside(folder.path / STATE, f"trials are lost: {', '.join(sorted(lost))}{ANEW}")
    return record


def _plain(sweep: Sweep) -> dict:
    modes = {metric: sweep.mode(metric) for metric in sweep.objective.metrics}
    return asdict(sweep) | {"given": sweep.given, "modes": modes}


def _conclude(sweep: Sweep, folder: SweepFolder, record: dict) -> None:
    """Name what became of every trial, and the best of those that have all their cells."""
    trials = folder.trials()
    told = copy.deepcopy(trials)
    account(folder.store, trials, record["started"])
    for trial, before in zip(trials, told, strict=True):
        if trial["status"] == RUNNING:
            trial["status"] = STOPPED
        if trial != before:
            folder.write_trial(trial)
    done = [trial for trial in trials if trial["status"] == DONE]
    if not done:
        reasons = sorted({trial["reason"] for trial in trials})
        raise UserError(f"no trial of {folder.id} came to its end: {'; '.join(reasons)}")
    front = _front(sweep, done)
    failed = any(trial["status"] == FAILED for trial in trials)  # tried again by the same command
    record |= {
        "ended": None if failed else record["ended"] or time.time(),
        "best": front[0]["id"],
        "front": [trial["id"] for trial in front],
        "trials": [trial["id"] for trial in trials],
    }
    write_best(sweep, front[0]["values"], folder.path / "best.yaml")
    folder.write(record)


def _front(sweep: Sweep, trials: list[dict]) -> list[dict]:
    """Those that no other beats in one metric without losing in another, by the first metric.

    Of equals, the earlier; so the unchanged settings stand unless something is better.
    """
    signs = {m: sweep.sign(m) for m in sweep.objective.metrics}
    points = [[signs[m] * trial["means"][m] for m in signs] for trial in trials]
    return [trials[i] for i in pareto_front(points)]
