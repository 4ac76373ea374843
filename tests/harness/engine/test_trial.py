"""A sweep's trial: what it reports, in which order, and what it says that it took. No Ray here."""

import copy
import json
import time
from pathlib import Path

import pytest

from harness.engine import sweep as sweeps
from harness.engine import trial as trials
from harness.engine import tuning
from harness.engine.effort import account, effort
from harness.engine.executors import InProcess
from harness.engine.job import run_job
from harness.engine.trial import Site, compute
from harness.planning.config import ConfigError
from harness.planning.jobs import Resources
from harness.planning.room import Offer
from harness.planning.space import load
from harness.store import DONE, FAILED, Store, canonical
from harness.store.curve import read_looks, write_looks
from harness.store.sweeps import RUNNING, SweepFolder
from methods.errors import UserError
from methods.validation import Look
from tests.harness.conftest import run
from tests.harness.engine.test_kept_fit import beside, do, files_of

FILE = str(Path(__file__).parents[1] / "stopped.yaml")
QUICK = ("das3d.train.steps=4", "training.validate_every=0.5")


@pytest.fixture(scope="module")
def swept():
    return load(FILE, QUICK)


@pytest.fixture(scope="module")
def views(swept, tmp_path_factory):
    """A store that has what all points need."""
    plan, store = swept.plan({}), Store(tmp_path_factory.mktemp("views"))
    for key, job in plan.jobs.items():
        if job.about.kind != "cell":
            assert do(plan, store, key).status == DONE
    return store


class Here(Site):
    """Jobs in this process."""

    def executor(self, plan):
        return InProcess()


def told(sweep, store, site, values=None):
    found = []
    compute(
        sweep,
        "t",
        values or {},
        store,
        SweepFolder(store, "s"),
        site,
        lambda means, trained: found.append((trained, means["p_auroc"])),
    )
    return found


def test_a_trial_reports_every_look_and_every_cell_however_many_run_at_a_time(
    swept, views, tmp_path
):
    one, two = (beside(views, tmp_path / name) for name in ("one", "two"))
    reports = told(swept, one, Here(beside=1))
    assert reports == told(swept, two, Here(beside=2))
    assert [trained for trained, _ in reports] == [0.5, 1, 1.5, 2]
    cells = [one.finished(cell["key"]) for cell in swept.plan({}).cells]
    first, second = (cell.validation["p_auroc"] for cell in cells)
    assert reports[0][1] == cells[0].looks()[0].metrics["p_auroc"]
    assert reports[1][1] == first and reports[3][1] == (first + second) / 2
    assert reports[2][1] == (first + cells[1].looks()[0].metrics["p_auroc"]) / 2
    (trial,) = SweepFolder(one, "s").trials()
    assert trial["status"] == DONE and trial["means"] == {"p_auroc": reports[3][1]}
    assert trial["trained"] == 2
    assert told(swept, one, Here()) == reports  # from what the store has


@pytest.mark.parametrize("room", [1, 2])
def test_as_many_cells_of_a_trial_are_at_work_as_have_room(swept, views, tmp_path, room):
    at_once = []

    class Wide(InProcess):
        offers = [Offer(cpus=2)]

        def poll(self, timeout):
            at_once.append(len(self.queue))
            return super().poll(timeout)

    class There(Site):
        def executor(self, plan):
            return Wide()

    told(swept, beside(views, tmp_path / "store"), There(beside=room))
    assert at_once == ([2, 1] if room == 2 else [1, 1])


def test_a_job_counts_once_for_the_first_trial_that_needed_it(swept, views, tmp_path):
    store, began = beside(views, tmp_path / "store"), time.time()
    folder = SweepFolder(store, "s")
    compute(swept, "first", {}, store, folder, Here())
    killed = folder.read_trial("first")
    assert killed is not None
    folder.trial("first").unlink()  # as of a search that is begun again
    compute(swept, "again", {}, store, folder, Here())
    compute(swept, "other", {}, store, folder, Here())
    trials = folder.trials()
    account(store, trials, since=began)
    again, other = (trial["effort"] for trial in trials)
    assert again["steps"] == 8 and again["saved_steps"] == 0 < again["seconds"]
    assert other["steps"] == other["seconds"] == 0
    later = folder.trials()
    account(store, later, since=time.time())
    assert later[0]["effort"]["steps"] == 0  # the store had it before that sweep


