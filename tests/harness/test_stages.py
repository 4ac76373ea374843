"""Stages: work that cells share, planned once and handed to each cell."""

import json

import pytest

import methods
from harness import cli
from harness.config import ConfigError
from harness.store import DONE, Store
from tests.harness.conftest import TINY, planned, run

CHANGES = ("methods=[toy,toy/double,toy/offset,toy/offset+double]", "settings=[3d,rgb+3d]",
           "datasets.synthetic.categories=[cookie,dome]")  # fmt: skip


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "toy", "tests.harness.toy_method:Toy")


def stages(plan):
    return [job for job in plan.jobs.values() if job.spec["kind"] == "stage"]


def test_cells_share_a_stage_unless_its_own_settings_or_seed_differ():
    assert len(stages(planned(*CHANGES))) == 2               # with and without the offset
    assert len(stages(planned(*CHANGES, "seeds=[0,1]"))) == 4
    assert len(stages(planned(*CHANGES, "toy.factor=3"))) == 2


def test_a_stage_comes_after_the_views_of_all_categories_and_before_its_cells():
    plan = planned(*CHANGES)
    order = list(plan.jobs)
    for key, job in plan.jobs.items():
        assert all(order.index(need) < order.index(key) for need in job.needs)
    assert all(len(job.needs) == 2 for job in stages(plan))


def test_a_cell_gets_what_its_stage_saved_and_carries_its_notes(tmp_path):
    plan, store = planned(*CHANGES), Store(tmp_path)
    assert not run(plan, store).failures
    for stage in stages(plan):
        assert store.result(stage.key)["status"] == DONE
        assert set(json.loads((store.folder(stage.key) / "mean.json").read_text())) == {"cookie", "dome"}
    result = store.result(plan.cells[0]["key"])
    assert result["notes"] == {"mean_of": "cookie,dome", "factor": "1.0"}
    assert not planned(*CHANGES).pending(store)


def test_plan_lists_stages_among_shared_work(tmp_path, capsys):
    cli.plan([str(TINY), "methods=[toy]", "settings=[3d]"], store=tmp_path)
    assert "toy mean" in capsys.readouterr().out


def test_joined_variants_apply_one_after_the_other():
    plan = planned(*CHANGES)
    last = plan.jobs[plan.cells[-1]["key"]].spec["settings"]
    assert last["factor"] == 2.0 and last["mean"]["offset"] == 1.0
    with pytest.raises(ConfigError, match="no variant 'of'; known: double, offset"):
        planned("methods=[toy/double+of]")
