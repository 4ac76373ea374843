"""Run a sweep: Ray Tune draws points and stops poor ones, the store's jobs compute them.

A trial is a light coordinator. It runs the cells of its point one after another, as any launch
would, and reports the mean so far after each; so a point known to the store costs nothing, and
trials share views and stages. The unchanged settings are computed first, for comparison.

Tune's state is pickled: continue sweeps in stores of your own only.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import pickle
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.engine.code import bring, refusal, signature
from harness.engine.driver import Driver, Listener
from harness.engine.on_ray import OnRay
from harness.metrics.pareto import pareto_front
from harness.planning.plan import Plan
from harness.planning.space import Domain, Sweep, describe, write_best
from harness.store import DONE, FAILED, Store
from harness.store.sweeps import DEFAULT, RECORD, RUNNING, STATE, STOPPED, SweepFolder
from methods.errors import UserError

OBJECTIVE, CELLS = "objective", "cells"
STATE_FILES = ("experiment_state", "searcher-state", "basic-variant-state")  # of Tune, first two
#   words of their names: its trials; what the search knows (of tpe, of random and grid)
ANEW = ": the search starts again with the same seeds, and what the store has is free"
LOST = 2  # how often a trial's process may be lost
ENVIRONMENT = {  # harness/engine/README.md, section 7
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # a killed sweep loses a second of decisions
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


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
    record |= {"sweep": _plain(sweep), "entry": sweep.given["methods"][0]}
    if record["ended"] is None:
        folder.write(record)
        folder.forget_failed()
        os.environ.update(ENVIRONMENT)
        executor = OnRay(**ray_options, isolation=plan.config.schedule.isolation)
        try:
            if admit:
                admit(executor, plan, store)
            # jobs that every point needs are done once, with all CPUs
            joined = _joined(plan, executor.excluded)
            Driver(plan, store, joined, plan.config.schedule, listen).run(lambda running: check())
            executor.excluded |= joined.excluded
            _compute(sweep, DEFAULT, {}, store, folder, executor.excluded)
            _tune(sweep, plan, store, folder, executor, say)
        finally:
            executor.close()
    _conclude(sweep, folder, record)
    return folder


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


def _restorable(state: Path, folder: SweepFolder) -> bool:
    """Whether Tune can go on from its state; what it cannot read is set aside.

    Tune itself goes on with the rest where one of its files is torn, and draws other points.
    """
    if not state.exists():
        return False
    try:
        _read_state(state, folder)
    except Exception as error:  # whatever unpickling raises, also for modules that are no more
        why = f"{state} cannot be read ({type(error).__name__}: {error})".splitlines()[0]
        folder.set_aside(state, why + ANEW)
        return False
    return True


def _read_state(state: Path, folder: SweepFolder) -> None:
    """Read all that Tune would. Raises what that raises, ValueError for what does not fit."""
    from ray.tune.experiment import Trial

    found = {kind: sorted(state.glob(f"{kind}-*")) for kind in STATE_FILES}
    if missing := [kind for kind in STATE_FILES[:1] if not found[kind]]:
        raise ValueError(f"it has no {', '.join(missing)}")
    if not any(found[kind] for kind in STATE_FILES[1:]):
        raise ValueError("it has no state of the search")
    for path in (state / "tuner.pkl", *itertools.chain(*found.values())):
        data = path.read_bytes()
        pickle.loads(data) if path.suffix == ".pkl" else json.loads(data)
    newest = json.loads(found[STATE_FILES[0]][-1].read_bytes())
    known = {trial["id"]: trial for trial in folder.trials()}
    for text, _ in newest["trial_data"]:
        trial = Trial.from_json_state(text)
        if trial.status == Trial.TERMINATED and trial.trial_id not in known:
            raise ValueError(f"it has a trial {trial.trial_id} that is not in {folder.id}/trials")


def _plain(sweep: Sweep) -> dict:
    modes = {metric: sweep.mode(metric) for metric in sweep.objective.metrics}
    return asdict(sweep) | {"given": sweep.given, "modes": modes}


def _tune(
    sweep: Sweep,
    plan: Plan,
    store: Store,
    folder: SweepFolder,
    executor: OnRay,
    say: Callable[[str], None],
) -> None:
    from ray import tune

    fits = max(1, executor.slots // max(1, plan.config.resources_of(sweep.entry[0]).cpus))
    at_once = sweep.search.concurrency or fits
    selector = executor.selector
    selected: dict[str, Any] = {"bundle_label_selector": [selector]} if selector else {}
    trainable = tune.with_resources(
        _carried(sweep, store, folder, executor.excluded),
        tune.PlacementGroupFactory([{"CPU": 0.01}], **selected),
    )
    state = folder.path / STATE
    if _restorable(state, folder):
        tuner = tune.Tuner.restore(
            str(state), trainable, resume_unfinished=True, resume_errored=True
        )
    else:
        for path in (folder.path / "trials").glob("*.json"):
            if path.stem != DEFAULT:
                path.unlink()
        hours = sweep.search.hours
        tuner = tune.Tuner(
            trainable,
            param_space={name: _domain(d, sweep.search.kind) for name, d in sweep.space.items()},
            tune_config=tune.TuneConfig(
                search_alg=_searcher(sweep, at_once),
                scheduler=_scheduler(sweep, len(plan.cells)),
                num_samples=1 if sweep.search.kind == "grid" else sweep.search.trials,
                max_concurrent_trials=at_once,
                time_budget_s=hours and hours * 3600,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=STATE,
                storage_path=str(folder.path),
                verbose=0,
                log_to_file=False,
                callbacks=[_teller()],
                failure_config=tune.FailureConfig(max_failures=LOST),
            ),
        )
    _Told.say, _Told.folder = say, folder
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed trial is told of by us
    tuner.fit()


class _Told:
    """Where trials are told of; not part of Tune's state, which is pickled."""

    say: Callable[[str], None] = print
    folder: SweepFolder


