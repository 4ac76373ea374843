"""A fit that is done outlives what fails after it; what can fail is looked at before."""

import errno
import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

import methods
from harness import metrics
from harness.data.cache import Truth
from harness.engine import early, kept
from harness.engine.job import run_job
from harness.store import DONE, FAILED, Store
from methods.contract import Prediction, Samples
from tests.harness.conftest import planned, run
from tests.methods.tiny import SIZES, TINY

ALWAYS = "harness.engine.kept.KEEP_FROM_S"
DATA = (
    "datasets.synthetic.synthetic={preset: tiny, train: 9, validation: 1, good: 2, per_defect: 1}"
)


def cell_of(name, *more):
    settings = {"prep": {"size": SIZES[name]}, **TINY[name]}
    return planned(f"methods=[{name}]", f"{name}={json.dumps(settings)}", DATA, *more)


def do(plan, store, key):
    return run_job(plan.jobs[key].describe(), str(store.path))


def files_of(store, key):
    return {name: known for name, known in store.finished(key).files.items() if name != "curve.csv"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """method -> its plan, its cell's key and a store with all that the cell needs."""
    shared, found = Store(tmp_path_factory.mktemp("inputs")), {}

    def prepare(name):
        if name not in found:
            plan = cell_of(name)
            key = plan.cells[0]["key"]
            for other in plan.jobs:
                if other != key:
                    outcome = do(plan, shared, other)
                    assert outcome.status == DONE, outcome.reason
            found[name] = plan, key
        return *found[name], shared

    return prepare


def beside(shared, folder):
    """A store that has the jobs of `shared`."""
    store = Store(folder)
    store.path.mkdir(parents=True)
    shutil.copytree(shared.path / "jobs", store.path / "jobs")
    return store


@pytest.fixture
def fits(monkeypatch):
    """The names of the methods that were fitted."""
    done = []
    for name in methods.METHODS:
        cls = methods.get(name)

        def fit(self, train, validation, fit=cls.fit):
            done.append(self.name)
            fit(self, train, validation)

        monkeypatch.setattr(cls, "fit", fit)
    return done


def broken(*_, **__):
    raise RuntimeError("as asked")


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_next_attempt_goes_on_after_the_fit_to_the_same_bits(
    prepared, fits, name, tmp_path, monkeypatch
):
    monkeypatch.setattr(ALWAYS, 0.0)
    plan, key, shared = prepared(name)
    store, undisturbed = (beside(shared, tmp_path / part) for part in ("a", "b"))
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "evaluate_with_curves", broken)
        assert do(plan, store, key).reason == "RuntimeError: as asked"
    assert (store.work(key) / kept.FITTED / kept.MARK).exists()
    assert do(plan, store, key).status == DONE
    assert fits == [name]
    assert do(plan, undisturbed, key).status == DONE
    assert fits == [name, name]
    assert files_of(store, key) == files_of(undisturbed, key)
    again, once = store.finished(key), undisturbed.finished(key)
    for part in ("metrics", "validation", "sizes", "notes", "marks"):
        assert getattr(again, part) == getattr(once, part)
    assert again.timings["total_s"] > again.timings["fit_s"] > 0
    assert {"load_s", "fit_s"} <= set(again.timings) and "keep_s" in once.timings
    assert again.memory["host_peak_bytes"] is None or again.memory["host_peak_bytes"] > 0
    assert not store.work(key).joinpath(kept.FITTED).exists()


@pytest.fixture
def ready(prepared, fits, tmp_path, monkeypatch):
    """A cell whose fit is kept, and which failed after it."""
    monkeypatch.setattr(ALWAYS, 0.0)
    plan, key, shared = prepared("das3d")
    store = beside(shared, tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "evaluate_with_curves", broken)
        assert do(plan, store, key).status == FAILED
    assert fits == ["das3d"]
    return plan, key, store


def test_a_kept_fit_that_is_damaged_is_set_aside_and_fitted_again(ready, fits, caplog):
    plan, key, store = ready
    path = store.work(key) / kept.FITTED / "net.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert do(plan, store, key).status == DONE
    assert fits == ["das3d", "das3d"]
    assert "set aside" in caplog.text and "fitted again" in caplog.text
    assert [p.name for p in store.path.glob(f"damaged/{kept.FITTED}-{key}-*/*.pt")] == ["net.pt"]


def test_a_kept_fit_that_cannot_be_loaded_is_set_aside_and_fitted_again(ready, fits, monkeypatch):
    plan, key, store = ready
    monkeypatch.setattr(methods.get("das3d"), "load", broken)
    assert do(plan, store, key).status == DONE
    assert fits == ["das3d", "das3d"]


def test_a_fit_whose_saving_was_killed_is_not_taken_for_one(ready, fits):
    plan, key, store = ready
    (store.work(key) / kept.FITTED / kept.MARK).unlink()
    assert do(plan, store, key).status == DONE
    assert fits == ["das3d", "das3d"]
    assert not any(name.startswith(kept.FITTED) for name in store.finished(key).files)


def test_a_full_disk_while_publishing_keeps_the_fit(ready, fits, monkeypatch):
    plan, key, store = ready

    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("harness.store.store.write_json", full)
        assert "No space" in do(plan, store, key).reason
    assert do(plan, store, key).status == DONE
    assert fits == ["das3d"]


