"""Fitted models from the store, on the samples of their cells and on others."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

import methods
from harness.cli.app import built
from harness.data.parts import find_parts
from harness.data.samples import DataError
from harness.engine.answers import overlay
from harness.engine.code import lay_plugins
from harness.engine.models import load
from harness.engine.predict import Fault, Threshold, arrays_of, normal_scores, predict
from harness.store import DamagedError, Store
from harness.store.frames import frame_of
from harness.store.models import find, models
from methods import plugins
from methods.errors import UserError
from tests.harness.conftest import planned, run
from tests.methods.tiny import SIZES, TINY
from tests.test_bring_your_own import FILES

DATA = (
    "datasets.synthetic.synthetic={preset: tiny, train: 9, validation: 3, good: 2, per_defect: 1}"
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """method -> a store in which it is fitted and kept, and its model's key."""
    store, done = Store(tmp_path_factory.mktemp("models")), {}

    def fit(name, *more):
        if (name, more) not in done:
            settings = {"prep": {"size": SIZES[name]}, **TINY[name]}
            given = (f"methods=[{name}]", f"{name}={json.dumps(settings)}", DATA, *more)
            plan = planned(*given, "protocol.keep_models=true")
            plan.record(store)
            assert not run(plan, store).failures
            done[name, more] = plan.cells[0]["key"]
        return store, done[name, more]

    return fit


def ready(fitted, name="baseline"):
    store, key = fitted(name)
    return store, load(store, find(store, key), CPU)


def folder_of(store, model):
    """Of the category's files."""
    made = model.prepared.spec.needs.dataset
    return store.finished(made).folder / model.stored.record.spec.category


def parts(model, *given):
    return find_parts([str(g) for g in given], "cookie", model.prepared.spec.reading)


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_test_samples_of_its_cell_come_out_the_same_to_the_bit(fitted, name):
    store, model = ready(fitted, name)
    record = model.stored.record
    found = list(predict(model, parts(model, folder_of(store, model)), size=3))
    maps, scores = record.maps(), record.scores().to_pydict()
    wanted = dict(zip(scores["id"], scores["score"]))
    assert len(found) == len(maps.ids) == len(wanted) > 3
    for one in found:
        frame = frame_of(model.prepared, one.rgb.shape[:2])
        stored = maps.values[maps.at[one.ref.id]]
        assert np.array_equal(one.map, frame.back(stored, one.rgb.shape[:2])), one.ref.id
        assert one.score == wanted[one.ref.id] and one.known


@pytest.mark.parametrize("name", ["m3dm", "shape_guided"])
def test_what_is_not_a_sample_of_its_cell_is_computed_anew_whatever_it_is_called(
    fitted, name, tmp_path
):
    """Features that a stage kept are those of the samples; a namesake must not get them."""
    store, model = ready(fitted, name)
    source = folder_of(store, model) / "test"
    own, other = tmp_path / "test" / "good", source / "hole"
    for part in ("rgb", "xyz"):
        (own / part).mkdir(parents=True)
        file = sorted((other / part).iterdir())[0]
        shutil.copy(file, own / part / f"000{file.suffix}")  # called as another sample is
    (namesake,) = predict(model, parts(model, own))
    (itself,) = predict(model, parts(model, sorted((other / "rgb").iterdir())[0]))
    (called,) = predict(model, parts(model, source / "good" / "rgb" / "000.png"))
    assert (namesake.ref.id, itself.ref.id) == ("test/good/000", "test/hole/000")
    assert (namesake.known, itself.known, called.known) == (False, True, True)
    assert abs(namesake.score - itself.score) <= 0.02 * abs(itself.score)
    assert namesake.score != called.score


def test_a_view_that_needs_all_training_samples_is_that_of_the_cell(fitted):
    store, model = ready(fitted, "dbrn")
    assert model.view.fg_threshold == "auto" and model.learnt["fg_threshold_m"] > 0
    ref = parts(model, folder_of(store, model))[0]
    arrays = arrays_of(model, ref.load())
    made = np.load(model.prepared.folder / "test" / "foreground.npy")
    ids = json.loads((model.prepared.folder / "test" / "index.json").read_text())["ids"]
    assert np.array_equal(arrays["foreground"], made[ids.index(ref.id)]) and made.any()


