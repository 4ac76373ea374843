import json

import cv2
import numpy as np
import pytest
import tifffile

from harness.data.views.background import pad_square
from harness.metrics import evaluate
from harness.store import Record, Store, write_json
from harness.store.files import sealed
from harness.store.frames import Frame, frame_of
from methods.views import Das3dView, M3dmView
from reports.forms.export import export_maps
from tests.reports.fake_store import without

ONE = {"methods": [("das3d", "")], "settings": ["rgb"], "categories": ["cookie"], "seeds": [0]}


def with_metrics_of_the_maps(store, cell):
    """Give the cell the values that the metrics have for its maps, as a job does."""
    folder = store.folder(cell["key"])
    result = json.loads((folder / "result.json").read_text())
    view = store.folder(result["spec"]["needs"]["view"]) / "test"
    masks, maps = np.load(view / "mask.npy"), np.load(folder / "maps.npy").astype(np.float32)
    np.save(folder / "maps.npy", maps)
    scores = maps.max(axis=(1, 2))
    labels = masks.any(axis=(1, 2)).astype(int)
    result["metrics"] = evaluate(maps, masks, scores, labels)
    del result["files"]["maps.npy"]
    write_json(folder / "result.json", sealed(result))
    return result["metrics"]


def test_the_exported_files_alone_give_the_numbers_of_the_store(build, tmp_path):
    store, launch = build(**ONE)
    expected = with_metrics_of_the_maps(store, launch["cells"][0])
    done = export_maps(store, launch, tmp_path / "out", truth=True)
    (folder,) = done.folders
    assert folder == tmp_path / "out" / "synthetic" / "das3d-rgb-seed0" and not done.left_out
    maps, masks = [], []
    for truth in sorted((folder / "truth" / "cookie" / "test").glob("*/gt/*.png")):  # as the tool
        defect, name = truth.parts[-3], truth.stem
        path = folder / "maps" / "cookie" / "test" / defect / f"{name}.tiff"
        maps.append(tifffile.imread(path))
        masks.append(cv2.imread(str(truth), cv2.IMREAD_UNCHANGED))
        assert maps[-1].dtype == np.float32 and maps[-1].shape == masks[-1].shape
    assert len(maps) == done.maps == 18
    labels = np.array([mask.any() for mask in masks]).astype(int)
    found = evaluate(maps, masks, np.array([m.max() for m in maps]), labels)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_at_the_original_size_maps_lie_on_the_samples_as_the_views_found_them(build, tmp_path):
    """A map that is the view's own ground truth lands on the sample's own ground truth."""
    for view, background in ((Das3dView(size=64), "plane"), (M3dmView(size=64), "none")):
        rng = np.random.default_rng(0)
        for size in ((40, 90), (80, 60), (100, 100), (61, 39)):
            mask = np.zeros(size, np.float32)
            y, x = rng.integers(8, 22, 2)
            mask[y : y + 14, x : x + 14] = 1
            recipe = {"name": view.name, "background": background, "pad": view.pad}
            frame = frame_of(Record({"spec": {"view": recipe}}, tmp_path), size)
            seen = pad_square(mask) if frame == Frame.square(size) else mask
            small = cv2.resize(seen, (64, 64), interpolation=cv2.INTER_AREA)
            back = frame.back(small, size)
            assert back.shape == size and back.dtype == np.float32
            overlap = np.minimum(back, mask).sum() / np.maximum(back, mask).sum()
            assert overlap > 0.6, (view.name, size)  # one view pixel is up to 1.6 of its own
            (ys, xs), (yt, xt) = np.nonzero(back > 0.5), np.nonzero(mask)
            assert abs(ys.mean() - yt.mean()) < 0.6 and abs(xs.mean() - xt.mean()) < 0.6


def test_the_original_size_is_that_of_each_sample_and_needs_its_view(build, tmp_path):
    store, launch = build(**ONE)
    key = store.result(launch["cells"][0]["key"]).spec.needs.view
    index = store.folder(key) / "test" / "index.json"
    same = export_maps(store, launch, tmp_path / "same", size="original")
    assert same.maps == 18 and not same.left_out
    for path in (tmp_path / "same").rglob("*.tiff"):  # protocol and sample have one size here
        kept = np.load(store.folder(launch["cells"][0]["key"]) / "maps.npy").astype(np.float32)
        assert any(np.array_equal(tifffile.imread(path), m) for m in kept)
    listed = json.loads(index.read_text())
    listed["native_sizes"] = [[50 + i, 90] for i in range(len(listed["ids"]))]
    index.write_text(json.dumps(listed))
    export_maps(store, launch, tmp_path / "out", size="original")
    found = {
        f"{path.parent.name}/{path.stem}": list(tifffile.imread(path).shape)
        for path in (tmp_path / "out").rglob("*.tiff")
    }
    assert found == dict(zip(listed["ids"], listed["native_sizes"]))
    index.unlink()
    left = export_maps(store, launch, tmp_path / "none", size="original").left_out
    assert ["its view" in reason for reason in left.values()] == [True]
    with pytest.raises(ValueError, match="dataset's own"):
        export_maps(store, launch, tmp_path / "none", truth=True, size="original")
    with pytest.raises(ValueError, match="protocol, original"):
        export_maps(store, launch, tmp_path / "none", size="big")


def test_cells_that_lack_maps_are_named_with_the_remedy(build, tmp_path):
    store, launch = build(
        **ONE | {"seeds": [0, 1, 2, 3]}, troubles={("das3d", "", "rgb", "cookie", 3): "failed"}
    )
    keys = [cell["key"] for cell in launch["cells"]]
    without(store, keys[0], "maps.npy")
    (store.folder(keys[1]) / "maps.json").unlink()
    kept = store.folder(keys[2]) / "maps.json"
    ids = json.loads(kept.read_text())["ids"]
    without(store, keys[2], "maps.json")
    kept.write_text(json.dumps({"ids": ids[:3]}))
    done = export_maps(store, launch, tmp_path / "out")
    reasons = list(done.left_out.values())
    assert reasons[0] == "its maps are not in the store" and reasons[3] == "failed"
    assert "maps.json is missing" in reasons[1] and "relief run" in reasons[1]
    assert "keep_maps=true" in reasons[2] and len(done.folders) == 0


def test_names_from_data_stay_inside_the_folder(build, tmp_path):
    choices = ONE | {"categories": ["../../escaped"]}
    store, launch = build(**choices)
    launch["cells"] = [cell | {"dataset": "..", "variant": "a/b"} for cell in launch["cells"]]
    export_maps(Store(store.path), launch, tmp_path / "deep" / "out")
    written = list(tmp_path.rglob("*.tiff"))
    assert written and all((tmp_path / "deep" / "out") in path.parents for path in written)
