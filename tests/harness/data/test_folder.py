"""User data: the layout of MVTec 3D-AD with other files, and recognising what a folder holds."""

import errno
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.clouds import check_unit
from harness.data.datasets import open_dataset, recognise
from harness.data.files import check_name, printable
from harness.data.fix import fix
from harness.data.mvtec3d import CAMERA
from harness.data.samples import DataError, fingerprint
from harness.data.synthetic import Spec
from harness.data.synthetic.generate import write_category
from tests.harness.data.scans import scan, write_cloud
from tests.harness.data.scans import write_category as write_scans

INTRINSICS = {"f": 500.0, "cx": 31.5, "cy": 23.5, "depth_scale": 0.0001}


def write_depth_category(root, name="part", camera=INTRINSICS):
    """train 2, test good 1 and scratch 1, with depth images in tenths of a millimetre."""
    seed = 0
    for folder, count in {"train/good": 2, "test/good": 1, "test/scratch": 1}.items():
        for i in range(count):
            seed += 1
            rgb, xyz, mask = scan(seed=seed)
            arrays = {"rgb": rgb, "depth": np.round(xyz[..., 2] / 0.0001).astype(np.uint16)}
            if "scratch" in folder:
                arrays["gt"] = mask
            for part, array in arrays.items():
                path = root / name / folder / part / f"{i:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    if camera is not None:
        (root / name / CAMERA).parent.mkdir()
        (root / name / CAMERA).write_text(json.dumps(camera))
    return open_dataset("auto", root).category(name)


# Depth images and .npy clouds


def test_depth_images_become_points_with_the_camera_of_their_category(tmp_path):
    sample = write_depth_category(tmp_path).samples("train")[0].read()
    z = np.round(scan(seed=1)[1][..., 2].astype(np.float64), 4)
    v, u = np.mgrid[:48, :64]
    expected = np.stack([(u - 31.5) * z / 500, (v - 23.5) * z / 500, z], axis=2)
    np.testing.assert_allclose(sample.xyz, expected, atol=1e-6)
    assert np.array_equal(sample.valid, z > 0) and not sample.valid.all()


def test_a_part_of_a_larger_image_may_have_its_middle_elsewhere(tmp_path):
    camera = {**INTRINSICS, "cx": 640, "width": 64, "height": 48}
    assert write_depth_category(tmp_path, camera=camera).samples("train")[0].read().xyz.max() < 1


def test_an_empty_folder_of_clouds_hides_no_depth(tmp_path):
    category = write_depth_category(tmp_path)
    (category.folder / "train/good/xyz").mkdir()
    assert category.samples("train")[0].camera and not category.unused()