def test_models_are_found_by_key_and_by_name(fitted):
    store, key = fitted("baseline")
    _, plane = fitted("baseline", "methods=[baseline/plane]", "settings=[3d,rgb+3d]")
    assert find(store, key).key == find(store, key[:6]).key == key
    assert find(store, "baseline/rgb+3d/cookie").key == key  # and not its variant
    assert find(store, "baseline/plane/3d").key == plane
    assert {m.name for m in models(store)} >= {
        "baseline/rgb+3d/synthetic/cookie/0",
        "baseline/plane/3d/synthetic/cookie/0",
    }
    assert find(store, key).bytes == sum(
        f.stat().st_size for f in (store.folder(key) / "model").iterdir()
    )
    with pytest.raises(UserError, match="2 models are 'baseline/plane': give one of"):
        find(store, "baseline/plane")
    with pytest.raises(UserError, match="no model is 'patchcore': give one of .*baseline"):
        find(store, "patchcore")
    with pytest.raises(UserError, match="keep_models=true"):
        find(Store(store.path / "nowhere"), "baseline")


def spoiled(store, key, tmp_path):
    """The same store with one byte of the model changed."""
    other = Store(shutil.copytree(store.path, tmp_path / "store"))
    path = next((other.folder(key) / "model").iterdir())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return other


def test_a_damaged_model_is_refused_by_name(fitted, tmp_path):
    store, key = fitted("baseline")
    other = spoiled(store, key, tmp_path)
    with pytest.raises(DamagedError, match=r"model/normal.pt has other bytes"):
        load(other, find(other, key), CPU)


def test_a_model_of_another_version_or_kind_is_refused(fitted, monkeypatch):
    store, key = fitted("baseline")
    cls = methods.get("baseline")
    with monkeypatch.context() as patch:
        patch.setattr(cls, "version", 7)
        with pytest.raises(UserError, match="version 1 of baseline, and this is version 7"):
            load(store, find(store, key), CPU)

    def broken(self, folder):
        raise KeyError("net")

    monkeypatch.setattr(cls, "load", broken)
    with pytest.raises(UserError, match=r"is no model of baseline/rgb\+3d.*KeyError"):
        load(store, find(store, key), CPU)


def test_a_model_of_a_plug_in_asks_for_the_code_that_fitted_it(tmp_path, monkeypatch):
    mine = tmp_path / "mine.py"
    mine.write_text(FILES["mine.py"])
    plugins.use([str(mine)])
    try:
        store = Store(tmp_path / "store")
        plan = planned(
            "methods=[mean_depth]", DATA, "protocol.keep_models=true", f"plugins=[{mine}]"
        )
        plan.record(store)
        lay_plugins(store.path)
        assert not run(plan, store).failures
        key, code = plan.cells[0]["key"], plugins.fingerprint(str(mine))
        assert load(store, find(store, key), CPU).method.name == "mean_depth"
        monkeypatch.setattr(plugins, "_stands_in", {})  # as in another process
        mine.write_text(FILES["mine.py"] + "\n# changed\n")
        copy = store.path / "plugins" / code / "mine.py"
        said = f"fitted with 'mean_depth' of code {code}.*run its launch again.*--plugin {copy}"
        with pytest.raises(UserError, match=said):
            load(store, find(store, key), CPU)
        plugins.use([])
        with pytest.raises(UserError, match=f"not loaded: give --plugin {copy}"):
            load(store, find(store, key), CPU)
        plugins.use([str(copy)])
        assert load(store, find(store, key), CPU).method.name == "mean_depth"
    finally:
        plugins.use([])


def test_weights_are_found_by_their_launch_and_checked_by_content(fitted, tmp_path):
    textures = tmp_path / "textures"
    textures.mkdir()
    cv2.imwrite(str(textures / "1.png"), np.full((80, 80, 3), 200, np.uint8))
    texture = {"source": "folder", "folder": str(textures)}
    store, key = fitted("das3d", f"das3d.texture={json.dumps(texture)}")
    stored = find(store, key)
    assert load(store, stored, CPU).method.settings.texture.folder == str(textures)
    with pytest.raises(UserError, match="weights.rgb: das3d had no such file"):
        load(store, stored, CPU, {"weights.rgb": "a.pth"})
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UserError, match=f"{other} is not the file that {key} had as texture"):
        load(store, stored, CPU, {"texture.folder": str(other)})


