"""A sweep that stops trials inside their trainings: what it saves, killed half way, without Ray."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from harness.engine.executors import LostError
from harness.engine.own_ray import children, guarded
from harness.store import DONE, Store
from harness.store.sweeps import STOPPED
from tests.test_end_to_end import relief
from tests.test_sweep_end_to_end import folder, outcome, trials

SWEEP = [str(Path(__file__).parent / "harness" / "stopped.yaml"), "--workers", "1"]


def swept(store, *more):
    return relief("sweep", *SWEEP, "--store", store, "--tracking", "none", *more)


def finish(process):
    """As that of test_end_to_end, on a busy machine: every trial starts processes."""
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = tmp_path_factory.mktemp("early")
    finish(swept(store))
    return store


def states(store):
    return [(t["status"], t["trained"]) for t in trials(store)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_poor_points_end_inside_their_trainings_and_it_is_said_what_that_saved(undisturbed):
    assert states(undisturbed)[0] == (DONE, 2)
    stopped = [t for t in trials(undisturbed) if t["status"] == STOPPED]
    assert stopped and any(t["trained"] < 1 for t in stopped)
    page = (folder(undisturbed) / "sweep.html").read_text()
    assert "trials that ended early saved" in page
    store = Store(undisturbed)
    for trial in stopped:
        effort = trial["effort"]
        assert 0 < effort["steps"] < 40 and effort["steps"] + effort["saved_steps"] == 40
        if trial["trained"] % 1:  # its state is there for whoever wants that cell
            key = next(k for k, cell, _ in trial["jobs"] if cell and not store.done(k))
            assert list(store.work(key).glob("checkpoint*.pt"))


def swept_until(trials, store, *more):
    """The sweep under way, as soon as so many of its trials have begun."""
    sweep, until = swept(store, *more), time.monotonic() + 400
    while len(list(store.glob("sweeps/*/trials/*.json"))) < trials and time.monotonic() < until:
        assert sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.05)
    return sweep


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_whose_driver_is_killed_makes_the_same_decisions(undisturbed, tmp_path):
    first = swept_until(4, tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    finish(swept(tmp_path, "--workers", 2))  # cells side by side: the same reports
    assert outcome(tmp_path) == outcome(undisturbed)
    assert sorted(states(tmp_path)) == sorted(states(undisturbed))


CLIMBING = ("early.kind=promotion", "early.reduction=2", "search.trials=6")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_points_climb_and_a_killed_search_goes_on_with_the_same_climbs(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(swept(whole, *CLIMBING))
    came = [t["trained"] for t in trials(whole) if t["id"] != "default"]
    assert sum(far < 1 for far in came) > 2 and max(came) == 2  # trainings, of two cells
    first = swept_until(5, cut, *CLIMBING)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    told = finish(swept(cut, *CLIMBING))
    assert "set aside" not in told and not (cut / "damaged").exists()
    assert outcome(cut) == outcome(whole)
    assert [(t["id"], t["trained"], t["reports"]) for t in trials(cut)] == [
        (t["id"], t["trained"], t["reports"]) for t in trials(whole)
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_that_loses_ray_ends_at_once_and_the_same_command_goes_on(undisturbed, tmp_path):
    first = swept_until(3, tmp_path)
    children(first.pid, ("raylet",))["raylet"].kill()
    since = time.monotonic()
    output = first.communicate(timeout=60)[0]
    assert time.monotonic() - since < 30 and first.returncode == 1
    assert "stopped: the local Ray is gone: its raylet died" in output
    assert "the same command goes on" in output and "Traceback" not in output
    finish(swept(tmp_path))
    assert outcome(tmp_path) == outcome(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_cells_of_a_trial_run_at_the_same_time_where_two_fit(tmp_path):
    more = ("search.trials=1", "early.kind=none", "das3d.train.steps=300")
    finish(swept(tmp_path, "--workers", "2", *more))
    store, found = Store(tmp_path), trials(tmp_path)
    assert [len(trial["cells"]) for trial in found] == [2, 2]
    for trial in found:
        times = [store.finished(cell["key"]) for cell in trial["cells"]]
        assert max(t.started for t in times) < min(t.ended for t in times)


def test_the_guard_tells_of_a_lost_ray_once_and_never_after_the_block(monkeypatch):
    monkeypatch.setattr("harness.engine.own_ray.GUARD_EVERY_S", 0.01)
    told, gone = [], threading.Event()

    def look():
        if gone.is_set():
            raise LostError("as asked")

    def lost(error):
        told.append(str(error))
        assert threading.current_thread() is not threading.main_thread()

    with guarded(look, lost):
        time.sleep(0.05)
        assert not told
        gone.set()
        until = time.monotonic() + 10
        while not told and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)
    assert told == ["as asked"]
    gone.clear()
    with guarded(look, lost):
        time.sleep(0.02)
    gone.set()
    time.sleep(0.05)
    assert told == ["as asked"]
