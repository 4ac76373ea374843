"""What the tools of sensors write, read as their owner meant it or refused with the file's name."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.clouds import read_cloud
from harness.data.datasets import open_dataset
from harness.data.files import read_json
from harness.data.images import read_depth, read_mask, read_rgb
from harness.data.samples import DataError, fingerprint
from tests.harness.data.scans import scan, write_category
from tests.harness.data.test_folder import write_depth_category

GT = np.zeros((12, 16), np.uint8)
GT[3:7, 5:9] = 255
RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


def saved(path, array, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(path, **options)
    return path


# Masks are colours, not samples


def palette(index_of_black, index_of_white):
    image = Image.fromarray(np.where(GT > 0, index_of_white, index_of_black).astype(np.uint8), "P")
    colours = [0] * 768
    colours[3 * index_of_white : 3 * index_of_white + 3] = [255] * 3
    image.putpalette(colours)
    return image


MASKS = {
    "a palette whose first colour is white": palette(1, 0),
    "a palette whose first colour is black": palette(0, 1),
    "grey with alpha": Image.merge("LA", [Image.fromarray(GT), Image.new("L", (16, 12), 255)]),
    "black, and its alpha the mask": Image.merge(
        "LA", [Image.new("L", (16, 12), 0), Image.fromarray(GT)]
    ),
    "colour with alpha": Image.fromarray(np.dstack([GT, GT, GT, np.full_like(GT, 255)])),
    "class ids": Image.fromarray((GT > 0).astype(np.uint8) * 3),
    "16-bit class ids": Image.fromarray((GT > 0).astype(np.uint16) * 300),
    "black and white": Image.fromarray(GT).convert("1"),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_is_what_a_viewer_shows(tmp_path, kind):
    assert np.array_equal(read_mask(saved(tmp_path / "m.png", MASKS[kind])), GT > 0)


def test_a_mask_in_inks_is_not_inverted_and_noise_of_jpeg_marks_nothing(tmp_path):
    inks = saved(tmp_path / "m.tif", Image.fromarray(GT).convert("CMYK"))
    assert np.array_equal(read_mask(inks), GT > 0)
    smooth = cv2.GaussianBlur(np.kron(GT, np.ones((8, 8), np.uint8)), (0, 0), 2)
    noisy = saved(tmp_path / "m.png", smooth, format="JPEG", quality=30)
    decoded = np.array(Image.open(noisy))
    assert np.array_equal(read_mask(noisy), decoded > 127) and (decoded > 0).sum() > GT.sum() / 4


@pytest.mark.parametrize("suffix", ["bmp", "tif", "jpg", "npy"])
def test_masks_come_in_other_formats(tmp_path, suffix):
    path = tmp_path / f"m.{suffix}"
    np.save(path, GT) if suffix == "npy" else saved(path, GT)
    found = read_mask(path)
    assert np.array_equal(found, GT > 0)


# Colour


def test_twelve_bits_in_sixteen_are_not_black(tmp_path):
    deep = RGB.astype(np.uint16) << 4
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    assert np.array_equal(read_rgb(tmp_path / "deep.png"), RGB)
    cv2.imwrite(str(tmp_path / "full.png"), (RGB.astype(np.uint16) * 257)[..., ::-1])
    assert np.array_equal(read_rgb(tmp_path / "full.png"), RGB)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    assert np.array_equal(read_rgb(tmp_path / "deep.tif"), RGB)


def test_a_dark_image_is_as_dark_as_its_camera_saw_it_where_the_bits_are_said(tmp_path):
    dark = RGB.astype(np.uint16)  # of 4096
    cv2.imwrite(str(tmp_path / "dark.png"), dark[..., ::-1])
    assert np.array_equal(read_rgb(tmp_path / "dark.png"), RGB)  # all that can be known alone
    assert np.array_equal(read_rgb(tmp_path / "dark.png", bits=12), RGB >> 4)
    assert read_rgb(tmp_path / "dark.png", bits=8).max() == RGB.max()


def test_the_orientation_of_a_photograph_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    path = saved(tmp_path / "p.jpg", RGB, exif=exif, quality=95)
    assert read_rgb(path).shape == (16, 12, 3)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_image_becomes_colour(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    path = saved(tmp_path / f"c.{suffix}", Image.fromarray(RGB).convert(mode))
    assert read_rgb(path).shape == RGB.shape


def test_a_bitmap_is_read_like_a_png(tmp_path):
    assert np.array_equal(read_rgb(saved(tmp_path / "c.bmp", RGB)), RGB)


# Depth

DEPTH = (600 + np.add.outer(np.arange(48), np.arange(64))).astype(np.uint16)


def test_depth_with_its_bytes_swapped_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match="byteswap"):
        read_depth(saved(tmp_path / "d.png", DEPTH.byteswap()))
    assert np.array_equal(read_depth(saved(tmp_path / "right.png", DEPTH)), DEPTH)


def test_depth_with_its_bits_rotated_is_told(tmp_path):
    category = write_depth_category(tmp_path)
    camera = category.folder / "calibration/camera_parameters.json"
    camera.write_text(json.dumps(json.loads(camera.read_text()) | {"depth_scale": 0.0001}))
    ref = category.samples("train")[0]
    assert "depth_times_8" not in [odd.code for odd in ref.verify()[1]]
    saved(ref.xyz, np.array(Image.open(ref.xyz)) << 3)
    assert "depth_times_8" in [odd.code for odd in ref.verify()[1]]


def test_depth_may_be_tiff_or_npy_in_metres(tmp_path):
    metres = DEPTH.astype(np.float32) / 1000
    metres[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "d.tif", metres)
    np.save(tmp_path / "d.npy", metres)
    for name in ("d.tif", "d.npy"):
        found = read_depth(tmp_path / name)
        assert found[3, 4] == 0 and np.allclose(found, np.nan_to_num(metres))


def test_the_largest_value_of_sixteen_bits_is_missing(tmp_path):
    category = write_depth_category(tmp_path)
    ref = category.samples("train")[0]
    depth = np.array(Image.open(ref.xyz))
    depth[:5] = 65535
    saved(ref.xyz, depth)
    sample = ref.read()
    assert not sample.valid[:5].any() and sample.xyz[..., 2].max() < 1


def test_points_beyond_the_depth_limit_are_missing(tmp_path):
    ref = write_category(tmp_path).samples("train")[0]
    xyz = tifffile.imread(ref.xyz)
    xyz[0, :4] = [(0.1, 0.1, 1e10), (0.1, 0.1, 65.535), (0.1, 0.1, -32.768), (0.1, 0.1, 0.6)]
    tifffile.imwrite(ref.xyz, xyz, photometric="rgb")
    limited = open_dataset("auto", tmp_path, max_depth="1.5").category("dome").samples("train")[0]
    assert limited.read().valid[0, :4].tolist() == [False, False, False, True]
    told = {odd.code: odd for odd in ref.verify()[1]}
    assert "max_depth=" in told["stray_depth"].todo


# Clouds


def test_organised_clouds_of_ply_and_pcd(tmp_path):
    _, xyz, _ = scan()
    points = xyz.reshape(-1, 3).copy()
    points[points[:, 2] == 0] = np.nan
    header = (
        "ply\nformat binary_little_endian 1.0\nelement vertex {}\nproperty float x\n"
        "property float y\nproperty float z\nend_header\n"
    )
    (tmp_path / "c.ply").write_bytes(header.format(len(points)).encode() + points.tobytes())
    pcd = (
        "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {}\nHEIGHT {}\n"
        "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {}\nDATA {}\n"
    )
    shape = (xyz.shape[1], xyz.shape[0], len(points))
    (tmp_path / "b.pcd").write_bytes(pcd.format(*shape, "binary").encode() + points.tobytes())
    lines = "\n".join(" ".join(f"{v:.9g}" for v in p) for p in points)
    (tmp_path / "a.pcd").write_text(pcd.format(*shape, "ascii") + lines + "\n")
    for name in ("c.ply", "b.pcd", "a.pcd"):
        assert np.array_equal(read_cloud(tmp_path / name, "error", xyz.shape[:2]), xyz), name
    with pytest.raises(DataError, match="unorganised list of points, and its image has 9 x 9"):
        read_cloud(tmp_path / "c.ply", "error", (9, 9))
    (tmp_path / "c.ply").write_bytes(b"ply\nnonsense")
    with pytest.raises(DataError, match="cannot read .*c.ply"):
        read_cloud(tmp_path / "c.ply", "error")


# Folders


def test_files_of_any_format_make_a_sample(tmp_path):
    folder = write_category(tmp_path).folder
    for path in folder.glob("train/good/rgb/*.png"):
        saved(path.with_suffix(".bmp"), Image.open(path))
        path.unlink()
    for path in folder.glob("test/hole/gt/*.png"):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    category = open_dataset("auto", tmp_path).category("dome")
    assert len(category.samples("train")) == 3 and category.samples("test")[-1].read().mask.any()


def test_a_file_that_is_there_in_another_format_is_named(tmp_path):
    ref = write_category(tmp_path).samples("train")[0]
    ref.rgb.rename(ref.rgb.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"000.png is missing.*there is .*000.heic, which is not"):
        open_dataset("auto", tmp_path).category("dome").samples("train")


def test_files_in_deeper_folders_are_told_as_unused(tmp_path):
    category = write_category(tmp_path)
    deeper = category.folder / "train/good/rgb/s1"
    deeper.mkdir()
    shutil.copy(category.samples("train")[0].rgb, deeper / "007.png")
    assert category.unused() == [deeper / "007.png"]


def test_a_good_folder_spelt_otherwise_is_no_defect(tmp_path):
    category = write_category(tmp_path)
    (category.folder / "test/good").rename(category.folder / "test/Good")
    with pytest.raises(DataError, match="Good would count as a defect.*rename it to"):
        category.samples("test")


def test_without_any_mask_samples_are_read_for_image_metrics(tmp_path):
    category = write_category(tmp_path)
    shutil.rmtree(category.folder / "test/hole/gt")
    assert [ref.label for ref in category.samples("test")] == [0, 1, 1]


def test_a_link_that_leads_nowhere_is_a_fault_of_its_category_alone(tmp_path):
    category, other = write_category(tmp_path), write_category(tmp_path, "other")
    path = category.samples("train")[0].rgb
    path.unlink()
    path.symlink_to(tmp_path / "gone.png")
    assert fingerprint(category) and len(other.samples("train")) == 3
    with pytest.raises(DataError, match=r"000.png is a link to .*gone.png"):
        category.samples("train")[0].read()


def test_a_name_that_is_no_utf8_is_a_fault_with_its_bytes(tmp_path):
    category = write_category(tmp_path)
    path = category.samples("train")[0].rgb
    os.rename(path, os.fsencode(path.parent) + b"/caf\xe9.png")
    assert fingerprint(category)
    with pytest.raises(DataError, match=r"caf\\xe9.png is no UTF-8"):
        category.samples("train")


def test_a_folder_that_may_not_be_listed_spares_the_others(tmp_path, monkeypatch):
    category, _ = write_category(tmp_path), write_category(tmp_path, "other")
    closed, real = category.folder / "train/good/rgb", os.listdir

    def listdir(path):
        if os.fspath(path) == os.fspath(closed):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert fingerprint(category) and open_dataset("auto", tmp_path).categories == ("dome", "other")
    with pytest.raises(DataError, match="rgb cannot be listed: Permission denied"):
        category.samples("train")


def test_a_mark_of_byte_order_in_the_camera_file_is_no_damage(tmp_path):
    (tmp_path / "c.json").write_text("\ufeff" + json.dumps({"f": 1}), encoding="utf-8")
    assert read_json(tmp_path / "c.json") == {"f": 1}
