"""relief status: launches by name, and the live picture from files."""

import io
import json
import os
import re
import signal
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.cli import launch, watch
from harness.cli.display import Display
from harness.cli.status import INTERRUPTED, RUNNING, SILENT_S, States
from harness.engine.driver import Driver, Running
from harness.engine.executors import InProcess
from harness.engine.heartbeat import Heartbeat
from harness.engine.live import Live, file_of
from harness.planning.config import Schedule
from harness.planning.costs import DEMO, Durations
from harness.planning.jobs import Resources
from harness.planning.outlook import Outlook, side_by_side
from harness.planning.room import Offer
from harness.store import DONE, Store, write_json
from harness.store.at_work import at_work, lock_of
from harness.store.processes import Process
from tests.harness import toy
from tests.harness.cli.test_cli import relief
from tests.harness.conftest import TINY, planned


def test_a_launch_is_shown_by_its_name_or_the_beginning_of_it(capsys, monkeypatch, tiny_store):
    where = ("--store", tiny_store.path)
    launch = planned().launch_id
    for name in (launch, launch[:-3]):
        code, out, _ = relief(capsys, monkeypatch, "status", name, *where)
        assert code == 0 and launch in out and out.count("done") == len(planned().cells)
    code, _, err = relief(capsys, monkeypatch, "status", "nowhere", *where)
    assert code == 2 and "nowhere" in err


def test_the_beginning_of_two_names_is_refused_with_both(capsys, monkeypatch, tmp_path):
    for name in ("abc-1", "abc-2"):
        Store(tmp_path).write_launch({"id": name, "started": 1.0, "cells": []})
    code, _, err = relief(capsys, monkeypatch, "status", "abc", "--store", tmp_path)
    assert code == 2 and "abc-1, abc-2" in err


def test_the_overview_reads_no_record_of_what_is_done(capsys, monkeypatch, tiny_store):
    list(tiny_store.taken())
    monkeypatch.setattr("harness.store.Record.read", lambda path: 1 / 0)
    code, out, err = relief(capsys, monkeypatch, "status", "--store", tiny_store.path)
    assert code == 0 and planned().launch_id in out, err


