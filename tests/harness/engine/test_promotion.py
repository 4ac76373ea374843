"""Halving by promotion: the published algorithm, Tune's points, and what a killed search knows."""

import random

import pytest

pytest.importorskip("ray")
from ray import tune
from ray.tune.search import Searcher

from harness.engine import tuning
from harness.engine.promotion import Promotion, points_of, rungs
from harness.engine.trial import OBJECTIVE, POINT, TRAINED, UNTIL, as_told
from harness.planning.config import ConfigError
from harness.planning.space import load
from tests.harness.engine.test_trial import FILE

STEPS = (0.5, 1.0, 1.5, 2.0)  # trainings after which a point reports


def curves(points, seed=0):
    rng = random.Random(seed)
    return {str(n): [rng.random() for _ in STEPS] for n in range(1, points + 1)}


def climb(search, curve, steps, most=1000):
    """Run one by one what it suggests -> (point, trainings) of each."""
    found = []
    while len(found) < most:
        given = search.suggest(trial := str(len(found)))
        if given == Searcher.FINISHED:
            break
        found.append((given[POINT], given[UNTIL]))
        for trained, value in zip(steps, curve[given[POINT]]):
            if trained > given[UNTIL]:
                break
            told = as_told(value, trained)
            search.on_trial_result(trial, told | {f"config/{POINT}": given[POINT]})
        search.on_trial_complete(trial)
    return found


def published(curve, ladder, reduction):
    """Algorithm 2 of Li et al. (2020), one worker. curve: of each point its value at every rung"""
    reached, promoted, found = [[] for _ in ladder], [set() for _ in ladder], []
    while True:
        for k in reversed(range(len(ladder) - 1)):
            best = sorted(reached[k], key=lambda p: -curve[p][k])[: len(reached[k]) // reduction]
            if left := [p for p in best if p not in promoted[k]]:
                promoted[k].add(left[0])
                job = left[0], k + 1
                break
        else:
            if len(reached[0]) == len(curve):
                return found
            job = str(len(reached[0]) + 1), 0
        reached[job[1]].append(job[0])
        found.append((job[0], ladder[job[1]]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_points_climb_as_the_published_algorithm_says(reduction, seed):
    curve = curves(32, seed)
    found = climb(Promotion([{}] * 32, STEPS, reduction, 1), curve, STEPS)
    oracle = published(curve, STEPS, reduction)
    assert found[: len(oracle)] == oracle
    # where no rung has enough points to choose one, the best of the highest goes on to the end
    assert all(until > STEPS[0] for _, until in found[len(oracle) :])
    assert max(until for _, until in found) == STEPS[-1]


def test_less_is_better_where_it_is_said():
    curve = curves(9)
    ends = [climb(Promotion([{}] * 9, STEPS[:2], 3, sign), curve, STEPS[:2]) for sign in (1, -1)]
    worst = max(curve, key=lambda p: curve[p][0])
    assert (worst, 1.0) in ends[0] and (worst, 1.0) not in ends[1]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_search_that_is_told_of_the_records_goes_on_as_it_would_have(cut):
    curve = curves(16)
    whole = climb(Promotion([{}] * 16, STEPS, 3, 1), curve, STEPS)
    first = climb(Promotion([{}] * 16, STEPS, 3, 1), curve, STEPS, most=min(cut, len(whole)))
    far = {}
    for point, until in first:
        far[point] = until
    records = {p: [[t, v] for t, v in zip(STEPS, curve[p]) if t <= far[p]] for p in sorted(far)}
    again = Promotion([{}] * 16, STEPS, 3, 1)
    again.known(records)
    assert first + climb(again, curve, STEPS) == whole


def test_a_point_that_failed_does_not_climb_and_nobody_waits_for_it():
    search = Promotion([{}, {}], STEPS, 2, 1)
    assert search.suggest("a")[POINT] == "1" and search.suggest("b")[POINT] == "2"
    assert search.suggest("c") is None  # waits for both
    search.on_trial_complete("a", error=True)
    for trained, value in zip(STEPS[:1], (0.5,)):
        told = as_told(value, trained) | {f"config/{POINT}": "2"}
        search.on_trial_result("b", told)
    search.on_trial_complete("b")
    assert search.suggest("c") == {POINT: "2", UNTIL: 1.0}  # the best that there is


def test_rungs_rise_to_the_whole_point():
    assert rungs(0.5, 2, 6) == [0.5, 1, 2, 4, 6]
    assert rungs(1, 3, 1) == [1]
    assert rungs(0.1, 2, 1) == [0.1, 0.2, 0.4, 0.8, 1]


def test_the_points_are_those_that_tune_draws_for_other_searches():
    from ray.tune.search import BasicVariantGenerator

    space = {
        "a": tune.uniform(0, 1),
        "b": tune.grid_search([1, 2]),
        "c": tune.choice([0, 1, 2]),
        "d": tune.loguniform(1e-5, 1e-2),
    }
    usual = BasicVariantGenerator(random_state=3)
    usual.add_configurations(
        [tune.Experiment("e", run=lambda config: None, config=space, num_samples=4)]
    )
    theirs = []
    while (trial := usual.next_trial()) is not None:
        theirs.append(trial.config)
    assert len(theirs) == 8 and points_of(space, 4, 3) == theirs


def test_promotion_is_for_points_that_are_drawn_beforehand():
    sweep = load(FILE, ["early.kind=promotion"])
    assert sweep.climbs and sweep.id(sweep.plan({})) != load(FILE).id(load(FILE).plan({}))
    with pytest.raises(ConfigError, match="search.kind=random"):
        load(FILE, ["early.kind=promotion", "search.kind=tpe"])


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_restored_scheduler_is_told_what_ended_trials_had_reported(kind, monkeypatch):
    class One:
        TERMINATED = "TERMINATED"

        def __init__(self, trial_id, status):
            self.trial_id, self.status = trial_id, status

    class Records:
        def read_trial(self, trial_id):
            values = {"a": 0.9, "b": 0.8, "c": 0.7}
            return {"reports": [[t, values[trial_id]] for t in STEPS]}

    monkeypatch.setattr(tuning._Told, "folder", Records(), raising=False)
    decisions = []
    for status in ("TERMINATED", "PENDING"):
        scheduler = tuning._scheduler(load(FILE, [f"early.kind={kind}", "early.reduction=2"]))
        for trial_id in "abc":
            scheduler.on_trial_add(None, One(trial_id, status))
        poor = One("d", "PENDING")
        scheduler.on_trial_add(None, poor)
        told = {OBJECTIVE: 0.1, TRAINED: 500, "training_iteration": 1, "time_total_s": 1}
        decisions.append(scheduler.on_trial_result(None, poor, told))
    assert decisions == ["STOP", "CONTINUE"]  # after a restore; of a search that just began