def test_a_scan_that_cannot_be_read_spares_the_others(fitted, tmp_path):
    store, model = ready(fitted)
    own = shutil.copytree(folder_of(store, model) / "test" / "hole", tmp_path / "own")
    shutil.copy(own / "rgb" / "000.png", own / "rgb" / "001.png")
    (own / "xyz" / "001.tiff").write_bytes(b"no scan")
    faulty, found = predict(model, parts(model, own))
    assert isinstance(faulty, Fault) and isinstance(faulty.error, DataError)
    assert "001.tiff" in str(faulty.error) and np.isfinite(found.score)


def test_few_normal_samples_tell_no_small_rate():
    normal = np.arange(12.0)
    assert Threshold.of(normal, 1 / 13).value == 11 and Threshold.of(normal, 0.5).value == 6
    with pytest.raises(UserError, match=r"0.01 cannot be told from 12 .*0.0769 or more; 99 would"):
        Threshold.of(normal, 0.01)
    with pytest.raises(UserError, match="from 0 normal validation samples"):
        Threshold.of(np.empty(0), 0.2)
    for nonsense in (0.0, 1.0, -1.0):
        with pytest.raises(UserError, match="above 0 and below 1"):
            Threshold.of(normal, nonsense)
    t = Threshold.of(normal, 0.2)
    assert t.p(100.0) == 1 / 13 and t.p(-1.0) == 1.0
    assert [score > t.value for score in (9.5, 10.5)] == [False, True]


def test_no_more_normal_parts_are_called_defective_than_was_asked_for():
    rng = np.random.default_rng(0)
    for n, fpr in ((12, 0.1), (30, 0.05), (30, 0.25)):
        wrong = [rng.normal() > Threshold.of(rng.normal(size=n), fpr).value for _ in range(4000)]
        assert fpr / 2 < np.mean(wrong) < fpr + 0.02


def test_the_threshold_rests_on_the_normal_validation_samples(fitted):
    store, model = ready(fitted)
    scores = normal_scores(model)
    files = (folder_of(store, model) / "validation/good/rgb").iterdir()
    refs = parts(model, *files)
    assert sorted(one.score for one in predict(model, refs)) == sorted(scores.tolist())


def test_the_command_writes_maps_overlays_and_a_table(fitted, tmp_path):
    store, model = ready(fitted)
    files = sorted((folder_of(store, model) / "test" / "hole" / "rgb").iterdir())
    given = ["baseline/rgb+3d/cookie", str(files[0]), "--out", str(tmp_path / "out")]
    where = ["--store", str(store.path)]
    done = CliRunner().invoke(built(), ["predict", *given, *where, "--fpr", "0.25"])
    assert done.exit_code == 0, done.output
    assert "rests on 3 normal validation samples" in " ".join(done.output.split())
    (row,) = csv.DictReader((tmp_path / "out" / "scores.csv").open())
    assert row["part"] == "test/hole/000" and row["decision"] in ("normal", "defective")
    assert (row["decision"] == "defective") == (float(row["score"]) > float(row["threshold"]))
    values = tifffile.imread(tmp_path / "out" / row["map"])
    (found,) = predict(model, parts(model, files[0]))
    assert values.dtype == np.float32 and np.array_equal(values, found.map)
    picture = cv2.imread(str(tmp_path / "out" / row["overlay"]))
    assert picture.shape == found.rgb.shape
    done = CliRunner().invoke(built(), ["predict", *given, *where, "--fpr", "0.05"])
    assert isinstance(done.exception, UserError) and "cannot be told from 3" in str(done.exception)
    listed = CliRunner().invoke(built(), ["models", *where, "--json"])
    row = next(r for r in json.loads(listed.output) if r["key"] == model.stored.key)
    assert row["setting"] == "rgb+3d" and row["bytes"] == model.stored.bytes
    assert row["metrics"]["i_auroc"] is not None
    assert model.stored.key in CliRunner().invoke(built(), ["models", *where]).output


def test_an_overlay_leaves_what_scores_low_as_it_is():
    rgb = np.full((4, 4, 3), 90, np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 5
    picture = overlay(rgb, values, 0.0, 5.0)
    changed = (picture != rgb).any(axis=2)
    assert changed[1, 2] and changed.sum() == 1
    assert np.array_equal(overlay(rgb, values, 3.0, 3.0)[0], rgb[0])  # a constant range
