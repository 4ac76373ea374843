"""What jobs should take by what they compute, before any has run."""

from dataclasses import replace

import pytest

import methods
from harness.planning import loads
from harness.planning.budget import budget
from harness.planning.costs import Durations, forecast
from harness.planning.work import STARTED_S, Sizes, Speeds, Work, _load
from harness.store import Store, canonical
from methods import work
from methods.contract import settings_from
from methods.files import cache
from methods.load import CORE, Load, Machine
from tests.harness.conftest import planned
from tests.methods.tiny import TINY


def cells(plan):
    return [job for job in plan.jobs.values() if job.about.kind == "cell"]


def macs(passes):
    return passes.load.flops / 2


def test_networks_are_counted_as_published_without_being_run():
    das3d = methods.get("das3d").Settings()
    assert macs(work._das3d(das3d, "rgb+3d", 1)) == pytest.approx(406e9, rel=0.01)  # its README, 3
    dsr = methods.get("3dsr").Settings()
    assert macs(work._dsr3d(dsr.of("rgb+3d"), "rgb+3d", 384, 1)) == pytest.approx(240e9, rel=0.01)
    shape = methods.get("shape_guided").Settings()
    # Printed: 1.29; ours does not repeat what all points of a patch share (sdf.py).
    assert work.patch_macs(shape.net, 500) == pytest.approx(1.29e9 - 500 * 512**2, rel=0.05)
    assert work.appearance_macs(shape) == pytest.approx(5.0e9, rel=0.05)  # printed


def test_a_machine_takes_the_sum_of_what_a_load_asks_of_it_and_a_share_of_it_longer():
    machine = Machine(100.0, 10.0, 20.0, 0.5)
    load = 2 * Load(flops=100, bytes=10, reads=20, launches=2, host_s=3) - Load(host_s=3)
    assert machine.seconds(load) == 2 + 2 + 2 + 2 + 3
    assert machine.seconds(load, 0.5) == 4 + 4 + 4 + 2 + 3


def test_work_grows_with_steps_batch_and_size():
    def load(*changes):
        (job,) = cells(planned("methods=[das3d]", *changes))
        return Work([]).load(job)

    base = load("das3d.train.steps=6")
    assert load("das3d.train.steps=12").flops > 1.5 * base.flops
    assert load("das3d.train.steps=6", "das3d.train.batch=4").flops > 1.3 * base.flops
    twice = load("das3d.train.steps=6", "das3d.prep.size=128")
    assert twice.flops == pytest.approx(4 * base.flops, rel=0.02)
    assert twice.launches == base.launches


def test_a_job_computes_at_its_share_of_the_gpu_or_on_its_cores():
    whole = planned("methods=[das3d]", "resources.default.gpus=1")
    half = planned("methods=[das3d]", "resources.default.gpus=0.5")
    none = planned("methods=[das3d]", "resources.default.gpus=0")
    (a,), (b,), (c,) = cells(whole), cells(half), cells(none)
    slow = Machine(1e6, 1e9, 1e9, 1e-6)
    model = Work(whole.jobs.values(), Speeds(slow))
    assert model(b) == pytest.approx(2 * model(a), rel=0.05) and model.whole_s(b) == model(a)
    assert model(c) == CORE.seconds(model.load(c), c.resources.cpus) < model(a)


def test_measured_jobs_go_before_the_model_and_it_before_guesses(tiny_store):
    plan = planned("methods=[das3d]")
    (cell,) = cells(plan)
    speeds = Speeds()
    assert forecast(plan, tiny_store.taken(), speeds).sourced(cell)[1] == "measured"
    assert forecast(plan, (), speeds).sourced(cell)[1] == "model"
    assert Durations().sourced(cell)[1] == "unknown"


