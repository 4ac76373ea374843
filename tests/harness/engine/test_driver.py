"""The driver with jobs in this process; tests/harness/engine/test_ray.py has the same on Ray."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from harness.engine.driver import Driver
from harness.engine.executors import CRASHED, InfeasibleError, InProcess, LostError
from harness.engine.heartbeat import Heartbeat, Pulses
from harness.engine.interrupts import interruptible
from harness.engine.outcomes import Outcome
from harness.planning.config import Schedule
from harness.planning.jobs import Resources
from harness.planning.room import Offer
from harness.store import DONE, FAILED, OUT_OF_MEMORY, SKIPPED, TIMEOUT, Store, write_json
from harness.store.processes import Process
from tests.harness import toy


def drive(store, *jobs, task=toy.task, executor=InProcess, **schedule):
    events = []
    driver = Driver(
        toy.plan(*jobs),
        store,
        executor(task),
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


class Counted(InProcess):
    """One job at a time on a node of a card and 5 GiB."""

    offers = (Offer(4, 1, 5.0, jobs=1),)

    def check(self, resources):
        pass


def test_out_of_memory_is_retried_with_twice_the_memory_up_to_the_largest_node(tmp_path):
    store = Store(tmp_path)
    summary, _ = drive(store, toy.job("big", "hungry", memory_gb=1.0), executor=Counted)
    assert toy.ran(store) == ["big 1 1", "big 2 2"]
    assert summary.counts == {DONE: 1}
    asked = []

    def always(job, path, attempt):
        asked.append((job["resources"]["memory_gb"], job["resources"]["gpus"]))
        return Outcome(job["key"], OUT_OF_MEMORY, "MemoryError")

    job = toy.job("bigger", memory_gb=2.0, gpus=0.5)
    summary, events = drive(store, job, task=always, executor=Counted)
    assert asked == [(2, 0.5), (4, 0.5), (5, 0.5)]
    assert [event for event, _ in events] == ["retry", "retry", "failed"]
    assert summary.counts == {OUT_OF_MEMORY: 1}


def test_out_of_memory_of_the_card_is_retried_first_with_twice_the_share_up_to_a_card(tmp_path):
    asked = []

    def always(job, path, attempt):
        r = job["resources"]
        asked.append((job["title"], r["gpus"], r["memory_gb"]))
        status = OUT_OF_MEMORY if job["title"] == "a" else FAILED
        return Outcome(job["key"], status, "CUDA out of memory", of_card=True)

    jobs = [toy.job("a", gpus=0.3, memory_gb=1.0), toy.job("b", gpus=0.3, memory_gb=1.0)]
    summary, _ = drive(Store(tmp_path), *jobs, task=always, executor=Counted)
    assert asked == [("a", 0.3, 1), ("a", 0.6, 1), ("a", 1.0, 1), ("b", 0.3, 1)]
    assert summary.counts == {OUT_OF_MEMORY: 1, FAILED: 1}


def test_a_failed_root_with_very_many_dependants_is_told_for_each(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(Store, "fail", lambda store, key, record: told.append(record))
    root = toy.job("root", "raise")
    jobs = [root, toy.job("next 0", needs=(root,))]
    for i in range(1, 5000):  # one after another, deeper than the stack
        jobs.append(toy.job(f"next {i}", needs=(jobs[-1],)))
    summary, _ = drive(Store(tmp_path), *jobs)
    assert summary.counts == {FAILED: 1, SKIPPED: 5000}
    assert {r["reason"] for r in told[1:]} == {
        "needs 'root', which ended as failed: ValueError: as asked"
    }


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


class Stub:
    """An executor whose jobs never answer; tests say what their workers do."""

    name = "us"
    offers = (Offer(4),)

    def __init__(self, store, publish=(), lost=0):
        self.store, self.publish, self.lost = store, list(publish), lost
        self.jobs, self.calls = {}, []

    def check(self, resources):
        pass

    def submit(self, job, store_path, attempt):
        self.jobs[job.key] = job
        self.calls.append(("submit", job.title, attempt))

    def poll(self, timeout):
        time.sleep(0.01)
        if self.lost:
            self.lost -= 1
            raise LostError("the stub is gone")
        for job in self.jobs.values():
            if job.title in self.publish and not self.store.done(job.key):
                toy.publish(self.store, job.describe()) if self.store.work(job.key) else None
        return []

    def forget(self, key):
        self.calls.append(("forget", self.jobs[key].title))

    def end(self, process, node):
        self.calls.append(("end", process.pid, node))
        return False

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, *args))


def watch(store, stub, *jobs, **schedule):
    events = []
    driver = Driver(toy.plan(*jobs), store, stub, Schedule(**schedule), events.append)
    return driver.run(), events


@pytest.fixture
def quick(monkeypatch):
    for name, value in {"POLL_S": 0.02, "LOOK_S": 0.1, "BELIEVE_S": 0.2, "KILL_S": 0.2}.items():
        monkeypatch.setattr(f"harness.engine.driver.{name}", value)


def beat(store, job, **about):
    """A sign of life of a process that is not of this machine, and will not beat again."""
    told = {"host": "elsewhere", "pid": 7, "born": 1, "node": "n1", "driver": "us", **about}
    write_json(store.alive / f"{job.key}-elsewhere-7.json", told)


def test_a_result_in_the_store_is_believed_though_nobody_says_so(tmp_path, quick):
    a, b = toy.job("a"), toy.job("b")
    store, jobs = Store(tmp_path), (a, toy.job("after a", needs=(a,)), b)
    stub = Stub(store, publish=["a", "after a", "b"])
    summary, _ = watch(store, stub, *jobs)
    assert summary.counts == {DONE: 3}
    assert [call for call in stub.calls if call[0] == "submit"][-1] == ("submit", "after a", 1)


def test_a_silent_job_is_ended_and_tried_again_elsewhere_a_bounded_number_of_times(tmp_path, quick):
    store, job = Store(tmp_path), toy.job("a")
    stub = Stub(store)
    stub.submit = lambda job, path, attempt: (
        stub.jobs.update({job.key: job}),
        stub.calls.append(("submit", attempt)),
        beat(store, job, attempt=attempt),
    )
    summary, events = watch(store, stub, job, silence_minutes=0.5 / 60, retries=1)
    assert [event.name for event in events] == ["retry", "failed"]
    assert "no sign of life from process 7 of elsewhere" in events[0].reason
    assert summary.counts == {FAILED: 1}
    assert ("end", 7, "n1") in stub.calls and ("avoid", job.key, "n1") in stub.calls


def test_a_job_over_its_time_ends_though_its_worker_does_not_answer(tmp_path, quick):
    store, job = Store(tmp_path), toy.job("a", hours=0.3 / 3600)
    stub = Stub(store)
    stub.submit = lambda job, path, attempt: (stub.jobs.update({job.key: job}), beat(store, job))
    summary, events = watch(store, stub, job)
    assert summary.counts == {TIMEOUT: 1}
    assert "over its time limit" in events[0].reason
    assert ("cancel", job.key) in stub.calls


def test_jobs_of_a_lost_ray_are_submitted_again_and_keep_their_attempts(tmp_path, quick):
    store = Store(tmp_path)
    stub = Stub(store, publish=["a"], lost=1)
    summary, events = watch(store, stub, toy.job("a"), reconnect_minutes=3)
    assert summary.counts == {DONE: 1}
    assert [event.name for event in events] == ["lost", "back", DONE]
    assert "the stub is gone" in events[0].reason and "1 jobs under way" in events[0].reason
    assert [c for c in stub.calls if c[0] == "submit"] == [("submit", "a", 1)] * 2
    assert ("rejoin", 3) in stub.calls


def test_a_wait_for_another_launch_is_told_once_and_shown(tmp_path, quick):
    store, jobs = Store(tmp_path), (toy.job("a"), toy.job("b"))
    stub, shown, ends = Stub(store), set(), time.monotonic() + 1.5

    def submit(job, path, attempt):
        stub.jobs[job.key] = job
        beat(store, job, state="waiting")

    def tick(running):
        shown.update(r.progress["phase"] for r in running.values() if r.progress)
        if time.monotonic() > ends:
            stub.publish = ["a", "b"]

    stub.submit = submit
    events = []
    with store.lock(jobs[0].key):
        Driver(toy.plan(*jobs), store, stub, Schedule(), events.append).run(tick)
    assert [event.name for event in events] == ["waiting", DONE, DONE]
    assert any("waiting for the lock held by process" in phase for phase in shown)


def test_a_job_beats_while_it_runs_and_whoever_waits_for_it_is_told_by_whom_it_is_held(tmp_path):
    store, told = Store(tmp_path), []
    with Heartbeat(store, "k") as heart:
        first = heart.path.read_bytes()
        heart.state("waiting")
        assert heart.path.read_bytes() != first
        code = (
            "import sys; from harness.store import Store\n"
            "waits = lambda key, holder: print(key, holder, flush=True)\n"
            "with Store(sys.argv[1]).lock('k', waits=waits): pass"
        )
        with store.lock("k"):
            waiter = subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
            )
            told = waiter.stdout.readline()
    assert waiter.wait(20) == 0
    assert told.startswith(f"k process {os.getpid()} of ") and "since 20" in told
    assert not list(store.alive.iterdir()) and store.holder("k") is None


def test_a_process_that_dies_after_the_last_look_at_its_job_leaves_no_trace(tmp_path):
    store, pulses = Store(tmp_path), Pulses(Store(tmp_path))
    dying = subprocess.Popen(["sleep", "60"])
    own = Process.own()
    write_json(
        store.alive / f"k-{own.host}-{dying.pid}.json", own.plain() | {"pid": dying.pid, "born": 0}
    )
    pulses.begin("k")  # as a retry, while a killed process is still being taken down
    dying.kill()
    dying.wait()
    pulses.end("k")  # before anybody looked again
    assert not list(store.alive.iterdir())
