"""Looks at a cell's training: they are kept, choose nothing by default, and move no key."""

import json
import math

import numpy as np
import pytest

import methods
from harness.data import cache
from harness.engine.job import run_job
from harness.planning import expand
from harness.planning.config import ConfigError
from harness.store import DONE
from harness.store.curve import LOOKS, read_looks, write_looks
from methods.validation import Look, chosen
from tests.harness.conftest import planned, run
from tests.harness.engine.test_kept_fit import beside, files_of

ONLY = ("methods=[das3d]", "datasets.synthetic.synthetic.validation=2")
EVERY = "training.validate_every=0.5"
BEST = "training.selection=best_validation"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A plan of one cell and the store in which it is done, unlooked at."""
    from harness.store import Store

    plan, store = planned(*ONLY), Store(tmp_path_factory.mktemp("plain"))
    assert not run(plan, store).failures
    return plan, store


def cell(plan, store):
    return store.finished(plan.cells[0]["key"])


@pytest.fixture(scope="module")
def watched(plain, tmp_path_factory):
    """The same with looks."""
    return done(plain, tmp_path_factory.mktemp("watched") / "store", EVERY)


def done(plain, folder, *more):
    plan, store = planned(*ONLY, *more), beside(plain[1], folder)
    if plan.cells[0]["key"] == plain[0].cells[0]["key"]:
        store.remove(store.folder(plan.cells[0]["key"]))
    assert not run(plan, store).failures
    return plan, store


def test_looks_change_neither_key_nor_result(plain, watched):
    plan, again = plain[0], watched[0]
    assert plan.cells[0]["key"] == again.cells[0]["key"]
    before, after = cell(*plain), cell(*watched)
    key = plan.cells[0]["key"]
    files = files_of(watched[1], key)
    assert LOOKS in files and files_of(plain[1], key) == {
        k: v for k, v in files.items() if k != LOOKS
    }
    assert before.metrics == after.metrics and before.validation == after.validation
    assert before.looks() == [] and "validate_s" not in before.timings
    assert after.timings["validate_s"] > 0 and after.timings["fit_s"] > 0


def test_the_last_look_has_the_validation_scores_of_the_result(watched):
    looks, found = cell(*watched).looks(), cell(*watched)
    assert [(look.phase, look.step, look.total) for look in looks] == [
        ("train", 3, 6),
        ("train", 6, 6),
    ]
    assert looks[-1].metrics == found.validation and found.selected == {}
    assert found.marks == []


@pytest.fixture(scope="module")
def best(plain, tmp_path_factory):
    return done(plain, tmp_path_factory.mktemp("best") / "store", BEST, "das3d.train.lr=0.1")


def test_the_best_look_is_tested_where_it_is_asked_for(best):
    found = cell(*best)
    looks = found.looks()
    look = chosen(looks, "i_auroc")
    assert [look.step for look in looks] == [1, 2, 3, 4, 5, 6]  # a tenth is less than a step
    assert found.validation == look.metrics
    assert found.selected == {
        "phase": "train",
        "step": look.step,
        "total": 6,
        "metric": "i_auroc",
        "value": look.metrics["i_auroc"],
    }
    assert "best-validation" in found.marks


def test_what_is_selected_by_is_part_of_the_key():
    keys = {
        planned(*ONLY, *more).cells[0]["key"]
        for more in (
            (),
            (EVERY,),
            (BEST,),
            (BEST, "training.validate_every=0.1"),
            (BEST, EVERY),
            (BEST, "training.metric=aupro_0.3"),
        )
    }
    assert len(keys) == 4


def with_m3dm(chosen, *more):
    some = {"weights": {"rgb": "random-init", "point": "random-init"}}
    given = ("settings=[rgb]", "datasets.synthetic.synthetic.validation=2")
    return planned(f"methods=[{chosen}]", *given, f"m3dm={json.dumps(some)}", *more)


def test_methods_without_steps_of_training_have_nothing_to_select(caplog):
    expand._tell.cache_clear()
    (cell,) = with_m3dm("m3dm").cells
    assert not caplog.text
    plan = with_m3dm("m3dm,das3d", BEST, EVERY)
    assert caplog.text.count("m3dm is not trained in steps within a cell") == 1
    assert plan.cells[0]["key"] == cell["key"]
    place = plan.jobs[cell["key"]].place
    assert place.validate_every == 0 and place.marks == ()
    trained = [name for name in methods.METHODS if methods.get(name).validates]
    assert trained == ["dbrn", "3dsr", "das3d"]


def test_a_choice_of_a_step_is_refused_where_no_method_has_one():
    with pytest.raises(ConfigError, match="m3dm is not trained in steps .*dbrn, 3dsr"):
        with_m3dm("m3dm", BEST)


def test_a_step_cannot_be_chosen_without_validation_samples():
    with pytest.raises(ConfigError, match="cookie has no validation samples to choose a step by"):
        planned("methods=[das3d]", "datasets.synthetic.synthetic.validation=0", BEST)


@pytest.mark.parametrize("every", [0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(every):
    with pytest.raises(ConfigError, match="training.validate_every is"):
        planned(f"training.validate_every={every}")


def test_looks_see_no_test_sample(plain, tmp_path, monkeypatch):
    plan, store = planned(*ONLY, EVERY), beside(plain[1], tmp_path / "store")
    key = plan.cells[0]["key"]
    store.remove(store.folder(key))
    shown, cls = [], methods.get("das3d")
    predict, fit = cls.predict, cls.fit

    def fit_only(self, train, validation):
        def predicted(batch):
            shown.extend(batch.arrays["rgb"].numpy())
            return predict(self, batch)

        self.predict = predicted
        fit(self, train, validation)
        del self.predict

    monkeypatch.setattr(cls, "fit", fit_only)
    assert run_job(plan.jobs[key].describe(), str(store.path)).status == DONE
    view = store.finished(plan.jobs[key].about.needs.view).folder
    known = {split: cache.open_split(view, split)[0].arrays["rgb"] for split in PARTS}
    assert len(shown) == 2 * (len(known["validation"]) + len(known["simulated"]))
    for image in shown:
        assert any(np.array_equal(image, own) for split in PARTS[:2] for own in known[split])
        assert not any(np.array_equal(image, own) for own in known["test"])


PARTS = ("validation", "simulated", "test")


def test_looks_are_read_as_they_were_written_and_damaged_lines_left_out(tmp_path, caplog):
    looks = [
        Look("a", 1, 3, 1 / 6, {"x": 0.1 + 0.2, "y": math.inf}),
        Look("b", 3, 3, 1.0, {"x": 1.0, "y": 0.0}),
    ]
    write_looks(tmp_path, looks)
    assert read_looks(tmp_path) == looks
    text = (tmp_path / LOOKS).read_text()
    (tmp_path / LOOKS).write_text(text.replace("b,3", "b,three"))
    assert read_looks(tmp_path) == looks[:1] and "damaged line" in caplog.text
    (tmp_path / LOOKS).write_text("")
    assert read_looks(tmp_path) == [] and read_looks(tmp_path / "nothing") == []
