"""Stages: work that cells share, planned once and handed to each cell."""

import json

import pytest

import methods
from harness.cli import plan as plans
from harness.planning.config import ConfigError
from harness.store import DONE, Store
from methods.marks import EDITED
from tests.harness.conftest import TINY, planned, run

CHANGES = (
    "methods=[toy,toy/double,toy/offset,toy/offset+double]",
    "settings=[3d,rgb+3d]",
    "datasets.synthetic.categories=[cookie,dome]",
)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "toy", "tests.harness.toy_method:Toy")


def stages(plan, name="mean"):
    jobs = [job for job in plan.jobs.values() if job.spec["kind"] == "stage"]
    return [job for job in jobs if job.spec["stage"] == name]


def test_cells_share_a_stage_unless_its_own_settings_or_seed_differ():
    assert len(stages(planned(*CHANGES))) == 2  # with and without the offset
    assert len(stages(planned(*CHANGES, "seeds=[0,1]"))) == 4
    assert len(stages(planned(*CHANGES, "toy.factor=3"))) == 2


def test_a_stage_over_a_category_is_shared_by_seeds_if_it_draws_nothing():
    assert len(stages(planned(*CHANGES, "seeds=[0,1]"), "counts")) == 2  # categories


def test_stages_come_after_what_they_build_on_and_before_their_cells():
    plan = planned(*CHANGES)
    order = list(plan.jobs)
    for key, job in plan.jobs.items():
        assert all(order.index(need) < order.index(key) for need in job.needs)
    views = {"view:cookie", "view:dome"}
    assert all(
        set(job.spec["needs"]) == views | {"stage:counts/cookie", "stage:counts/dome"}
        for job in stages(plan)
    )
    assert all(len(job.needs) == 1 for job in stages(plan, "counts"))


def test_few_shot_training_reaches_the_stages_that_train(tmp_path):
    few = planned(*CHANGES, "datasets.synthetic.train_samples=2")
    assert not {job.key for job in stages(few)} & {job.key for job in stages(planned(*CHANGES))}
    assert [job.key for job in stages(few, "counts")] == [
        job.key for job in stages(planned(*CHANGES), "counts")
    ]


def test_a_cell_gets_what_its_stage_saved_and_carries_its_notes(tmp_path):
    plan, store = planned(*CHANGES), Store(tmp_path)
    assert not run(plan, store).failures
    for stage in stages(plan):
        assert store.result(stage.key).status == DONE
        assert set(json.loads((store.folder(stage.key) / "mean.json").read_text())) == {
            "cookie",
            "dome",
        }
    result = store.result(plan.cells[0]["key"])
    notes = {"mean_of": "cookie,dome", "factor": "1.0", "weights": "backbone random-init"}
    assert result.notes == notes and result.marks == [EDITED, "random-init"]
    assert store.result(plan.cells[2]["key"]).marks == [EDITED]  # toy/double; nobody declared a toy
    assert not planned(*CHANGES).pending(store)


def test_plan_lists_stages_among_shared_work(tmp_path, capsys):
    plans.plan([str(TINY), "methods=[toy]", "settings=[3d]"], store=tmp_path)
    assert "toy mean" in capsys.readouterr().out


def test_joined_variants_apply_one_after_the_other():
    plan = planned(*CHANGES)
    last = plan.jobs[plan.cells[-1]["key"]].spec["settings"]
    assert last["factor"] == 2.0 and last["mean"]["offset"] == 1.0
    with pytest.raises(ConfigError, match="no variant 'of'; known: double, offset"):
        planned("methods=[toy/double+of]")