def test_watching_a_launch_that_does_not_run_says_so_and_ends(capsys, monkeypatch, tiny_store):
    code, out, _ = relief(
        capsys, monkeypatch, "status", TINY, "--watch", "--store", tiny_store.path
    )
    cells = len(planned().cells)
    assert code == 0 and f"does not run: {cells} of {cells} cells are done" in out


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("killed", [True, False])
def test_a_launch_that_is_starting_is_waited_for(capsys, monkeypatch, tmp_path, named, killed):
    """Its driver has said nothing yet: Ray comes up. killed: what the one before left is there."""
    store, plan = Store(tmp_path), toy.plan(toy.job("a"))
    launch = launch_of(plan, store)
    if killed:
        dead = {"host": Process.own().host, "pid": 2**22 + 1, "born": 1}
        write_json(file_of(store, launch["id"]), dead | {"told": 1.0, "running": {}})
    looks, held = [], ExitStack()
    held.enter_context(at_work(store, launch["id"], pytest.fail))

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            file_of(store, launch["id"]).unlink(missing_ok=True)
            held.close()

    clock = SimpleNamespace(sleep=sleep, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(watch, "time", clock)
    where = ["status", *[launch["id"]] * named, "--watch", "--store", tmp_path]
    code, out, err = relief(capsys, monkeypatch, *where, columns=80)
    assert code == 0, err
    first, *rest = out.splitlines()
    assert f"{launch['id']} is starting, since {time.strftime('%H:%M')[:2]}" in first
    assert "does not run: 0 of 1 cells are done" in " ".join(rest)
    assert out.count("starting") == 1 and looks == [watch.TERMINAL_S] * 3


def test_a_look_at_a_launch_that_is_starting_is_a_line_of_json(capsys, monkeypatch, tmp_path):
    store, launch = Store(tmp_path), {"id": "toy-1", "started": 1.0, "cells": []}
    store.write_launch(launch)
    held = ExitStack()
    held.enter_context(at_work(store, "toy-1", pytest.fail))
    watched_once(monkeypatch, held.close)
    _, out, _ = relief(capsys, monkeypatch, "status", "--watch", "--json", "--store", tmp_path)
    first, last = map(json.loads, out.splitlines())
    assert (first["state"], first["lives"]) == ("starting", True) and first["started"] > 1.7e9
    assert (last["state"], last["lives"], last["started"]) == ("gone", False, None)


def test_two_that_drive_the_same_launch_are_told_of_each_other(tmp_path):
    store, said = Store(tmp_path), []
    with at_work(store, "toy-1", pytest.fail), at_work(store, "toy-1", said.append):
        assert lock_of(store, "toy-1").held
    (line,) = said
    assert line.startswith(f"toy-1 is driven by {Process.own()}, since ")
    assert not lock_of(store, "toy-1").held


def launch_of(plan, store):
    launch = {"id": plan.launch_id, "name": "toy", "started": 1.0, "cells": plan.cells}
    store.write_launch(launch)
    return launch


@pytest.fixture
def launched(tmp_path):
    """A store with a launch of three jobs, the second of which takes until it is let go."""
    store, jobs = Store(tmp_path), [toy.job("a"), toy.job("b"), toy.job("c", "raise")]
    plan = toy.plan(*jobs)
    launch_of(plan, store)
    reached, go = threading.Event(), threading.Event()

    def task(job, path, attempt):
        if job["title"] != "b":
            return toy.task(job, path, attempt)
        write_json(store.progress_file(job["key"]), {"phase": "train", "step": 3, "total": 9})
        with Heartbeat(store, job["key"], {"title": "b"}):
            reached.set()
            assert go.wait(60)
        return toy.task(job, path, attempt)

    class Slow(InProcess):
        """Jobs in a thread, so that the driver ticks meanwhile."""

        def poll(self, timeout):
            if not self.queue or (self.queue[0][0].title == "b" and not go.is_set()):
                if self.queue and not getattr(self, "thread", None):
                    job, path, attempt = self.queue[0]
                    self.thread = threading.Thread(
                        target=task, args=(job.describe(), path, attempt), daemon=True
                    )
                    self.thread.start()
                time.sleep(0.02)
                return []
            return super().poll(timeout)

    def run():
        with Live(store, plan.launch_id, 3) as live:
            driver = Driver(plan, store, Slow(toy.task), Schedule())
            driver.run(lambda running: live.tell(driver))

    return store, plan, run, reached, go


def test_a_running_launch_is_seen_from_files_and_its_end_ends_the_watch(
    launched, capsys, monkeypatch
):
    store, plan, run, reached, go = launched
    monkeypatch.setattr("harness.engine.live.BEAT_S", 0.05)
    monkeypatch.setattr("harness.engine.driver.POLL_S", 0.02)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert reached.wait(60)
    until = time.monotonic() + 30
    while time.monotonic() < until:  # until a picture shows the second job
        told = watch._read(file_of(store, plan.launch_id))
        if told.get("counts") == {DONE: 1} and len(told["running"]) == 1:
            break
        time.sleep(0.02)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        go.set()
        thread.join(60)

    clock = SimpleNamespace(sleep=sleep, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(watch, "time", clock)
    code, out, err = relief(
        capsys, monkeypatch, "status", plan.launch_id[:-2], "--watch", "--store", store.path
    )
    assert code == 0, err
    assert looks == [watch.PIPED_S]
    assert "1 of 3 jobs done, 0 failed, 1 running" in out and "expected end" in out
    assert "3/9 train" in out and "does not run: 2 of 3 cells are done" in out
    assert "1 failed" in out
    assert not file_of(store, plan.launch_id).exists()


def test_a_killed_driver_is_told_with_what_goes_on(capsys, monkeypatch, tmp_path):
    store, plan = Store(tmp_path), toy.plan(toy.job("a"))
    launch = launch_of(plan, store)
    own = Process.own()
    dead = {"host": own.host, "pid": 2**22 + 1, "born": 1}
    write_json(file_of(store, launch["id"]), dead | {"told": 1.0, "running": {}})
    code, out, _ = relief(capsys, monkeypatch, "status", "--watch", "--store", tmp_path)
    assert code == 0 and "the driver of" in out and "the same `relief run` goes on" in out


@pytest.fixture
def alive(tmp_path):
    """A launch whose driver is this process, with one job that says how far it is."""
    store, job = (
        Store(tmp_path),
        toy.job("a job with a long name of many words that says what it is"),
    )
    launch = launch_of(toy.plan(job), store)
    picture = {
        "started": 1.0,
        "told": 2.0,
        "total": 3,
        "counts": {DONE: 2},
        "waiting": 0,
        "ends": time.time() + 50,
        "there": {"nodes": 1, "cpus": 2, "gpus": 0},
        "failures": [],
    }
    about = {"title": job.title, "cpus": 1, "gpus": 0, "memory_gb": 0.1, "attempt": 1, "takes": 9}
    write_json(
        file_of(store, launch["id"]),
        Process.own().plain() | picture | {"running": {job.key: about}},
    )
    store.work(job.key)
    progress = {"phase": "train", "step": 3, "total": 9, "seconds_left": 50.0}
    write_json(store.progress_file(job.key), progress)
    with Heartbeat(store, job.key):
        yield store, launch, job


def watched_once(monkeypatch, ends):
    """The watch sees one picture, then `ends` happens."""
    clock = SimpleNamespace(sleep=lambda s: ends(), time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(watch, "time", clock)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_the_watch_and_says_that_the_launch_goes_on(alive, capsys, monkeypatch):
    store, launch, _ = alive
    watched_once(monkeypatch, interrupt)
    code, out, err = relief(capsys, monkeypatch, "status", "--watch", "--store", store.path)
    assert code == 0 and "2 of 3 jobs done" in out
    assert f"{launch['id']} goes on" in err and "the same command" not in err


def test_each_look_of_a_watch_is_a_line_of_json(alive, capsys, monkeypatch):
    store, launch, job = alive
    watched_once(monkeypatch, lambda: file_of(store, launch["id"]).unlink())
    code, out, _ = relief(capsys, monkeypatch, "status", "--watch", "--json", "--store", store.path)
    first, last = map(json.loads, out.splitlines())
    assert code == 0 and first["lives"] and not last["lives"] and not last["running"]
    (running,) = first["running"]
    assert running["key"] == job.key and running["pid"] == os.getpid()
    assert running["progress"]["seconds_left"] == 50 and first["counts"] == {DONE: 2}


@pytest.mark.parametrize("columns", [80, None])
def test_a_watch_cuts_nothing_at_80_columns_and_in_a_pipe(alive, capsys, monkeypatch, columns):
    store, launch, job = alive
    watched_once(monkeypatch, lambda: file_of(store, launch["id"]).unlink())
    where = ("status", "--watch", "--store", store.path)
    _, out, _ = relief(capsys, monkeypatch, *where, columns=columns)
    assert "…" not in out
    assert (job.title in out) != bool(columns)  # one line in a pipe
    assert all(word in out for word in [*job.title.split(), "3/9", "train"])


def test_a_name_that_no_launch_has_is_answered_with_those_there_are(
    capsys, monkeypatch, tmp_path, tiny_store
):
    for more in ([], ["--watch"], ["--json"]):
        where = ("status", "unknown", *more, "--store")
        code, _, err = relief(capsys, monkeypatch, *where, tiny_store.path)
        assert code == 2 and planned().launch_id in err.replace("\n", "")
        code, _, err = relief(capsys, monkeypatch, *where, tmp_path)
        assert code == 2 and "has no launch: start one with `relief run`" in err


def test_status_as_json_has_what_the_tables_have(capsys, monkeypatch, tiny_store):
    where = ("--store", tiny_store.path, "--json")
    _, out, _ = relief(capsys, monkeypatch, "status", *where)
    cells = len(planned().cells)
    (launch,) = [x for x in json.loads(out)["launches"] if x["launch"] == planned().launch_id]
    assert launch["cells"] == launch["done"] == cells and launch["failed"] == 0
    _, out, _ = relief(capsys, monkeypatch, "status", launch["launch"], *where)
    jobs = json.loads(out)["jobs"]
    assert {job["key"] for job in jobs} == {cell["key"] for cell in planned().cells}
    assert {job["state"] for job in jobs} == {DONE}


def test_the_expected_end_believes_what_a_running_job_says_is_left():
    jobs = [toy.job("a"), toy.job("b")]
    outlook = Outlook({j.key: 100.0 for j in jobs}, {jobs[0].key: 300.0, jobs[1].key: 100.0})
    a, b = (job.key for job in jobs)
    assert outlook.remaining({a: (10.0, None)}, 10.0) == 290  # the path after it
    assert outlook.remaining({a: (10.0, 5.0)}, 10.0) == 205
    assert outlook.remaining({a: (10.0, 4000.0)}, 10.0) == 4200
    assert outlook.remaining({b: (10.0, 4000.0)}, 10.0) == 4100  # the other waits for its place


def test_no_end_is_told_of_methods_of_which_nothing_is_known_until_one_of_each_has_ended():
    seconds = {"a": 600.0, "b": 600.0, "c": 600.0}
    sorts = {"a": "mine", "b": "mine", "c": "other"}
    outlook = Outlook(seconds, seconds, 1.0, sorts, unknown=sorts)
    assert outlook.remaining({}, 0.0) is None and outlook.job("b") is None
    outlook.ended("a", 6.0)
    assert outlook.job("b") == 6 and outlook.remaining({}, 6.0) is None
    outlook.ended("c", 6.0)
    assert outlook.remaining({}, 12.0) == 6


def test_the_picture_of_a_launch_has_the_end_that_its_jobs_say(tmp_path):
    store, job = Store(tmp_path), toy.job("a")
    driver = Driver(toy.plan(job), store, InProcess(toy.task), Schedule())
    live = Live(store, "toy", 1)
    assert live._picture(driver)["ends"] is None  # nobody has measured such a job
    driver.running[job.key] = Running(job, 1, started=time.monotonic())
    driver.running[job.key].progress = {"phase": "train", "seconds_left": 4000.0}
    assert live._picture(driver)["ends"] == pytest.approx(time.time() + 4000, abs=5)
    live.tell(driver)  # a process that counts no CPUs
    assert "Infinity" not in live.path.read_text()
    assert "inf" not in watch._shares({}, json.loads(live.path.read_text())["there"])


def test_at_first_as_many_jobs_are_expected_beside_each_other_as_what_is_scarce_allows():
    def beside(offers, **wanted):
        return side_by_side([(60.0, Resources(**wanted))] * 9, offers)

    node = Offer(8, 2, 64.0)
    assert beside([node], cpus=1, gpus=0.5) == 4
    assert beside([node, node], cpus=1, gpus=0.5) == 8
    assert beside([node], cpus=2, gpus=0.1) == 4
    assert beside([node], cpus=1, memory_gb=32.0) == 2
    assert beside([Offer(jobs=1)], cpus=1) == 1 and beside([Offer(1)], cpus=4) == 1
    outlook = Outlook({"a": 60.0, "b": 60.0}, {"a": 60.0, "b": 60.0}, beside=2.0)
    assert outlook.remaining({}, 10.0) == 60


def test_the_expected_end_follows_what_jobs_took_and_how_many_ran_beside_each_other():
    seconds = {str(i): 100.0 for i in range(10)}
    outlook = Outlook(seconds, dict.fromkeys(seconds, 100.0))
    assert outlook.remaining({}, 0.0) == 1000
    for i in range(4):  # each took twice as long, two at a time
        outlook.ended(str(i), 200.0)
    assert outlook.remaining({}, 400.0) == pytest.approx(600)
    assert outlook.remaining({"4": (100.0, None), "5": (100.0, None)}, 500.0) == pytest.approx(500)
    outlook.ended("4", None)
    outlook.ended("4", None)
    assert outlook.left == 1000
    outlook.opened("4")
    assert outlook.left == 1200
    assert json.dumps(outlook.job("5")) == "200.0"


def test_what_one_sort_of_jobs_took_says_nothing_of_another_sort():
    seconds = {"data": 10.0, "a": 100.0, "b": 100.0}
    outlook = Outlook(seconds, seconds, 1.0, {"data": "guess", "a": "model", "b": "model"})
    outlook.ended("data", 0.1)  # a hundredth of the guess
    assert outlook.remaining({}, 0.1) == 200
    outlook.ended("a", 300.0)
    assert outlook.remaining({}, 300.1) == pytest.approx(300) and outlook.job("b") == 300


def test_the_guesses_of_a_demo_know_its_long_trainings():
    durations = Durations(guesses=DEMO)
    jobs = planned("demo=true", "methods=[das3d,das3d/untrained,baseline]").jobs.values()
    took = {job.title: durations.sourced(job) for job in jobs if job.about.kind == "cell"}
    assert sorted(took.values()) == [(4.0, "guess"), (4.0, "guess"), (59.0, "guess")]


def test_a_serial_run_shows_progress_and_expected_end_while_a_job_runs(tmp_path, monkeypatch):
    text, seen, store, job = io.StringIO(), [], Store(tmp_path), toy.job("a")
    monkeypatch.setattr(launch, "console", Console(file=text, width=100))

    def task(description, path, attempt):
        progress = {"phase": "make", "step": 1, "total": 2, "seconds_left": 60}
        store.work(description["key"])
        write_json(store.progress_file(description["key"]), progress)
        until = time.monotonic() + 5
        while not seen and time.monotonic() < until:
            time.sleep(0.05)
        return toy.task(description, path, attempt)

    def tick(self, running):
        seen.extend(r.progress["phase"] for r in running.values() if r.progress)

    monkeypatch.setattr(Display, "tick", tick)
    assert not launch._drive(toy.plan(job), store, InProcess(task), [job])
    assert seen[0] == "make"
    assert text.getvalue().index("expected end") < text.getvalue().index("1/1 done")


def test_a_log_tells_an_expected_end_again_when_it_has_moved(monkeypatch):
    text = io.StringIO()
    display = Display(Console(file=text, width=100), 3, "some")
    for left in (600, 590, 650, 3600, 3500, 600):
        display.expect(left)
    told = re.findall(r"in about (.*)", text.getvalue())
    assert told == ["10 min", "60 min", "10 min"]


def test_a_job_of_a_killed_process_is_interrupted_and_one_elsewhere_runs_while_it_beats(tmp_path):
    store, own = Store(tmp_path), Process.own()
    store.alive.mkdir()
    beats = {"a": own.plain(), "b": {"host": own.host, "pid": 2**22 + 1, "born": 1}}
    beats |= {"c": {"host": "other", "pid": 1}, "d": {"host": "other", "pid": 1}}
    for key, process in beats.items():
        write_json(store.alive / f"{key}-{process['host']}-{process['pid']}.json", process)
        store.work(key)
        write_json(store.progress_file(key), {"phase": "train", "step": 1, "total": 9})
    late = time.time() - 2 * SILENT_S
    os.utime(store.alive / "d-other-1.json", (late, late))
    states = States(store)
    found = {key: states.of(key) for key in beats}
    assert found == {"a": RUNNING, "b": INTERRUPTED, "c": RUNNING, "d": INTERRUPTED}
