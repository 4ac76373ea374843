"""Looks at a training change nothing of it; the best look's network is kept where that is asked."""

import random

import numpy as np
import pytest
import torch

import methods
from methods.blocks.watch import look_steps, undisturbed
from methods.contract import Run, Validation
from methods.validation import Look, chosen
from tests.methods.tiny import CATEGORY, SAMPLES, Killed, Stages, same_weights, tiny_of

TRAINED = [(name, setting) for name in ("das3d", "3dsr", "dbrn") for setting in ("rgb", "rgb+3d")]
NAMES = ("das3d", "3dsr", "dbrn")
CHANGES = {"dbrn": {"train__norm_batches": 2}}  # statistics that are settled for every look


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """(name, setting, validation of a method) -> the fitted method."""
    samples = {name: SAMPLES[name]() for name in NAMES}
    stages = {name: Stages(name, samples[name], tmp_path_factory.mktemp) for name in NAMES}

    def fitted(name, setting="rgb+3d", looking=lambda method: None, **run):
        settings = tiny_of(name, **CHANGES.get(name, {}))
        given = Run(category=CATEGORY, stages=stages[name](settings, setting), **run)
        method = methods.get(name)(settings, setting, given)
        given.validation = looking(method)
        method.fit(samples[name], samples[name])
        return method

    fitted.samples = samples
    return fitted


def scores_of(samples, method):
    """A score that depends on all weights and statistics, and takes random numbers of all kinds."""
    found = method.predict(samples.batch(range(3)))
    random.random(), np.random.rand(2), torch.rand(3)
    return {"i_auroc": float(found.scores.double().sum()), "p_auroc": float(found.maps.std())}


def looking(fit, name, **options):
    every = options.pop("every", 0.5)
    return lambda method: Validation(lambda: scores_of(fit.samples[name], method), every, **options)


@pytest.mark.parametrize(("name", "setting"), TRAINED)
def test_a_training_that_is_looked_at_ends_in_the_same_bits(fit, name, setting):
    plain = fit(name, setting)
    watched = fit(name, setting, looking(fit, name, every=0.25))
    assert same_weights(plain, watched)
    looks = watched.run.validation.looks
    assert len(looks) == 4 * len({look.phase for look in looks})
    assert looks[-1].share == 1 and looks[-1].step == looks[-1].total
    assert [look.share for look in looks] == sorted({look.share for look in looks})
    assert looks[-1].metrics == scores_of(fit.samples[name], watched)  # as it is tested


def test_a_look_on_the_way_sees_the_network_of_that_step(fit, monkeypatch):
    on_the_way = fit("das3d", looking=looking(fit, "das3d")).run.validation.looks[0]
    seen = []

    def stop(progress):
        if progress.step == on_the_way.step:
            raise Killed

    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    with pytest.raises(Killed):
        fit("das3d", looking=seen.append, report=stop)
    seen[0].net.eval()
    assert scores_of(fit.samples["das3d"], seen[0]) == on_the_way.metrics


@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_training_that_is_killed_while_it_is_looked_at_takes_that_look_again(fit, tmp_path, nth):
    """A checkpoint of that very step, without the look, would be gone on from."""
    whole = fit("das3d", looking=looking(fit, "das3d", every=0.25)).run.validation
    calls = []

    def dying(method):
        def score():
            calls.append(1)
            if len(calls) == nth:
                raise Killed
            return scores_of(fit.samples["das3d"], method)

        return Validation(score, 0.25)

    run = {"folder": tmp_path, "checkpoint_every_s": 0.0}
    with pytest.raises(Killed):
        fit("das3d", looking=dying, **run)
    again = fit("das3d", looking=looking(fit, "das3d", every=0.25), **run)
    assert again.run.validation.looks == whole.looks


def test_random_numbers_after_a_look_are_those_without_it():
    def drawn():
        return random.random(), np.random.rand(), float(torch.rand(()))

    def seed():
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    seed()
    without = drawn()
    seed()
    with undisturbed(torch.device("cpu")):
        drawn()
    assert drawn() == without


@pytest.mark.parametrize(("name", "setting"), TRAINED)
def test_a_killed_training_goes_on_to_the_same_looks_and_the_same_choice(
    fit, name, setting, tmp_path
):
    told = []

    def kill(looks):
        told.append(looks)
        if len(looks) == 3:
            raise Killed

    every, by = 0.25, "p_auroc"
    whole = fit(name, setting, looking(fit, name, every=every, choose_by=by))
    with pytest.raises(Killed):
        watched = looking(fit, name, every=every, choose_by=by, tell=kill)
        fit(name, setting, watched, folder=tmp_path, checkpoint_every_s=1e9)
    again = fit(name, setting, looking(fit, name, every=every, choose_by=by), folder=tmp_path)
    assert again.run.validation.looks == whole.run.validation.looks
    assert again.run.validation.looks[:3] == list(told[-1])
    assert same_weights(again, whole)


@pytest.mark.parametrize(("name", "setting"), TRAINED)
def test_the_network_that_is_kept_has_the_scores_of_the_best_look(fit, name, setting):
    for sign in (1, -1):  # the best by one of them is not the last

        def signed(method, sign=sign):
            found = looking(fit, name, every=0.25, choose_by="p_auroc")(method)
            score = found.score
            found.score = lambda: {k: sign * v for k, v in score().items()}
            return found

        method = fit(name, setting, signed)
        best = chosen(method.run.validation.looks, "p_auroc")
        own = scores_of(fit.samples[name], method)
        assert best.metrics == {k: sign * v for k, v in own.items()}
        assert not method.net.training


def test_looks_are_evenly_spread_and_the_last_step_is_one():
    assert sorted(look_steps(300, 0.1)) == list(range(30, 301, 30))
    assert sorted(look_steps(7, 0.1)) == list(range(1, 8))
    assert sorted(look_steps(10, 0.3)) == [3, 7, 10]
    assert list(look_steps(32, 0.1).values()) == [i / 10 for i in range(1, 11)]
    assert look_steps(0, 0.1) == {}


def look(phase, step, value):
    return Look(phase, step, 10, step / 10, {"m": value})


def test_of_equal_looks_the_latest_is_chosen_and_undefined_ones_are_the_worst():
    assert chosen([look("a", 1, 0.5), look("a", 2, 0.5), look("a", 3, 0.4)], "m").step == 2
    assert chosen([look("a", 1, 0.5), look("a", 2, float("nan"))], "m").step == 1
    assert chosen([look("a", 1, 0.9), look("b", 2, 0.5)], "m").phase == "b"