def test_cells_of_far_fewer_or_more_samples_are_not_measured_ones_alike(tiny_store):
    plan = planned("methods=[das3d]")
    (cell,) = cells(plan)
    (one,) = [t for t in tiny_store.taken() if t.alike == cell.alike and t.category]
    n = Work(plan.jobs.values()).samples(cell)
    assert n and one.samples == n
    for there, source in ((n, "measured"), (n // 2, "measured"), (2 * n, "measured")):
        assert forecast(plan, [replace(one, samples=there)]).sourced(cell)[1] == source
    for there in (n // 3, 3 * n):
        assert forecast(plan, [replace(one, samples=there)]).sourced(cell)[1] == "model"
    assert forecast(plan, [replace(one, samples=None)]).sourced(cell)[1] == "measured"


def test_a_demo_is_counted_only_where_its_machine_is_told():
    plan = planned("methods=[das3d]")
    (cell,) = cells(plan)
    assert forecast(plan, ()).sourced(cell)[1] == "model"
    plan.config = replace(plan.config, demo=True)
    assert forecast(plan, ()).sourced(cell)[1] == "guess"
    assert forecast(plan, (), Speeds()).sourced(cell)[1] == "model"


def test_views_take_as_long_as_the_samples_that_there_are():
    plan = planned("methods=[das3d]")
    view = next(job for job in plan.jobs.values() if job.about.kind == "view")
    assert view.place.samples > 0 and view.place.tested > 0
    twice = replace(
        view,
        place=replace(view.place, samples=2 * view.place.samples, tested=2 * view.place.tested),
    )
    model = Work([])
    assert model.load(twice).host_s == pytest.approx(2 * model.load(view).host_s)


def test_jobs_that_will_pass_their_limit_are_named(tmp_path):
    plan = planned(
        "methods=[das3d]",
        "das3d.train.steps=1000000",
        "seeds=[0,1]",
        "resources.default={gpus: 0.5, fixed: true}",
    )
    jobs = plan.pending(Store(tmp_path))
    found = budget(jobs, forecast(plan, (), Speeds(Machine.gpu(0.001))))
    assert set(found.gpu_s) == {("das3d", "rgb+3d")} and found.total_s > 0
    ((titles, hours, limit),) = found.too_long
    assert titles.endswith("and 1 like it") and hours > limit == 24
    assert found.wall_s(1) >= found.wall_s(4) >= found.longest_s
    quick = replace(Machine.gpu(1e6), launch_s=0.0)
    assert not [t for t in budget(jobs, forecast(plan, (), Speeds(quick))).too_long if t[1] > 100]


@pytest.mark.parametrize("name", sorted(work.CELLS))
def test_every_method_and_stage_is_counted_at_any_size(name):
    cls = methods.get(name)
    settings = settings_from(cls.Settings, {"prep": {"size": 64}, **TINY[name]})
    for setting in ("rgb", "3d", "rgb+3d"):
        load = work.CELLS[name](settings, setting, 20, 10)
        assert (load.host_s if name == "baseline" else load.flops) > 0
        for stage, options in cls.stage_settings(settings, setting).items():
            load = work.STAGES[name, stage](options, 300)
            assert load.flops + load.bytes > 0


def test_baselines_take_seconds_by_pixels_and_samples_and_other_peoples_methods_are_unknown():
    job = cells(planned("methods=[das3d]"))[0]
    other = type(job)(job.spec | {"method": "mine"}, job.title, job.place, job.resources)
    assert Work([]).load(other) is None
    plans = [planned("methods=[baseline]", f"baseline.prep.size={px}") for px in (64, 640)]
    small, large = (Work(plan.jobs.values())(cells(plan)[0]) for plan in plans)
    assert 0.3 < small < 2 < large < 60
    found = _load("das3d", "", "3d", canonical(job.spec["settings"]), Sizes(6, 6, 1))
    assert found.flops > 0 and found.host_s < STARTED_S + 1


def test_what_was_counted_is_kept_for_the_next_process(tmp_path):
    first = loads.Kept(tmp_path / "loads.json")
    counts = {"a": Load(3.0, host_s=0.5), "b": None}
    assert all(first.get(name, lambda name=name: counts[name]) == counts[name] for name in counts)
    first.keep()
    again = loads.Kept(tmp_path / "loads.json")
    for name, load in counts.items():
        assert again.get(name, lambda: pytest.fail("it is known")) == load
    (tmp_path / "loads.json").write_text("[")
    assert loads.Kept(tmp_path / "loads.json").get("a", lambda: None) is None  # counted anew


def test_a_code_s_loads_are_its_own():
    assert loads.kept().path.parent == cache("x").parent and loads.kept() is loads.kept()
