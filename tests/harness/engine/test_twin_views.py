"""Shape-Guided's view is M3DM's under another name: made once, and linked."""

import os

import pytest

from harness.data.views import build
from harness.engine.job import run_job
from harness.planning.jobs import Job, Place
from harness.store import DONE, Store
from tests.harness.conftest import planned

BOTH = ("m3dm", "shape_guided")
SMALL = (
    "m3dm.prep.size=32",
    "m3dm.weights={rgb: random-init, point: random-init}",
    "m3dm.uff={batch: 4, accumulation: 1}",  # six samples
    "shape_guided.prep.size=32",
    "shape_guided.weights.rgb=random-init",
)
DATASET, M3DM, SHAPE_GUIDED = "238802a00aac7bb1", "894216c7738b8d0d", "64c0cd87286372f3"  # keys


def plan_of(*methods):
    return planned(f"methods=[{','.join(methods)}]", *SMALL)


def view_jobs(plan):
    return {j.spec["view"]["name"]: j for j in plan.jobs.values() if j.spec["kind"] == "view"}


def make(plan, store, *keys):
    for key in keys:
        assert run_job(plan.jobs[key].describe(), str(store.path)).status == DONE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with the dataset and both views of a plan with both methods, views built."""
    store, built = Store(tmp_path_factory.mktemp("store")), []
    plan = plan_of(*BOTH)
    with pytest.MonkeyPatch.context() as patch:
        whole = build.build_view
        patch.setattr(build, "build_view", lambda *a, **k: built.append(a[1]) or whole(*a, **k))
        make(plan, store, *(k for k, job in plan.jobs.items() if job.spec["kind"] == "dataset"))
        make(plan, store, *(k for k, job in plan.jobs.items() if job.spec["kind"] == "view"))
    return store, built


def files(folder):
    return {
        p.relative_to(folder): p
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "result.json"
    }


def test_keys_are_those_of_views_that_do_not_know_each_other():
    for methods in (BOTH, BOTH[::-1]):
        jobs = view_jobs(plan_of(*methods))
        assert [jobs[name].key for name in BOTH] == [M3DM, SHAPE_GUIDED]
        assert jobs["shape_guided"].spec["needs"] == {"dataset": DATASET}
        first, second = (jobs[name] for name in methods)  # whichever the plan has first is made
        assert (first.place.twin, second.place.twin) == ("", first.key)
    for name in BOTH:
        (alone,) = view_jobs(plan_of(name)).values()
        assert alone.place.twin == "" and alone.needs == (DATASET,)
    assert Job({"a": 1}, "", Place(twin="b")).key == Job({"a": 1}, "").key


def test_views_of_other_sizes_have_nothing_to_do_with_each_other():
    plan = planned(f"methods=[{','.join(BOTH)}]", *SMALL, "shape_guided.prep.size=40")
    assert all(not job.place.twin for job in view_jobs(plan).values())


def test_the_twin_comes_first_in_every_part_of_a_plan():
    for plan in (plan_of(*BOTH), plan_of(*BOTH[::-1])):
        for part in (plan, plan.only(plan.cells[-1])):
            order = list(part.jobs)
            assert {M3DM, SHAPE_GUIDED} <= set(order)
            assert all(order.index(n) < order.index(k) for k in order for n in part.jobs[k].needs)


def test_the_files_are_made_once_and_linked(made):
    store, built = made
    assert [view.name for view in built] == ["m3dm"]
    theirs, ours = files(store.folder(M3DM)), files(store.folder(SHAPE_GUIDED))
    assert theirs.keys() == ours.keys() and len(ours) >= 4 * 3
    assert all(theirs[name].samefile(ours[name]) for name in ours)
    first, second = store.result(M3DM), store.result(SHAPE_GUIDED)
    assert second.twin == M3DM and first.twin is None
    assert second.summary == first.summary and second.speed == first.speed


def test_a_view_made_without_its_twin_has_the_same_bytes(made, tmp_path):
    store, plan, alone = made[0], plan_of("shape_guided"), Store(tmp_path)
    make(plan, alone, DATASET, SHAPE_GUIDED)
    assert not alone.done(M3DM)
    ours, linked = files(alone.folder(SHAPE_GUIDED)), files(store.folder(SHAPE_GUIDED))
    assert {n: p.read_bytes() for n, p in ours.items()} == {
        n: p.read_bytes() for n, p in linked.items()
    }


def test_where_nothing_can_be_linked_the_files_are_copied(made, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    source = made[0].folder(M3DM)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/rgb.npy").write_bytes(b"half")  # of an attempt that was killed
    build.link_view(source, tmp_path)
    ours = files(tmp_path)
    assert {n: p.read_bytes() for n, p in ours.items()} == {
        n: p.read_bytes() for n, p in files(source).items()
    }
    assert not any(p.samefile(source / n) for n, p in ours.items())


def test_a_view_that_is_done_does_not_ask_for_its_twin(tmp_path):
    plan, store = plan_of("shape_guided"), Store(tmp_path)
    make(plan, store, DATASET, SHAPE_GUIDED)
    pending = [job.key for job in plan.pending(store)]
    assert pending and not {DATASET, M3DM, SHAPE_GUIDED} & set(pending)
    pending = [job.key for job in plan_of(*BOTH).pending(store)]
    assert M3DM in pending and SHAPE_GUIDED not in pending
