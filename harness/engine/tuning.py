"""A search by Ray Tune: points, schedulers, what continues a killed one; trials as it runs them."""

from __future__ import annotations

import itertools
import json
import logging
import math
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.engine.code import bring, refusal, signature
from harness.engine.on_ray import OnRay
from harness.engine.trial import (
    OBJECTIVE,
    POINT,
    THOUSANDTHS,
    TRAINED,
    UNTIL,
    Site,
    as_told,
    compute,
)
from harness.metrics.shown import told
from harness.planning.space import Domain, Sweep
from harness.store import Store
from harness.store.sweeps import RUNNING, STATE, STOPPED, SweepFolder, drawn
from methods.errors import UserError

COORDINATOR = {"memory": 1.0}  # bytes: of CPUs a trial takes nothing, so that a job gets whole ones
PICKLED = b"\x80"  # what a pickle begins with, and no JSON
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


def search(
    sweep: Sweep,
    store: Store,
    folder: SweepFolder,
    record: dict[str, Any],
    executor: OnRay,
    fits: int,
    say: Callable[[str], None],
) -> None:
    """All trials but that of the unchanged settings; goes on with those of a killed search.

    record: of the sweep, which keeps the trials' order; fits: how many cells run at a time, which
    trials share alike; say: takes a line about each trial
    """
    from ray import tune

    at_once = min(sweep.search.concurrency or fits, sweep.points)
    site = Site(sorted(executor.excluded), max(1, fits // at_once))
    selector = executor.selector
    selected: dict[str, Any] = {"bundle_label_selector": [selector]} if selector else {}
    trainable = tune.with_resources(
        _carried(sweep, store, folder, site),
        tune.PlacementGroupFactory([COORDINATOR], **selected),
    )
    _Told.say, _Told.folder, _Told.record = say, folder, record
    tuner = None if sweep.climbs else _restored(folder, trainable)
    tuner = tuner or _begun(sweep, folder, record, trainable, at_once)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed trial is told of by us
    tuner.fit()


def _restored(folder: SweepFolder, trainable: Any) -> Any:
    """A tuner that goes on from Tune's state, if there is one that it can read."""
    from ray import tune

    state = folder.path / STATE
    known = _restorable(state, folder)
    if known is None:
        return None
    for path in folder.trial_files():
        if path.stem not in known:
            path.unlink()  # drawn after the state was written: it is drawn again
    return tune.Tuner.restore(str(state), trainable, resume_unfinished=True, resume_errored=True)


def _begun(
    sweep: Sweep, folder: SweepFolder, record: dict[str, Any], trainable: Any, at_once: int
) -> Any:
    """A tuner that draws all points; of those that climb, the records know how far they came."""
    from ray import tune

    record.pop("order", None)
    space = {name: _domain(d, sweep.search.kind) for name, d in sweep.space.items()}
    times = 1 if sweep.search.kind == "grid" else sweep.search.trials
    if sweep.climbs:
        searcher = _climbing(sweep, space, times, folder)
        space, times = {}, -1  # it draws them itself, and says when it has ended
    else:
        searcher = _searcher(sweep, at_once)
        for path in folder.trial_files():
            path.unlink()
    hours = sweep.search.hours
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_scheduler(sweep),
            num_samples=times,
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


class _Told:
    """Where trials are told of; not part of Tune's state, which is pickled."""

    say: Callable[[str], None] = print
    folder: SweepFolder
    record: dict[str, Any]


def _teller() -> Any:
    from ray import tune

    class Teller(tune.Callback):
        def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            order = _points(trials)  # as they were drawn
            if _Told.record.get("order") != order:
                _Told.record["order"] = order
                _Told.folder.write(_Told.record)

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self._say(trials, trial)

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self._say(trials, trial)

        def _say(self, trials: list, trial: Any) -> None:
            point = _point(trial)
            number = 1 + _points(trials).index(point)
            if (record := _Told.folder.read_trial(point)) is None:
                _Told.say(f"trial {number}: {trial.get_error()}")  # refused before it began
                return
            if record["status"] == RUNNING:  # until it climbs, if it does
                _Told.folder.write_trial(record := record | {"status": STOPPED})
            means = ", ".join(told(m, mean) for m, mean in record["means"].items())
            after = f"{record['trained']:.3g} of {record['of']} cells"
            outcome = record["reason"] or f"{means} after {after}"
            _Told.say(f"trial {number}: {record['settings']}: {outcome}")

    return Teller()


def _point(trial: Any) -> str:
    """The id of the record that a trial of Tune's is of: several may be of one that climbs."""
    return trial.config.get(POINT, trial.trial_id)


def _points(trials: list) -> list[str]:
    return list(dict.fromkeys(map(_point, trials)))


def _carried(sweep: Sweep, store: Store, folder: SweepFolder, site: Site) -> Callable[[dict], None]:
    """`_trial` as it travels to actors, its arguments as bytes: it uses nothing of ours before it
    has found the driver's installation.
    """
    find = bring(_trial)
    content = pickle.dumps(
        {
            "sweep": sweep,
            "store_path": str(store.path),
            "sweep_id": folder.id,
            "site": site,
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
    site: Site,
    signed: dict[str, str],
) -> None:
    """What Tune runs in an actor: the cells of one point. RuntimeError where it must not."""
    from ray import tune

    if why := refusal(signed, store_path):
        raise UserError(why)
    store = Store(store_path)
    trial_id = point.get(POINT) or tune.get_context().get_trial_id()

    def report(means: Mapping[str, float], trained: float) -> None:
        first, *others = sweep.objective.metrics
        tune.report(as_told(means[first], trained) | {m: means[m] for m in others})

    folder = SweepFolder(store, sweep_id)
    until = point.get(UNTIL, math.inf)
    compute(sweep, trial_id, sweep.point(point), store, folder, site, report, until=until)


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


def _climbing(sweep: Sweep, space: dict[str, Any], times: int, folder: SweepFolder) -> Any:
    from harness.engine.promotion import Promotion, points_of, rungs

    found = Promotion(
        points_of(space, times, sweep.search.seed),
        rungs(sweep.grace, sweep.early.reduction, len(sweep.plan({}).cells)),
        sweep.early.reduction,
        sweep.sign(sweep.objective.metrics[0]),
    )
    found.known({trial["id"]: trial.get("reports", []) for trial in drawn(folder.trials())})
    shutil.rmtree(folder.path / STATE, ignore_errors=True)  # Tune's, which says nothing of rungs
    return found


def _scheduler(sweep: Sweep) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule

    early, grace = sweep.early, max(1, round(THOUSANDTHS * sweep.grace))
    common = {
        "metric": OBJECTIVE,
        "mode": sweep.mode(sweep.objective.metrics[0]),
        "time_attr": TRAINED,
    }
    if early.kind == "asha":
        whole = THOUSANDTHS * len(sweep.plan({}).cells)
        return _recalling(ASHAScheduler)(
            **common,
            max_t=max(whole, grace),
            grace_period=grace,
            reduction_factor=early.reduction,
        )
    if early.kind == "median":
        return _recalling(MedianStoppingRule)(
            **common,
            grace_period=grace,
            min_time_slice=math.inf,  # pyrefly: ignore[bad-argument-type]
            #   never pause a trial for others: it would begin again
            hard_stop=True,
        )
    return FIFOScheduler()


def _recalling(kind: type) -> type:
    """A scheduler of Tune that is told again, when its search goes on after a kill, what the trials
    reported that had ended: Tune keeps no state of schedulers.
    """

    class Recalling(kind):
        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            super().on_trial_add(tune_controller, trial)
            if trial.status != trial.TERMINATED:
                return  # it reports all again
            record = _Told.folder.read_trial(trial.trial_id) or {}
            report = {}
            for trained, value in record.get("reports", ()):
                report = as_told(value, trained)
                super().on_trial_result(tune_controller, trial, report)
            if report:
                super().on_trial_complete(tune_controller, trial, report)

    return Recalling


def _restorable(state: Path, folder: SweepFolder) -> set[str] | None:
    """The trials of Tune's state, if it can go on from there; what it cannot read is set aside.

    Tune itself goes on with the rest where one of its files is torn, and draws other points.
    """
    if not state.exists():
        return None
    try:
        return _read_state(state, folder)
    except Exception as error:  # whatever unpickling raises, also for modules that are no more
        why = f"{state} cannot be read ({type(error).__name__}: {error})".splitlines()[0]
        folder.set_aside(state, why + ANEW)
        return None


def _read_state(state: Path, folder: SweepFolder) -> set[str]:
    """Read all that Tune would, and give its trials' ids.

    Raises what that raises, ValueError for what does not fit.
    """
    from ray.tune.experiment import Trial

    found = {kind: sorted(state.glob(f"{kind}-*")) for kind in STATE_FILES}
    if missing := [kind for kind in STATE_FILES[:1] if not found[kind]]:
        raise ValueError(f"it has no {', '.join(missing)}")
    if not any(found[kind] for kind in STATE_FILES[1:]):
        raise ValueError("it has no state of the search")
    for path in (state / "tuner.pkl", *itertools.chain(*found.values())):
        data = path.read_bytes()
        pickled = path.suffix == ".pkl" or data.startswith(PICKLED)  # some are, and called .json
        pickle.loads(data) if pickled else json.loads(data)
    newest = json.loads(found[STATE_FILES[0]][-1].read_bytes())
    # as stubs, since what they run is not registered yet
    trials = [Trial.from_json_state(text, stub=True) for text, _ in newest["trial_data"]]
    kept = {trial["id"] for trial in folder.trials()}
    for trial in trials:
        if trial.status == Trial.TERMINATED and trial.trial_id not in kept:
            raise ValueError(f"it has a trial {trial.trial_id} that is not in {folder.id}/trials")
    return {trial.trial_id for trial in trials}
