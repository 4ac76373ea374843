import json

import cv2
import numpy as np
import pytest
import tifffile

from harness.metrics import evaluate
from harness.store import Store
from reports.export import export_maps

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
    (folder / "result.json").write_text(json.dumps(result))
    return result["metrics"]


def test_the_exported_files_alone_give_the_numbers_of_the_store(build, tmp_path):
    store, launch = build(**ONE)
    expected = with_metrics_of_the_maps(store, launch["cells"][0])
    done = export_maps(store, launch, tmp_path / "out", truth=True)
    (folder,) = done.folders
    assert folder == tmp_path / "out" / "synthetic" / "das3d-rgb-seed0" and not done.left_out
    maps, masks = [], []
    for truth in sorted((folder / "truth" / "cookie" / "test").glob("*/gt/*.png")):    # as the tool
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


def test_cells_that_lack_maps_are_named_with_the_remedy(build, tmp_path):
    store, launch = build(**ONE | {"seeds": [0, 1, 2, 3]},
                          troubles={("das3d", "", "rgb", "cookie", 3): "failed"})  # fmt: skip
    (store.folder(launch["cells"][0]["key"]) / "maps.npy").unlink()
    kept = store.folder(launch["cells"][1]["key"]) / "maps.json"
    kept.write_text(json.dumps({"ids": json.loads(kept.read_text())["ids"][:3]}))
    done = export_maps(store, launch, tmp_path / "out")
    reasons = list(done.left_out.values())
    assert reasons[0] == "its maps are not in the store" and reasons[2] == "failed"
    assert "keep_maps=true" in reasons[1] and len(done.folders) == 1


def test_names_from_data_stay_inside_the_folder(build, tmp_path):
    choices = ONE | {"categories": ["../../escaped"]}
    store, launch = build(**choices)
    launch["cells"] = [cell | {"dataset": "..", "variant": "a/b"} for cell in launch["cells"]]
    export_maps(Store(store.path), launch, tmp_path / "deep" / "out")
    written = list(tmp_path.rglob("*.tiff"))
    assert written and all((tmp_path / "deep" / "out") in path.parents for path in written)
