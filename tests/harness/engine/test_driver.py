"""The driver with jobs in this process; tests/harness/engine/test_ray.py has the same on Ray."""

import signal
from contextlib import suppress

import pytest

from harness.engine.driver import Driver
from harness.engine.executors import CRASHED, InfeasibleError, InProcess
from harness.engine.interrupts import interruptible
from harness.engine.outcomes import Outcome
from harness.planning.config import Schedule
from harness.planning.jobs import Resources
from harness.store import DONE, FAILED, OUT_OF_MEMORY, SKIPPED, Store
from tests.harness import toy


def drive(store, *jobs, task=toy.task, **schedule):
    events = []
    driver = Driver(
        toy.plan(*jobs),
        store,
        InProcess(task),
        Schedule(**schedule),
        lambda event: events.append((event.name, event.job.title)),
    )
    return driver.run(), events


def test_a_job_runs_after_all_it_needs(tmp_path):
    a = toy.job("a")
    b = toy.job("b", needs=(a,))
    c = toy.job("c", needs=(a, b))
    store = Store(tmp_path)
    summary, _ = drive(store, a, b, c)
    assert [line.split()[0] for line in toy.ran(store)] == ["a", "b", "c"]
    assert summary.counts == {DONE: 3}


def test_what_is_done_is_not_done_again(tmp_path):
    store, jobs = Store(tmp_path), (toy.job("a"), toy.job("b"))
    drive(store, *jobs)
    summary, _ = drive(store, *jobs, toy.job("c"))
    assert [line.split()[0] for line in toy.ran(store)] == ["a", "b", "c"]
    assert summary.counts == {DONE: 1}


def test_a_failing_job_spares_the_others_and_its_dependants_say_why_they_were_skipped(tmp_path):
    bad = toy.job("bad", "raise")
    child = toy.job("child", needs=(bad,))
    grandchild = toy.job("grandchild", needs=(child,))
    store = Store(tmp_path)
    summary, _ = drive(store, bad, child, grandchild, toy.job("good"))
    assert summary.counts == {FAILED: 1, SKIPPED: 2, DONE: 1}
    assert store.result(bad.key).reason == "ValueError: as asked"
    assert "needs 'bad', which ended as failed: ValueError" in store.result(child.key).reason
    assert store.result(grandchild.key).status == SKIPPED
    assert len(toy.ran(store)) == 2


def test_failed_jobs_are_tried_again_by_the_next_launch(tmp_path):
    store, jobs = Store(tmp_path), (toy.job("bad", "raise"),)
    drive(store, *jobs)
    drive(store, *jobs)
    assert toy.ran(store) == ["bad 1 0.1", "bad 1 0.1"]


def test_crashes_are_retried_a_bounded_number_of_times(tmp_path):
    store, calls = Store(tmp_path), []

    def crash(job, path, attempt):
        calls.append(attempt)
        return Outcome(job["key"], CRASHED, "worker died")

    summary, events = drive(store, toy.job("a"), task=crash, retries=2)
    assert calls == [1, 2, 3]
    assert events == [("retry", "a"), ("retry", "a"), ("failed", "a")]
    assert summary.failures[0].attempt == 3 and summary.failures[0].status == FAILED


def test_out_of_memory_is_retried_once_with_twice_the_memory(tmp_path):
    store = Store(tmp_path)
    summary, _ = drive(store, toy.job("big", "hungry", memory_gb=1.0))
    assert toy.ran(store) == ["big 1 1", "big 2 2"]
    assert summary.counts == {DONE: 1}

    def always(job, path, attempt):
        return Outcome(job["key"], OUT_OF_MEMORY, "MemoryError")

    summary, events = drive(store, toy.job("bigger"), task=always)
    assert [event for event, _ in events] == ["retry", "failed"]
    assert summary.counts == {OUT_OF_MEMORY: 1}


def test_a_job_that_no_machine_can_run_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    store = Store(tmp_path)
    with pytest.raises(InfeasibleError, match="1 GPUs.*no GPU.*resources.default.gpus=0"):
        drive(store, toy.job("a"), toy.job("b", gpus=1.0))
    assert toy.ran(store) == []


def test_resources_do_not_enter_the_key():
    assert toy.job("a", memory_gb=1).key == toy.job("a", memory_gb=9).key
    assert Resources() == Resources()


def test_only_what_is_needed_is_pending(tmp_path):
    a = toy.job("a")
    store, plan = Store(tmp_path), toy.plan(a, toy.job("b", needs=(a,)))
    assert [j.title for j in plan.pending(store)] == ["a", "b"]
    toy.publish(store, {"key": a.key, "spec": a.spec, "title": "a"}) if store.work(a.key) else None
    assert [j.title for j in plan.pending(store)] == ["b"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_drops_still_ends_the_launch(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible() as check:
        check()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(number) is before