def test_fx_and_fy_may_differ(tmp_path):
    camera = {"fx": 500, "fy": 250, "cx": 31.5, "cy": 23.5, "depth_scale": 0.0001, "width": 64}
    one = write_depth_category(tmp_path, camera=camera).samples("train")[0].read().xyz
    other = write_depth_category(tmp_path / "other").samples("train")[0].read().xyz
    np.testing.assert_allclose(one, other * (1, 2, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("camera", "named"),
    [
        (None, "camera_parameters.json is missing.*depth_scale"),
        ({"f": 500, "cx": 1}, "lacks cy, depth_scale; depth/ needs f"),
        ({**INTRINSICS, "f": "wide"}, "camera_parameters.json: fx is 'wide'"),
        ({**INTRINSICS, "f": 0}, "above 0"),
        ({**INTRINSICS, "fx": 500, "fy": 50}, "fx 500 and fy 50 are of no camera"),
        ({**INTRINSICS, "cx": 640}, "cx 640, cy 23.5 lies outside of images of 48 x 64 px; scale"),
        ({**INTRINSICS, "f": 4.5}, "f of 4.5 px for 48 x 64 px.*millimetres"),
        ([], "holds no names with values"),
        (
            {**INTRINSICS, "width": 128, "height": 96},
            "is for 96 x 128 px, and images are 48 x 64",
        ),
        (
            {**INTRINSICS, "depth_scale": 0.1},
            "000.png has a median depth of 59.*looks like millimetres, factor 1000; "
            "set depth_scale in "
            ".*camera_parameters.json to 0.0001",
        ),
    ],
)
def test_a_camera_file_that_will_not_do_is_named(tmp_path, camera, named):
    category = write_depth_category(tmp_path, camera=camera)
    with pytest.raises(DataError, match=named):
        category.samples("train")[0].read()


def test_the_camera_enters_the_fingerprint(tmp_path):
    category = write_depth_category(tmp_path)
    before = fingerprint(category)
    (tmp_path / "part" / CAMERA).write_text(json.dumps({**INTRINSICS, "f": 5000.0}))
    assert fingerprint(category) != before


def test_npy_clouds_are_read_like_tiffs(tmp_path):
    category = write_scans(tmp_path)
    ref = category.samples("train")[0]
    expected = ref.read().xyz
    np.save(ref.xyz.with_suffix(".npy"), expected.astype(np.float64))
    ref.xyz.unlink()
    ref = category.samples("train")[0]
    assert ref.xyz.suffix == ".npy" and np.array_equal(ref.read().xyz, expected)


def test_an_unorganised_cloud_is_told_how_to_become_organised(tmp_path):
    ref = write_scans(tmp_path).samples("train")[0]
    np.save(ref.xyz.with_suffix(".npy"), ref.read().xyz.reshape(-1, 3))
    ref.xyz.unlink()
    with pytest.raises(
        DataError, match=r"000.npy .*\(3072, 3\): an unorganised.*reshape\(rows, col"
    ):
        open_dataset("auto", tmp_path).category("dome").samples("train")[0].read()


def test_a_pickle_in_an_npy_file_is_not_opened(tmp_path):
    ref = write_scans(tmp_path).samples("train")[0]
    np.save(ref.xyz.with_suffix(".npy"), np.array([{}], object), allow_pickle=True)
    ref.xyz.unlink()
    with pytest.raises(DataError, match="cannot read .*000.npy"):
        open_dataset("auto", tmp_path).category("dome").samples("train")[0].read()


def test_two_files_with_one_name_are_named(tmp_path):
    category = write_scans(tmp_path)
    ref = category.samples("train")[0]
    write_cloud(ref.xyz.with_suffix(".tif"), ref.read().xyz)
    with pytest.raises(DataError, match="000.tiff and 000.tif have the same name"):
        category.samples("train")


# Units


def test_millimetres_are_recognised_and_the_scale_repairs_them(tmp_path):
    for path in write_scans(tmp_path).folder.glob("*/*/xyz/*"):
        write_cloud(path, tifffile.imread(path) * 1000)
    ref = open_dataset("auto", tmp_path).category("dome").samples("train")[0]
    with pytest.raises(
        DataError,
        match="000.tiff has a median depth of .*looks like millimetres, "
        "factor 1000; set datasets.NAME.scale=0.001",
    ):
        ref.read()
    scaled = open_dataset("auto", tmp_path, scale="0.001").category("dome").samples("train")[0]
    assert 0.5 < np.median(scaled.read().xyz[..., 2]) < 0.7


@pytest.mark.parametrize(
    ("median", "unit"),
    [
        (60, "centimetres, factor 100"),
        (600, "millimetres"),
        (6e5, "micrometres, factor 1e\\+06"),
        (0.0006, "divided by 1000, factor 0.001"),
    ],
)
def test_a_depth_in_another_unit_is_told_with_its_factor(tmp_path, median, unit):
    with pytest.raises(DataError, match=unit):
        check_unit(np.full((8, 8), median), tmp_path, "scale=", 1.0)


@pytest.mark.parametrize("median", [0.02, 0.6, 20.0, 0.0])
def test_a_plausible_or_wholly_missing_depth_passes(tmp_path, median):
    check_unit(np.full((8, 8), median), tmp_path, "scale=", 1.0)


# Recognition


def test_each_layout_is_recognised(tmp_path):
    write_scans(tmp_path / "tiff")
    write_depth_category(tmp_path / "depth")
    write_scans(tmp_path / "published", "bagel")
    one = Spec(32, train=1, validation=0, good=1, per_defect=0)
    write_category(tmp_path / "made", "cookie", one)
    write_category(tmp_path / "candy", "cookie", replace(one, layout="eyecandies"))
    assert {folder.name: recognise(folder) for folder in tmp_path.iterdir()} == {
        "tiff": "folder",
        "depth": "folder",
        "published": "mvtec3d",
        "made": "folder",
        "candy": "eyecandies",
    }
    assert open_dataset("auto", tmp_path / "candy").categories == ("cookie",)


def test_two_layouts_in_one_folder_are_refused(tmp_path):
    write_scans(tmp_path, "dome")
    (tmp_path / "Lollipop/train/data").mkdir(parents=True)
    with pytest.raises(DataError, match=r"dome \(mvtec3d\), Lollipop \(eyecandies\)"):
        open_dataset("auto", tmp_path)
    assert open_dataset("folder", tmp_path).categories == ("dome",)


def test_a_kind_that_does_not_fit_the_folder_is_refused(tmp_path):
    write_scans(tmp_path)
    with pytest.raises(DataError, match="not in the layout of eyecandies"):
        open_dataset("eyecandies", tmp_path)
    with pytest.raises(ValueError, match="unknown kind of dataset 'mvtec'; known: auto, mvtec3d"):
        open_dataset("mvtec", tmp_path)


def test_a_category_of_eyecandies_names_the_folder_above(tmp_path):
    (tmp_path / "candies/Lollipop/train/data").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"give the folder above it, {tmp_path / 'candies'}"):
        open_dataset("auto", tmp_path / "candies/Lollipop")
    with pytest.raises(ValueError, match=f"one level further down; give {tmp_path / 'candies'}"):
        open_dataset("auto", tmp_path)


