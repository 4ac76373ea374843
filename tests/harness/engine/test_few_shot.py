import itertools
import shutil

import numpy as np
import pytest

import methods
from harness.engine.runners import few_shot
from harness.planning.config import ConfigError
from harness.store import Store
from methods.contract import Samples
from methods.seeds import opaque_id
from tests.harness.conftest import planned, run

ONE = "methods=[das3d/untrained]"
FEW = "datasets.synthetic.train_samples"


def split(n, order=None):
    """n samples whose array tells their number."""
    order = np.arange(n) if order is None else order
    return Samples({"number": order.copy()}, tuple(f"train/good/{i:03}" for i in order))


def drawn(n, count, category="bagel", seed=0, order=None):
    return few_shot(split(n, order), count, category, seed)


def test_fewer_samples_are_among_the_more():
    for seed in range(5):
        sets = [set(drawn(60, k, seed=seed).ids) for k in (1, 5, 10, 50, 60)]
        assert [len(s) for s in sets] == [1, 5, 10, 50, 60]
        assert all(few < more for few, more in itertools.pairwise(sets))


def test_the_draw_depends_on_category_and_seed_and_on_nothing_else():
    assert drawn(60, 5).ids == drawn(60, 5).ids
    assert drawn(60, 5).ids != drawn(60, 5, seed=1).ids
    assert drawn(60, 5).ids != drawn(60, 5, "rope").ids
    shuffled = np.random.default_rng(0).permutation(60)
    assert set(drawn(60, 5, order=shuffled).ids) == set(drawn(60, 5).ids)


def test_the_arrays_go_with_the_ids_and_all_samples_are_the_whole_split():
    few = drawn(60, 7)
    assert [f"train/good/{i:03}" for i in few.arrays["number"]] == list(few.ids)
    assert drawn(60, 60).ids == split(60).ids


def test_every_sample_is_as_likely_as_the_others():
    counts = np.bincount(
        np.concatenate([drawn(10, 3, seed=seed).arrays["number"] for seed in range(600)]),
        minlength=10,
    )
    assert counts.min() > 140 and counts.max() < 220  # 180 expected


def test_more_samples_than_there_are_cannot_be_drawn():
    with pytest.raises(ValueError, match="train_samples is 7, and bagel has 6"):
        drawn(6, 7)


def test_a_cell_is_fitted_on_the_samples_drawn_and_says_so(tiny_store, tmp_path, monkeypatch):
    seen = []
    fit = methods.get("das3d").fit
    monkeypatch.setattr(
        methods.get("das3d"),
        "fit",
        lambda self, train, validation: (seen.append(train.ids), fit(self, train, validation)),
    )
    store = Store(shutil.copytree(tiny_store.path, tmp_path / "store"))
    plan = planned(ONE, f"{FEW}=2")
    assert not run(plan, store).failures
    drawn = few_shot(split(6), 2, "cookie", 0).ids
    view = store.finished(store.finished(plan.cells[0]["key"]).spec.needs.named["view"])
    assert seen == [tuple(opaque_id(view.spec.data, "cookie", id) for id in drawn)]
    result = store.result(plan.cells[0]["key"])
    assert result.counts["train"] == 2 and result.counts["train_available"] == 6
    assert result.marks == ["2-shot", "untrained"]  # beside its numbers in every table


def test_only_the_cell_depends_on_the_number_of_samples():
    def keys(plan, kind):
        return [key for key, job in plan.jobs.items() if job.spec["kind"] == kind]

    whole, two, three = planned(ONE), planned(ONE, f"{FEW}=2"), planned(ONE, f"{FEW}=3")
    assert keys(whole, "view") == keys(two, "view") and keys(whole, "dataset") == keys(
        two, "dataset"
    )
    assert len({*keys(whole, "cell"), *keys(two, "cell"), *keys(three, "cell")}) == 3
    (cell,) = (job for job in whole.jobs.values() if job.spec["kind"] == "cell")
    assert "train_samples" not in cell.spec


def test_more_samples_than_there_are_is_refused_before_anything_runs(tiny_store):
    with pytest.raises(
        ConfigError, match="train_samples is 7, and cookie has 6 samples to train on"
    ):
        planned(ONE, f"{FEW}=7")
    with pytest.raises(ConfigError, match="train_samples is 0: give 1 or more"):
        planned(ONE, f"{FEW}=0")
    made = next(job for job in planned().jobs.values() if job.spec["kind"] == "dataset")
    root = tiny_store.folder(made.key)
    name = next(iter(planned(data=root).config.datasets))
    with pytest.raises(ConfigError, match="train_samples is 7, and cookie has 6"):
        planned(ONE, f"datasets.{name}.train_samples=7", data=root)