def _teller() -> Any:
    from ray import tune

    class Teller(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self._say(trials, trial)

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self._say(trials, trial)

        def _say(self, trials: list, trial: Any) -> None:
            ended = 1 + sum(t.is_finished() for t in trials if t is not trial)
            if (record := _Told.folder.read_trial(trial.trial_id)) is None:
                _Told.say(f"trial {ended}: {trial.get_error()}")  # refused before it began
                return
            means = " ".join(f"{m}={mean:.4f}" for m, mean in record["means"].items())
            outcome = (
                record["reason"] or f"{means} after {len(record['cells'])} of {record['of']} cells"
            )
            _Told.say(f"trial {ended}: {record['settings']}: {outcome}")

    return Teller()


def _carried(
    sweep: Sweep, store: Store, folder: SweepFolder, excluded: Collection[str]
) -> Callable[[dict], None]:
    """`_trial` as it travels to actors, its arguments as bytes: it uses nothing of ours before it
    has found the driver's installation.
    """
    find = bring(_trial)
    content = pickle.dumps(
        {
            "sweep": sweep,
            "store_path": str(store.path),
            "sweep_id": folder.id,
            "excluded": sorted(excluded),
            "signed": signature(),
        }
    )

    def carry(point: dict) -> None:
        import pickle

        trial = find()
        trial(point, **pickle.loads(content))

    carry.__name__ = _trial.__name__  # by which Tune knows the searches that it continues
    return carry


def _trial(
    point: dict,
    *,
    sweep: Sweep,
    store_path: str,
    sweep_id: str,
    excluded: list[str],
    signed: dict[str, str],
) -> None:
    """What Tune runs in an actor: the cells of one point. RuntimeError where it must not."""
    from ray import tune

    if why := refusal(signed, store_path):
        raise UserError(why)
    store = Store(store_path)
    trial_id = tune.get_context().get_trial_id()
    values = sweep.point(point)

    def report(means: dict[str, float], cells: int) -> None:
        first, *others = sweep.objective.metrics
        tune.report({OBJECTIVE: means[first], **{m: means[m] for m in others}, CELLS: cells})

    _compute(sweep, trial_id, values, store, SweepFolder(store, sweep_id), excluded, report)


def _compute(
    sweep: Sweep,
    trial_id: str,
    values: dict,
    store: Store,
    folder: SweepFolder,
    excluded: Collection[str],
    report: Callable[[dict, int], None] = lambda means, cells: None,
) -> None:
    """The cells of a point in turn, on the Ray that is there; keeps the trial's record."""
    before = folder.read_trial(trial_id) or {}
    if before.get("status") == FAILED:  # Tune's next attempt, which is for lost processes
        raise UserError(before["reason"])
    record: dict[str, Any] = {
        "id": trial_id,
        "values": values,
        "settings": describe(values),
        "status": RUNNING,
        "reason": "",
        "started": before.get("started", time.time()),
        "ended": None,
        "cells": [],
        "of": 0,
        "means": {},
    }
    folder.write_trial(record)
    try:
        plan = sweep.plan(values)
        record["of"] = len(plan.cells)
        for cell in plan.cells:
            record["cells"].append(_score(sweep, plan, cell, store, excluded))
            n = len(record["cells"])
            record["means"] = {
                m: sum(c["scores"][m] for c in record["cells"]) / n for m in sweep.objective.metrics
            }
            record |= {"status": DONE if n == len(plan.cells) else RUNNING, "ended": time.time()}
            folder.write_trial(record)
            report(record["means"], n)
    except (
        ValueError,
        OSError,
        RuntimeError,
    ) as error:  # a point whose settings do not go together
        record |= {"status": FAILED, "reason": str(error), "ended": time.time()}
        folder.write_trial(record)
        raise


def _joined(plan: Plan, excluded: Collection[str]) -> OnRay:
    return OnRay(isolation=plan.config.schedule.isolation, joined=True, excluded=excluded)


def _score(sweep: Sweep, plan: Plan, cell: dict, store: Store, excluded: Collection[str]) -> dict:
    """Compute one cell, unless it is known. UserError if it fails."""
    Driver(plan.only(cell), store, _joined(plan, excluded), plan.config.schedule).run()
    result = store.result(cell["key"])
    if result is None or not result.done:
        raise UserError(f"{result.title}: {result.reason}" if result else f"{cell} has no result")
    scores = {metric: sweep.value(result, metric) for metric in sweep.objective.metrics}
    return {"key": cell["key"], "title": result.title, "scores": scores}


def _domain(domain: Domain, kind: str) -> Any:
    """A domain as Tune knows it; choices are drawn by their place in the list."""
    from ray import tune

    if domain.discrete:
        places = list(range(len(domain.choices)))
        return (
            tune.grid_search(places)
            if kind == "grid" or domain.kind == "grid"
            else tune.choice(places)
        )
    low, high = domain.ends
    if domain.kind == "uniform":
        return tune.uniform(low, high)
    if domain.kind == "loguniform":
        return tune.loguniform(low, high)
    first, beyond = int(low), int(high) + 1  # Tune's upper end is excluded
    return tune.lograndint(first, beyond) if domain.log else tune.randint(first, beyond)


def _searcher(sweep: Sweep, at_once: int) -> Any:
    from ray.tune.search import BasicVariantGenerator

    if sweep.search.kind != "tpe":
        return BasicVariantGenerator(random_state=sweep.search.seed, max_concurrent=at_once)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    first, *others = sweep.objective.metrics
    metrics, modes = [OBJECTIVE, *others], [sweep.mode(m) for m in (first, *others)]
    one = not others
    return OptunaSearch(
        metric=metrics[0] if one else metrics,
        mode=modes[0] if one else modes,
        seed=sweep.search.seed,
    )


def _scheduler(sweep: Sweep, cells: int) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule

    early = sweep.early
    common = {
        "metric": OBJECTIVE,
        "mode": sweep.mode(sweep.objective.metrics[0]),
        "time_attr": CELLS,
    }
    if early.kind == "asha":
        return ASHAScheduler(
            **common,
            max_t=max(cells, early.grace),
            grace_period=early.grace,
            reduction_factor=early.reduction,
        )
    if early.kind == "median":
        return MedianStoppingRule(**common, grace_period=early.grace, hard_stop=True)
    return FIFOScheduler()


def _conclude(sweep: Sweep, folder: SweepFolder, record: dict) -> None:
    """Name what became of every trial, and the best of those that have all their cells."""
    trials = folder.trials()
    for trial in trials:
        if trial["status"] == RUNNING:
            trial["status"] = STOPPED
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
    signs = {m: 1 if sweep.mode(m) == "max" else -1 for m in sweep.objective.metrics}
    points = [[signs[m] * trial["means"][m] for m in signs] for trial in trials]
    return [trials[i] for i in pareto_front(points)]
