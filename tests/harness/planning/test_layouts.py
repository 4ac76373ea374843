"""A cell on every kind of dataset, and what of the reading enters its key."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.cache import open_split
from harness.data.synthetic import Spec
from harness.data.synthetic.generate import write_category
from harness.planning.config import ConfigError
from harness.store import DONE, Store
from tests.harness.conftest import planned, run

ONE = "methods=[das3d/untrained]"
CANDY = "datasets.synthetic.synthetic.layout=eyecandies"


def view_of(plan):
    return next(job for job in plan.jobs.values() if job.spec["kind"] == "view")


def result_of(plan, store):
    assert not run(plan, store).failures
    return store.result(plan.cells[0]["key"])


@pytest.fixture(scope="module")
def candy(tmp_path_factory):
    """A store in which an untrained cell on synthetic Eyecandies is done."""
    store = Store(tmp_path_factory.mktemp("candy"))
    assert result_of(planned(ONE, CANDY), store).status == DONE
    return store


@pytest.fixture
def store(candy, tmp_path):
    """A copy of that store, to be changed."""
    return Store(shutil.copytree(candy.path, tmp_path / "store"))


def test_a_cell_runs_on_both_layouts_of_the_synthetic_data(tiny_store, candy):
    mvtec = tiny_store.result(planned(ONE).cells[0]["key"])
    other = candy.result(planned(ONE, CANDY).cells[0]["key"])
    assert mvtec.key != other.key and set(mvtec.metrics) == set(other.metrics)
    assert other.counts == {"train": 6, "train_available": 6, "test": 7, "anomalous": 4}
    samples, truth = open_split(candy.folder(view_of(planned(ONE, CANDY)).key), "test")
    assert set(truth.defects) == {"good", "bad"} and truth.labels.sum() == 4
    share = samples.arrays["foreground"].mean(axis=(1, 2))
    assert share.min() > 0.05 and share.max() < 0.6  # the plane is found and removed


def test_the_layout_enters_the_key_of_the_dataset():
    kinds = [
        [j.key for j in plan.jobs.values() if j.spec["kind"] == "dataset"]
        for plan in (planned(ONE), planned(ONE, CANDY))
    ]
    assert kinds[0] != kinds[1]


@pytest.mark.parametrize("option", ["light=4", "scale=0.2", "focal_px=500", "geometry=m3dm"])
def test_how_eyecandies_is_read_enters_the_key_of_the_view_and_not_of_the_data(option):
    none = "datasets.synthetic.background=none"
    before = planned(ONE, CANDY, none)
    after = planned(ONE, CANDY, none, f"datasets.synthetic.eyecandies.{option}")
    assert view_of(before).key != view_of(after).key
    assert view_of(before).needs == view_of(after).needs


def test_options_of_the_other_layout_leave_the_keys_alone():
    assert list(planned(ONE, "datasets.synthetic.eyecandies.light=4").jobs) == list(
        planned(ONE).jobs
    )
    scaled = planned(ONE, CANDY, "datasets.synthetic.scale=2")
    assert list(scaled.jobs) == list(planned(ONE, CANDY).jobs)


def test_another_light_gives_other_images_and_the_same_depth(store):
    plan = planned(ONE, CANDY, "datasets.synthetic.eyecandies.light=2")
    result_of(plan, store)
    five, _ = open_split(store.folder(view_of(planned(ONE, CANDY)).key), "train")
    two, _ = open_split(store.folder(view_of(plan).key), "train")
    assert np.array_equal(five.arrays["depth"], two.arrays["depth"])
    assert not np.array_equal(five.arrays["rgb"], two.arrays["rgb"])


def test_data_of_either_kind_needs_a_folder_only(candy, tmp_path):
    made = next(j for j in planned(ONE, CANDY).jobs.values() if j.spec["kind"] == "dataset")
    plan = planned(ONE, data=candy.folder(made.key))
    (dataset,) = plan.config.datasets.values()
    assert dataset.kind == "auto" and view_of(plan).place.kind == "eyecandies"
    found = result_of(plan, Store(tmp_path))
    same = candy.result(planned(ONE, CANDY).cells[0]["key"])
    assert found.metrics == same.metrics


def test_m3dms_geometry_has_no_plane_left_to_remove(store):
    m3dm = "datasets.synthetic.eyecandies.geometry=m3dm"
    with pytest.raises(ConfigError, match="set background=none"):
        planned(ONE, CANDY, m3dm)
    plan = planned(ONE, CANDY, m3dm, "datasets.synthetic.background=none")
    assert result_of(plan, store).status == DONE


def test_user_data_with_depth_images_gives_the_results_of_its_clouds(tmp_path):
    """The example of the README: the same scans as clouds and as 16-bit depth with a camera."""
    spec = Spec(100, ("cookie",), train=3, validation=0, good=2, per_defect=1, kinds=("hole",))
    write_category(tmp_path / "clouds", "cookie", spec)
    write_category(tmp_path / "images", "cookie", spec)
    part = tmp_path / "images/cookie"
    for path in sorted(part.glob("*/*/xyz/*.tiff")):
        depth = np.round(tifffile.imread(path)[..., 2] / 1e-5).astype(np.uint16)
        target = path.parents[1] / "depth" / f"{path.stem}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(depth).save(target)
        path.unlink()
    for folder in part.glob("*/*/xyz"):
        folder.rmdir()
    camera = part / "calibration/camera_parameters.json"
    camera.write_text(json.dumps({**json.loads(camera.read_text()), "depth_scale": 1e-5}))
    views = []
    for name in ("clouds", "images"):
        plan, store = planned(ONE, data=tmp_path / name), Store(tmp_path / f"store-{name}")
        result_of(plan, store)
        views.append(open_split(store.folder(view_of(plan).key), "train")[0].arrays)
    for name, tolerance in (("rgb", 0), ("depth", 2e-3), ("foreground", 0)):
        one, other = (view[name].astype(float) for view in views)  # 5 um may decide at the plane
        assert (np.abs(one - other) > tolerance).mean() < 0.005, name


def test_a_wrong_option_is_refused_with_the_known_ones():
    for change, named in [
        ("eyecandies.light=6", "no light 6"),
        ("eyecandies.light=left", "Integer"),
        ("eyecandies.geometry=world", "camera, m3dm"),
        ("kind=mvtec", "mvtec3d"),
        ("synthetic.layout=pcd", "eyecandies"),
    ]:
        with pytest.raises(ConfigError, match=named):
            planned(f"datasets.synthetic.{change}")