def test_a_kept_fit_becomes_the_model_where_it_is_asked_for(prepared, fits, tmp_path, monkeypatch):
    monkeypatch.setattr(ALWAYS, 0.0)
    _, _, shared = prepared("das3d")
    store, plan = beside(shared, tmp_path / "store"), cell_of("das3d", "protocol.keep_models=true")
    key = plan.cells[0]["key"]
    with monkeypatch.context() as patch:
        patch.setattr("harness.engine.job.environment", broken)  # the last before it is published
        assert do(plan, store, key).status == FAILED
    assert do(plan, store, key).status == DONE
    assert fits == ["das3d"]
    found = [name for name in store.finished(key).files if "/" in name]
    assert found == ["model/net.pt"]
    assert sorted(p.name for p in (store.folder(key) / "model").iterdir()) == ["net.pt"]


def test_a_short_fit_is_not_kept(prepared, fits, tmp_path, monkeypatch):
    monkeypatch.setattr(ALWAYS, 1e9)
    plan, key, shared = prepared("das3d")
    store = beside(shared, tmp_path / "store")
    assert do(plan, store, key).status == DONE
    assert "keep_s" not in store.finished(key).timings


@pytest.mark.parametrize(
    "ask, value, said",
    [
        ("notes", {"steps": 3}, "das3d: notes.. says 'steps' is 3, a int; it must be a text"),
        ("notes", None, "das3d: notes.. returned None; it must be a mapping"),
        ("sizes", {"bytes": float("nan")}, "das3d: sizes.. says 'bytes' is nan, a float"),
        ("sizes", {"trained": True}, "das3d: sizes.. says 'trained' is True, a bool"),
        ("sizes", {1: 1}, "das3d: sizes.. has the name 1; names must be texts"),
    ],
)
def test_wrong_notes_and_sizes_fail_before_the_fit_with_method_and_value(
    prepared, fits, tmp_path, monkeypatch, ask, value, said
):
    plan, key, shared = prepared("das3d")
    store = beside(shared, tmp_path / "store")
    monkeypatch.setattr(methods.get("das3d"), ask, lambda self: value)
    outcome = do(plan, store, key)
    assert outcome.status == FAILED and not fits
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(outcome.reason)


def test_wrong_notes_of_a_stage_name_it_and_their_value(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "toy", "tests.harness.toy_method:Toy")
    stage = methods.get("toy").stages["mean"]
    monkeypatch.setattr(stage, "notes", lambda self: {"mean_of": ["cookie"]})
    monkeypatch.setattr(stage, "fit", broken)
    store = Store(shutil.copytree(tiny_store.path, tmp_path / "store"))
    failures = run(planned("methods=[toy]"), store).failures
    said = "toy mean: notes() says 'mean_of' is ['cookie'], a list; it must be a text"
    assert said in failures[0].reason


def test_notes_that_are_wrong_only_after_the_fit_lose_nothing(
    prepared, fits, tmp_path, monkeypatch
):
    monkeypatch.setattr(ALWAYS, 0.0)
    plan, key, shared = prepared("das3d")
    store = beside(shared, tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(
            methods.get("das3d"), "notes", lambda self: broken() if not fits else {"steps": 3}
        )
        assert "'steps' is 3" in do(plan, store, key).reason
    assert do(plan, store, key).status == DONE
    assert fits == ["das3d"]


def test_a_disk_that_is_too_small_is_told_before_the_fit(prepared, fits, tmp_path, monkeypatch):
    plan, key, shared = prepared("das3d")
    store = beside(shared, tmp_path / "store")
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 10**6)
    monkeypatch.setattr("harness.engine.early.shutil.disk_usage", lambda path: usage)
    outcome = do(plan, store, key)
    assert not fits and "has 0.00 GB left: free some space" in outcome.reason


def test_a_prediction_of_the_wrong_kind_fails_at_the_first_batch(
    prepared, fits, tmp_path, monkeypatch
):
    plan, key, shared = prepared("das3d")
    store, calls = beside(shared, tmp_path / "store"), []

    def predict(self, batch):
        calls.append(len(batch))
        maps = torch.zeros(len(batch), 8, 8)
        return Prediction(maps, maps[:, 0, 0])

    monkeypatch.setattr(methods.get("das3d"), "predict", predict)
    assert "maps of (8, 8) px, and the masks have (64, 64)" in do(plan, store, key).reason
    assert len(calls) == 1


def check(maps, scores, size=(4, 4)):
    early.check_prediction("toy", Prediction(maps, scores), ("a", "b"), size)


def test_predictions_must_be_finite_floats_in_the_contracts_shapes():
    maps, scores = torch.zeros(2, 4, 4), torch.zeros(2)
    check(maps, scores)
    check(maps, scores, None)
    with pytest.raises(ValueError, match="the contract says"):
        check(maps[:, 0], scores)
    with pytest.raises(ValueError, match="maps of torch.int64"):
        check(maps.long(), scores)
    scores[1] = torch.nan
    with pytest.raises(ValueError, match="scores that are not finite, of b"):
        check(maps, scores)


def test_a_view_whose_splits_do_not_fit_each_other_is_refused():
    def samples(n, **arrays):
        return Samples({k: np.zeros((n, *v), np.float32) for k, v in arrays.items()}, ("x",) * n)

    one, other = samples(2, depth=(4, 4)), samples(2, depth=(5, 5))
    truth = Truth(("x",) * 2, ("good",) * 2, np.zeros(2, np.int64), np.zeros((2, 4, 4), bool))
    early.check_samples({"train": one, "validation": samples(0, rgb=(4,)), "test": one}, truth)
    with pytest.raises(ValueError, match="test samples have the arrays"):
        early.check_samples({"train": one, "test": other}, truth)
    with pytest.raises(ValueError, match="no training sample"):
        early.check_samples({"train": samples(0, depth=(4, 4)), "test": one}, truth)