# Names and settings that nearly fit


def test_a_camera_of_another_resolution_is_told_where_it_may_be_meant(tmp_path):
    half = {"f": 250.0, "cx": 15.5, "cy": 11.5, "depth_scale": 0.0001}
    ref = write_depth_category(tmp_path / "half", camera=half).samples("train")[0]
    assert "camera_off_centre" in ref.read().odd
    told = {**half, "height": 48, "width": 64}  # these are for parts of larger images
    ref = write_depth_category(tmp_path / "cut", camera=told).samples("train")[0]
    assert not ref.read().odd
    ref = write_depth_category(tmp_path / "own").samples("train")[0]
    assert not ref.read().odd


def test_depth_that_is_not_aligned_to_colour_is_told_so_and_not_blamed_on_the_camera(tmp_path):
    camera = {**INTRINSICS, "height": 48, "width": 64}
    ref = write_depth_category(tmp_path, camera=camera).samples("train")[0]
    Image.fromarray(np.array(Image.open(ref.xyz))[::2, ::2].copy()).save(ref.xyz)
    with pytest.raises(DataError, match="differ in rows x columns.*map depth to colour"):
        ref.read()
    (ref,) = [
        ref for ref in open_dataset("auto", tmp_path).category("part").samples("test") if ref.gt
    ]
    Image.fromarray(np.array(Image.open(ref.xyz))[::2, ::2].copy()).save(ref.xyz)
    with pytest.raises(DataError, match="map depth to colour") as told:
        ref.read()
    assert told.value.file == ref.xyz  # colour and mask agree


def test_a_limit_below_the_scene_is_named_and_no_scan_is_blamed(tmp_path):
    write_scans(tmp_path)
    ref = open_dataset("auto", tmp_path, max_depth="0.1").category("dome").samples("train")[0]
    with pytest.raises(DataError, match="within max_depth=0.1 m: the nearest is 0.5.*raise"):
        ref.read()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("1.tiff", "rename it to .*000.tiff"),
        ("0000.tiff", "rename it to .*000.tiff"),
        ("u\u0308.tiff", "look the same, but their accents"),
        ("Ü.tiff", "rename it to .*ü.tiff"),
    ],
)
def test_a_file_whose_name_nearly_fits_is_named_with_the_name_that_does(tmp_path, name, told):
    folder = write_scans(tmp_path).folder / "train/good"
    fits = "001" if name == "1.tiff" else "000" if name[0] == "0" else "ü"
    if fits == "ü":
        (folder / "rgb/000.png").rename(folder / "rgb/ü.png")
        (folder / "xyz/000.tiff").rename(folder / f"xyz/{name}")
    else:
        (folder / f"xyz/{fits}.tiff").rename(folder / f"xyz/{name}")
    faults = open_dataset("auto", tmp_path).category("dome").examine("train")[1]
    there = [fault.todo for fault in faults if str(folder / "rgb") not in str(fault.file)]
    assert any(re.search(told.replace("000", fits), todo) for todo in there), there


def test_what_moves_the_cursor_is_shown_and_does_not():
    assert printable("a\x1b[2Jb\nc") == r"a\x1b[2Jb\nc" and printable("Bügel 件") == "Bügel 件"


def test_a_name_that_the_shells_locale_cannot_read_is_told_what_to_set(tmp_path):
    path = tmp_path / os.fsdecode("Bügel".encode()).encode().decode("ascii", "surrogateescape")
    with pytest.raises(DataError, match="PYTHONUTF8=1"):
        check_name(path)


def test_a_mended_copy_that_cannot_be_written_is_one_error(tmp_path, monkeypatch):
    write_scans(tmp_path / "data")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("harness.data.fix.link_or_copy", full)
    with pytest.raises(OSError, match="No space left"):
        fix(tmp_path / "data", tmp_path / "new")


@pytest.mark.parametrize("hidden", ["test", "test/hole"])
def test_a_folder_that_may_not_be_looked_into_is_a_fault_and_not_empty(
    tmp_path, monkeypatch, hidden
):
    category = write_scans(tmp_path)
    closed = category.folder / hidden
    monkeypatch.setattr("os.access", lambda path, mode: path != closed)  # root may see all
    faults = category.examine("test")[1]
    assert [f.file for f in faults] == [closed] and "permissions" in faults[0].todo
