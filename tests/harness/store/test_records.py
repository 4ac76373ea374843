"""What a record says and reads of the files beside it."""

import json

import numpy as np

from harness.store import DONE, SCHEMA, Needs, Spec, Store
from harness.store.records import write_curves, write_maps, write_scores


def test_needs_are_found_by_what_they_are_for():
    needs = Needs({"view": "v", "stage:uff": "u", "stage:point/a:b": "p", "dataset": "d"})
    assert (needs.view, needs.dataset) == ("v", "d")
    assert needs.stages == {"uff": "u", "point/a:b": "p"} and needs.views == {}
    assert needs.keys == ("v", "u", "p", "d")
    assert Needs({"view:a": "1", "view:b": "2"}).views == {"a": "1", "b": "2"}


def test_a_description_that_lacks_a_part_has_it_empty():
    spec = Spec({"kind": "dataset"})
    assert (spec.kind, spec.method, spec.seed, spec.settings) == ("dataset", "", 0, {})
    assert spec.needs.keys == () and spec.train_samples is None


def test_files_come_back_as_they_were_written(tmp_path):
    store, work = Store(tmp_path), Store(tmp_path).work("k")
    ids, maps = ("test/good/0", "test/hole/1"), np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    write_scores(work, ids, ("good", "hole"), np.array([0, 1]), np.array([0.5, 0.25]))
    write_maps(work, ids, maps)
    write_curves(work, {"fpr_100": np.array([0.0, 1.0])})
    store.publish("k", {"status": DONE, "spec": {"kind": "cell"}})
    record = store.finished("k")
    assert record.scores().to_pydict() == {
        "id": list(ids),
        "defect": ["good", "hole"],
        "label": [0, 1],
        "score": [0.5, 0.25],
    }
    assert np.array_equal(record.maps().values, maps) and record.maps().at["test/hole/1"] == 1
    assert record.curves()["fpr_100"].tolist() == [0.0, 1.0]
    assert record.losses() == {}


def test_files_that_were_not_kept_are_none(tmp_path):
    store = Store(tmp_path)
    store.publish("k", {"status": DONE, "spec": {"kind": "cell"}})
    record = store.finished("k")
    assert record.scores() is record.maps() is record.curves() is None
    assert json.loads((record.folder / "result.json").read_text())["schema"] == SCHEMA
