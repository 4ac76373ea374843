"""What jobs should take by what they compute, before any has run."""

import pytest

import methods
from harness.planning.costs import Durations
from harness.planning.work import Sizes, Work, _macs, estimate
from harness.store import Store, canonical
from methods import work
from methods.contract import settings_from
from tests.harness.conftest import planned
from tests.methods.tiny import TINY


def cells(plan):
    return [job for job in plan.jobs.values() if job.about.kind == "cell"]


def test_networks_are_counted_as_published_without_being_run():
    das3d = methods.get("das3d").Settings()
    assert work._das3d(das3d, "rgb+3d") == pytest.approx(406e9, rel=0.01)  # its README, section 3
    dsr = methods.get("3dsr").Settings()
    assert work._dsr3d(dsr.of("rgb+3d"), "rgb+3d", 384) == pytest.approx(240e9, rel=0.01)
    shape = methods.get("shape_guided").Settings()
    # Printed: 1.29; ours does not repeat what all points of a patch share (sdf.py).
    assert work.patch_macs(shape.net, 500) == pytest.approx(1.29e9 - 500 * 512**2, rel=0.05)
    assert work.appearance_macs(shape) == pytest.approx(5.0e9, rel=0.05)  # printed


def test_work_grows_with_steps_batch_and_size_and_not_with_the_device():
    def macs(*changes):
        (job,) = cells(planned("methods=[das3d]", *changes))
        return Work([], 1.0).macs(job)

    base = macs()
    assert macs("das3d.train.steps=12") == pytest.approx(2 * base, rel=0.95)
    assert macs("das3d.train.batch=4") > 1.3 * base
    assert macs("das3d.prep.size=128") == pytest.approx(4 * base, rel=0.02)


def test_a_job_computes_at_its_share_of_the_gpu_and_measured_jobs_go_before(tiny_store):
    whole = planned("methods=[das3d]", "resources.default.gpus=1")
    half = planned("methods=[das3d]", "resources.default.gpus=0.5")
    (a,), (b,) = cells(whole), cells(half)
    model = Work(whole.jobs.values(), 1.0)
    assert model(b) == pytest.approx(2 * model(a))
    assert Work([], 2.0)(a) == pytest.approx(model(a) / 2, rel=0.5)
    view = next(job for job in whole.jobs.values() if job.about.kind == "view")
    assert model(view) is None
    assert Durations(tiny_store.taken(), model).sourced(a)[1] == "measured"
    assert Durations((), model).sourced(a)[1] == "model"


def test_jobs_that_will_pass_their_limit_are_named(tmp_path):
    plan = planned("methods=[das3d]", "das3d.train.steps=1000000", "seeds=[0,1]")
    found = estimate(plan, Store(tmp_path), 0.001)
    assert set(found.gpu_s) == {("das3d", "rgb+3d")} and found.total_s > 0
    assert len(found.too_long) == 2 and found.too_long[0][1] > 24
    assert found.wall_s(1) >= found.wall_s(4) >= found.longest_s
    assert not estimate(plan, Store(tmp_path), 1e6).too_long


@pytest.mark.parametrize("name", sorted(work.CELLS))
def test_every_method_and_stage_is_counted_at_any_size(name):
    cls = methods.get(name)
    settings = settings_from(cls.Settings, {"prep": {"size": 64}, **TINY[name]})
    for setting in ("rgb", "3d", "rgb+3d"):
        assert work.CELLS[name](settings, setting, 20, 10) > 0
        for stage, options in cls.stage_settings(settings, setting).items():
            if (count := work.STAGES.get((name, stage))) is not None:
                assert count(options, 300) > 0


def test_what_is_no_method_of_ours_is_left_to_a_guess():
    plan = planned("methods=[das3d]")
    job = cells(plan)[0]
    other = type(job)(job.spec | {"method": "mine"}, job.title, job.place, job.resources)
    assert Work([], 1.0).macs(other) is None
    assert _macs("das3d", "", "3d", canonical(job.spec["settings"]), Sizes(6, 6, 1)) > 0
