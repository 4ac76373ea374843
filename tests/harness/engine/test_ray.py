"""The driver on a real local Ray: crashes, time limits, impossible requests."""

import pytest

from harness.engine.driver import Driver
from harness.engine.executors import InfeasibleError
from harness.engine.on_ray import OnRay
from harness.planning.config import Schedule
from harness.store import DONE, FAILED, TIMEOUT, Store
from tests.harness import toy


def drive(store, *jobs, **schedule):
    executor = OnRay(cpus=2, gpus=0, task=toy.task)
    return Driver(toy.plan(*jobs), store, executor, Schedule(**schedule)).run()


def test_crashing_exiting_hanging_and_good_jobs_all_end_as_they_should(tmp_path):
    store = Store(tmp_path)
    jobs = {
        "crash": toy.job("crash", "crash"),
        "once": toy.job("once", "crash once"),
        "broken": toy.job("broken", "broken once"),
        "exit": toy.job("exit", "exit"),
        "hang": toy.job("hang", "hang", hours=3 / 3600),
        "raise": toy.job("raise", "raise"),
        **{f"good{i}": toy.job(f"good{i}") for i in range(4)},
    }
    summary = drive(store, *jobs.values(), retries=1)
    status = {name: store.result(job.key).status for name, job in jobs.items()}
    assert status["crash"] == FAILED and "Crashed" in store.result(jobs["crash"].key).reason
    assert status["exit"] == FAILED
    assert status["hang"] == TIMEOUT
    assert status["raise"] == FAILED
    assert status["broken"] == DONE  # in another process; its attempt is 2 if it came as that ended
    assert [status["once"], *(status[f"good{i}"] for i in range(4))] == [DONE] * 5
    attempts = [line.split()[:2] for line in toy.ran(store)]
    assert attempts.count(["crash", "1"]) == attempts.count(["crash", "2"]) == 1
    assert summary.counts[DONE] == 6


def test_impossible_requests_are_refused_at_once_with_the_resource_named(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(InfeasibleError, match="64 CPUs.*the nodes have: 2 CPUs, 0 GPUs"):
        drive(store, toy.job("wide", cpus=64))
    with pytest.raises(InfeasibleError, match="1 GPUs"):
        drive(store, toy.job("fast", gpus=1.0))
    assert toy.ran(store) == []


@pytest.mark.parametrize("folder", ["/proc/nothing", "x" * 100])
def test_a_start_that_cannot_succeed_is_tried_once(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / folder))
    with pytest.raises(OSError, match="No such file|AF_UNIX"):
        OnRay(cpus=1, gpus=0, task=toy.task)
    assert "ray_start" not in capsys.readouterr().out