def look(step, value, total=4):
    return Look("train", step, total, step / total, {"p_auroc": value})


def test_a_trial_ends_where_it_was_asked_to_and_goes_on_from_there(swept, views, tmp_path):
    whole = told(swept, beside(views, tmp_path / "whole"), Here())
    store = beside(views, tmp_path / "store")
    folder = SweepFolder(store, "s")
    second = swept.plan({}).cells[1]["key"]
    for until, came in ((0.5, 0.5), (1, 1), (1.2, 1.5), (2, 2)):
        found = []
        compute(
            swept,
            "t",
            {},
            store,
            folder,
            Here(beside=2),
            lambda means, trained: found.append((trained, means["p_auroc"])),
            until=until,
        )
        trial = folder.read_trial("t")
        assert found == whole[: len(found)] and found[-1][0] == trial["trained"] == came
        assert [tuple(one) for one in trial["reports"]] == found
        assert trial["status"] == (DONE if came == 2 else RUNNING)
        if came <= 1:  # the cell after it has not begun, though two may run at a time
            assert not store.done(second) and not list(store.work(second).iterdir())


@pytest.fixture
def telling(swept, views, tmp_path):
    """A teller of a trial of which nothing is computed, its plan, its store and its reports."""
    store, found, plan = beside(views, tmp_path / "store"), [], swept.plan({})
    kinds = {key: job.about.kind == "cell" for key, job in plan.jobs.items()}
    jobs = [[key, cell, 0.5] for key, cell in kinds.items() if cell]
    record = {"id": "t", "status": RUNNING, "started": 5.0, "cells": [], "of": 2, "jobs": jobs}
    record["reports"] = []
    teller = trials._Teller(
        copy.deepcopy(swept),
        plan,
        store,
        SweepFolder(store, "s"),
        record,
        lambda means, trained: found.append((trained, means["p_auroc"])),
    )
    return teller, plan, store, found


def test_cells_that_are_ahead_wait_for_those_before_them(telling):
    teller, plan, store, found = telling
    first, second = (cell["key"] for cell in plan.cells)
    write_looks(store.work(second), [look(1, 0.9)])
    teller.tell()
    assert found == []
    write_looks(store.work(first), [look(1, 0.25), look(2, 0.5), look(4, 1.0)])
    teller.tell()
    teller.tell()
    assert found == [(0.25, 0.25), (0.5, 0.5)]  # what the last look says, the result will
    assert not run(plan.only(plan.cells[0]), store).failures
    value = store.finished(first).validation["p_auroc"]
    teller.tell()
    assert found[2:] == [(1, value), (1.25, (value + 0.9) / 2)]


def test_looks_before_a_training_has_settled_are_not_told(telling):
    teller, plan, store, found = telling
    teller.sweep.early.settled = 0.5
    write_looks(store.work(plan.cells[0]["key"]), [look(1, 0.25), look(2, 0.5), look(3, 0.75)])
    teller.tell()
    assert found == [(0.5, 0.5), (0.75, 0.75)]


def test_the_effort_of_a_stopped_trial_is_what_it_took_and_what_it_saved(telling):
    teller, plan, store, _ = telling
    first = plan.cells[0]["key"]
    write_looks(store.work(first), [look(10, 0.5, total=100)])
    progress = {"phase": "train", "step": 12, "total": 100, "loss": 0.1, "started": 6.0}
    store.progress_file(first).write_text(json.dumps(progress))
    jobs = teller.record["jobs"]
    found = effort(store, jobs, since=5.0)
    assert found["steps"] == 12 and found["saved_steps"] == 88 + 100  # the second never began
    assert found["saved_seconds"] == pytest.approx(found["seconds"] / 12 * 188)
    assert found["gpu_seconds"] == found["seconds"] / 2
    before = effort(store, jobs, since=7.0)  # what was there is not its own
    assert before["steps"] == before["seconds"] == 0 and before["saved_steps"] == 188


def test_a_trial_whose_cell_fails_says_why(swept, views, tmp_path, monkeypatch):
    store = beside(views, tmp_path / "store")

    def broken(*_):
        raise ValueError("as asked")

    monkeypatch.setattr("methods.das3d.method.Das3d.fit", broken)
    with pytest.raises(UserError, match="as asked"):
        told(swept, store, Here())
    (trial,) = SweepFolder(store, "s").trials()
    assert trial["status"] == FAILED and "as asked" in trial["reason"]


