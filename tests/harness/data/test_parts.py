"""Scans to be judged, in whatever places they lie."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.parts import find_parts
from harness.data.samples import DataError
from methods.errors import UserError
from tests.harness.data.scans import scan, write_category, write_cloud

READING = {"nonfinite": "error", "scale": 1.0}
CAMERA = {"f": 500.0, "cx": 31.5, "cy": 23.5, "depth_scale": 0.001}


def found(*given, category="dome", reading=READING):
    return find_parts([str(path) for path in given], category, reading)


@pytest.fixture
def dome(tmp_path):
    return write_category(tmp_path / "data").folder


def flat(folder, name, cloud="", colour="", seed=0):
    """NAME.png and NAME.tiff in one folder; -> the cloud."""
    rgb, xyz, _ = scan(seed=seed)
    folder.mkdir(exist_ok=True, parents=True)
    Image.fromarray(rgb).save(folder / f"{name}{colour}.png")
    write_cloud(folder / f"{name}{cloud}.tiff", xyz)
    return xyz


def test_a_category_its_dataset_and_their_files_give_the_same_samples(dome):
    of_root, of_category = found(dome.parent), found(dome)
    assert [r.id for r in of_root] == ["test/good/000", "test/hole/000", "test/hole/001"]
    assert of_root == of_category
    of_files = found(*(ref.rgb for ref in of_root))
    assert [r.id for r in of_files] == [r.id for r in of_root]
    for one, other in zip(of_files, of_root):
        assert np.array_equal(one.load().xyz, other.load().xyz)
    assert [r.id for r in found(dome / "test/hole")] == ["test/hole/000", "test/hole/001"]
    assert [r.id for r in found(dome / "test/hole/rgb")] == ["test/hole/000", "test/hole/001"]


@pytest.mark.parametrize("cloud, colour", [("", ""), ("_xyz", ""), ("_cloud", "_rgb")])
def test_a_folder_of_images_with_clouds_beside(tmp_path, cloud, colour):
    xyz = [flat(tmp_path / "own", name, cloud, colour, seed=i) for i, name in enumerate("ab")]
    refs = found(tmp_path / "own")
    assert [ref.id for ref in refs] == ["parts/good/a", "parts/good/b"]
    for ref, wanted in zip(refs, xyz):
        sample = ref.load()
        assert np.array_equal(sample.xyz, wanted) and sample.category == "dome"
    assert found(tmp_path / "own" / f"a{colour}.png")[0].id == "parts/good/a"


def test_depth_images_take_the_nearest_camera_above_them(tmp_path):
    depth = np.full((48, 64), 600, np.uint16)
    own = tmp_path / "own"
    flat(own, "a")
    (own / "a.tiff").unlink()
    Image.fromarray(depth).save(own / "a_depth.png")
    with pytest.raises(DataError, match="depth without a camera.*camera_parameters.json"):
        found(own)
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration/camera_parameters.json").write_text(json.dumps(CAMERA))
    (ref,) = found(own)
    assert np.allclose(ref.load().xyz[..., 2], 0.6) and ref.id == "parts/good/a"


def test_a_pair_is_given_by_name(tmp_path):
    flat(tmp_path / "own", "a")
    (tmp_path / "own/a.tiff").rename(tmp_path / "scan 7.tiff")
    (ref,) = found(f"{tmp_path / 'own/a.png'},{tmp_path / 'scan 7.tiff'}")
    assert ref.load().valid.any()
    with pytest.raises(DataError, match="nowhere.tiff is no file; give COLOUR,GEOMETRY"):
        found(f"{tmp_path / 'own/a.png'},{tmp_path / 'nowhere.tiff'}")


def test_folders_of_folders_are_gone_through(tmp_path):
    for i, name in enumerate(("monday", "tuesday")):
        folder = tmp_path / "own" / name
        xyz = flat(folder / "rgb", "000", seed=i)
        (folder / "xyz").mkdir()
        (folder / "rgb/000.tiff").rename(folder / "xyz/000.tiff")
        assert xyz.any()
    assert [r.id for r in found(tmp_path / "own")] == [
        "parts/good/monday/000",
        "parts/good/tuesday/000",
    ]


def test_what_is_missing_is_named_with_what_would_do(tmp_path):
    flat(tmp_path / "own", "a")
    (tmp_path / "own/a.tiff").unlink()
    with pytest.raises(DataError, match=r"a.png has no geometry.*own/a.*a_depth.*give a.png,FILE"):
        found(tmp_path / "own")
    with pytest.raises(DataError, match="nowhere.png does not exist"):
        found(tmp_path / "nowhere.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no colour image with geometry beside it"):
        found(tmp_path / "empty")


def test_two_scans_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        flat(tmp_path / folder, "000")
    with pytest.raises(UserError, match="are both parts/good/000: judge them apart"):
        found(tmp_path / "a", tmp_path / "b")


def test_files_are_read_as_the_dataset_of_the_model_was(tmp_path):
    xyz = flat(tmp_path / "own", "a")
    tifffile.imwrite(tmp_path / "own/a.tiff", xyz * 1000, photometric="rgb", planarconfig="contig")
    (ref,) = found(tmp_path / "own", reading={"nonfinite": "error", "scale": 0.001})
    assert np.allclose(ref.load().xyz, xyz, atol=1e-5)


def test_a_region_of_ones_own_goes_with_its_scan(dome):
    (dome / "test/hole/mask").mkdir()
    shutil.copy(dome / "test/hole/gt/000.png", dome / "test/hole/mask/000.png")
    (ref,) = found(dome / "test/hole/rgb/000.png")
    assert ref.load().region.any()