def test_a_training_that_is_ended_for_its_scores_goes_on_from_there(
    swept, views, tmp_path, monkeypatch
):
    plan = swept.plan({})
    key, store, whole = plan.cells[0]["key"], beside(views, tmp_path / "a"), tmp_path / "b"
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    assert plan.jobs[key].place.checkpoint_every_s == 0
    job = plan.jobs[key].describe()
    job["place"]["checkpoint_every_s"] = 1e9  # only looks save

    def ended(folder, looks):
        write_looks(folder, looks)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("harness.engine.looks.write_looks", ended)
        with pytest.raises(SystemExit):
            run_job(job, str(store.path))
    assert [look.step for look in read_looks(store.work(key))] == [2]
    steps = []
    monkeypatch.setattr(
        "harness.store.curve.Curve.add", lambda self, progress: steps.append(progress.step)
    )
    assert run_job(job, str(store.path)).status == DONE
    assert [step for step in steps if step in (1, 2, 3, 4)][-2:] == [3, 4]
    other = beside(views, whole)
    assert run_job(job, str(other.path)).status == DONE
    assert files_of(store, key) == files_of(other, key)  # the looks, too
    assert [look.step for look in store.finished(key).looks()] == [2, 4]


def test_what_is_compared_inside_trainings_and_how_long_a_trial_is_spared():
    inside = load(FILE)
    assert inside.inside and inside.every == inside.grace == 0.1  # its file compares all looks
    assert inside.plan({}).jobs[inside.plan({}).cells[0]["key"]].place.validate_every == 0.1
    for more in ("early.looks=false", "objective.on=test", "objective.metrics=[fit_s]"):
        cells = load(FILE, [more])
        assert not cells.inside and cells.grace == 1
        assert all(j.place.validate_every == 0 for j in cells.plan({}).jobs.values())
    assert load(FILE, ["early.grace=0.3"]).grace == 0.3
    assert load(FILE, ["training.validate_every=0.25"]).grace == 0.25
    early, late = (load(FILE, [f"early.settled={share}"]) for share in (0.1, 0.8))
    assert late.grace == 0.8 and early.id(early.plan({})) != late.id(late.plan({}))
    with pytest.raises(ConfigError, match="a share of a training"):
        load(FILE, ["early.settled=0"])
    with pytest.raises(ConfigError, match="grace is more than 0"):
        load(FILE, ["early.grace=0"])
    keys = {c["key"] for c in inside.plan({}).cells}
    assert keys == {c["key"] for c in load(FILE, ["early.kind=none"]).plan({}).cells}


def test_a_search_that_stops_nothing_keeps_its_name():
    """That of the versions before looks: finished searches are found again."""
    import hashlib
    from dataclasses import asdict

    sweep = load(FILE, ["early.kind=none"])
    plan = sweep.plan({})
    parts = [
        asdict(sweep.search) | {"hours": None, "concurrency": None},
        {"kind": "none", "grace": 1, "reduction": 2},
        asdict(sweep.objective),
        {k: asdict(d) for k, d in sweep.space.items()},
        [cell["key"] for cell in plan.cells],
    ]
    assert sweep.id(plan) == f"stopped-{hashlib.sha256(canonical(parts).encode()).hexdigest()[:8]}"


def test_asha_and_median_count_in_thousandths_of_trainings():
    pytest.importorskip("ray")
    asha = tuning._scheduler(load(FILE, ["early.reduction=3"]))
    rungs = sorted(milestone for milestone, _ in asha._brackets[0]._rungs)
    assert rungs == [100, 300, 900] and asha._max_t == 2000
    whole = tuning._scheduler(load(FILE, ["early.looks=false", "early.reduction=2"]))
    assert sorted(milestone for milestone, _ in whole._brackets[0]._rungs) == [1000, 2000]
    median = tuning._scheduler(load(FILE, ["early.kind=median", "early.grace=0.2"]))
    assert median._grace_period == 200


def test_cells_run_side_by_side_where_trials_leave_room():
    nodes = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0}]
    assert sweeps._fits(Resources(cpus=2), nodes) == 10
    assert sweeps._fits(Resources(cpus=2, gpus=0.5), nodes) == 4
    assert sweeps._fits(Resources(cpus=99), nodes) == 1
    assert load(FILE).points == 6
