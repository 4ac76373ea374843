from dataclasses import replace

import numpy as np
import pytest

from harness.data.cache import open_split
from harness.data.resize import resize
from harness.data.samples import DataError
from harness.data.views import background, m3dm
from harness.data.views.build import build_view
from harness.data.views.clusters import dbscan
from harness.data.views.plane import border_plane, border_points
from methods.contract import seed_for
from methods.views import M3dmView, ShapeGuidedView
from tests.harness.data.scans import sample, scan, write_category

VIEW = M3dmView()
NONE = M3dmView(background="none")
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])  # ImageNet's


@pytest.fixture(scope="module")
def dome():
    """96 x 128 px: the plane is removed, the dome stays."""
    return sample(*scan(96, 128))


def recorded_scene(given):
    """The scene of the fixtures' README: a plane, a dome and two small things beside it."""
    n = given.input("plane_noise", (3, 120, 160)).astype(float)
    i, j = np.mgrid[:120, :160]
    x = 0.001 * (j - 79.5) + 5e-5 * n[0]
    y = 0.001 * (i - 59.5) + 5e-5 * n[1]
    z = 0.5 + 0.12 * x - 0.07 * y + 6e-4 * n[2]
    r2 = (i - 60) ** 2 + (j - 85) ** 2
    z[r2 <= 26**2] -= (0.03 * np.sqrt(np.maximum(0, 1 - r2 / 27**2)))[r2 <= 26**2]
    z[(i - 30) ** 2 + (j - 30) ** 2 <= 16] -= 0.02
    z[(abs(i - 100) <= 1) & (abs(j - 120) <= 1)] -= 0.05
    xyz = np.stack([x, y, z], axis=2)
    xyz[given.input("plane_holes", (120, 160), "unit") < 0.03] = 0
    rgb = given.input("plane_rgb", (120, 160, 3), "unit") * 256
    gt = 255 * (given.input("plane_gt", (120, 160), "unit") > 0.9)
    return sample(rgb.astype(np.uint8), xyz.astype(np.float32), gt)


def stat(array):
    array = array.astype(float)
    return [array.mean(), array.std(), np.abs(array).sum()]


def bits(pixels):
    return np.packbits(pixels.ravel())


@pytest.mark.parity
def test_the_background_goes_as_recorded(parity, monkeypatch):
    given = parity("m3dm")
    want, scene = given.npz("preprocess"), recorded_scene(given)
    border = border_points(scene.xyz, VIEW.plane_border_px)
    assert len(border) == want["edge_count"]
    assert np.allclose(stat(border), want["edge_stat"], rtol=1e-9)

    monkeypatch.setattr(background, "border_plane", lambda *_: want["plane_f64"])
    rgb, xyz, _ = background.cut(scene, replace(VIEW, dbscan=False, pad=False), 0)
    assert np.array_equal(bits((xyz != 0).all(axis=2)), want["planeless_valid"])
    assert np.array_equal(bits(rgb.any(axis=2)), want["planeless_rgb_nonzero"])

    rgb, xyz, mask = background.cut(scene, replace(VIEW, dbscan=False), 0)
    valid = (xyz != 0).all(axis=2)
    assert xyz.shape == tuple(want["padded_shape"])
    assert np.array_equal(bits(valid), want["padded_valid"])
    assert [mask.any(axis=1).argmax(), mask.any(axis=0).argmax()] == want["padded_gt_rows"].tolist()
    assert np.allclose(stat(255 * mask), want["padded_gt_stat"], rtol=1e-9)
    labels = dbscan(xyz[valid], VIEW.dbscan_eps_m, VIEW.dbscan_min_points)
    ids, sizes = np.unique(labels, return_counts=True)
    assert sorted(sizes[ids >= 0]) == sorted(want["cluster_sizes"][want["cluster_ids"] >= 0])
    assert sizes[ids < 0].sum() == want["cluster_sizes"][want["cluster_ids"] < 0].sum()

    rgb, xyz, _ = background.cut(scene, VIEW, 0)
    assert np.array_equal(bits((xyz != 0).all(axis=2)), want["clean_valid"])
    assert np.array_equal(bits(rgb.any(axis=2)), want["clean_rgb_nonzero"])
    assert np.allclose(stat(xyz), want["clean_stat"], rtol=1e-9)
    assert np.allclose(stat(rgb), want["clean_rgb_stat"], rtol=1e-9)


@pytest.mark.parity
def test_the_plane_is_the_recorded_one(parity):
    """Up to the two ways of fitting, in z or square to the plane, which differ by 2e-5 here."""
    given = parity("m3dm")
    want = given.npz("preprocess")["ransac_plane_mean_n30"]
    found = border_plane(
        recorded_scene(given).xyz,
        VIEW.plane_border_px,
        VIEW.plane_inlier_m,
        VIEW.plane_points,
        VIEW.plane_iterations,
        seed=0,
        name="scene",
    )
    assert np.abs(found * np.sign(found[3]) - want).max() < 1e-4


def in_view(rgb=None, xyz=None, mask=None):
    """The view of one sample that is as it is in one part and empty in the others."""
    height, width = next(a for a in (rgb, xyz, mask) if a is not None).shape[:2]
    rgb = np.zeros((height, width, 3), np.uint8) if rgb is None else rgb
    xyz = np.zeros((height, width, 3), np.float32) if xyz is None else xyz
    mask = np.zeros((height, width), np.uint8) if mask is None else mask
    return m3dm.prepare(sample(rgb, xyz, mask), NONE, seed=0)


@pytest.mark.parity
def test_images_clouds_and_truth_are_resized_as_recorded(parity):
    given = parity("m3dm")
    want = given.npz("resize")
    for name, tag, shape in (
        ("resize_rgb", "up", (120, 100, 3)),
        ("resize_rgb_big", "down", (400, 500, 3)),
    ):
        rgb = (given.input(name, shape, "unit") * 256).astype(np.uint8)
        got = ((in_view(rgb=rgb)["rgb"] / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)
        assert np.abs(got[:, ::4, ::4] - want[f"rgb_{tag}"]).max() <= 1e-6
        assert np.allclose(stat(got), want[f"rgb_{tag}_stat"], rtol=1e-5)

    cloud = in_view(xyz=given.input("resize_pc", (400, 400, 3)))["xyz"]
    assert np.array_equal(cloud.transpose(2, 0, 1)[:, ::8, ::8], want["pc"])
    column = np.tile(np.arange(400)[None, :, None], (400, 1, 3))
    assert np.array_equal(in_view(xyz=column.astype("f4"))["xyz"][5, :, 0], want["pc_source_col"])
    assert np.array_equal(truth_source(400), want["gt_source_col"])
    mask = np.zeros((400, 400), np.uint8)
    mask[100:153, 200:251] = 255
    rows, columns = in_view(mask=mask)["mask"].nonzero()
    first_row, _, first_column, _, area = want["gt_rows"]  # the last ones repeat the first
    assert (rows.min(), columns.min(), len(rows)) == (first_row, first_column, area)


def truth_source(n):
    """The source column of each column of the ground truth, read off bit by bit."""
    column = np.arange(n)
    bits = [in_view(mask=np.tile(column >> b & 1, (n, 1)))["mask"][5] for b in range(10)]
    return sum(bit.astype(int) << b for b, bit in enumerate(bits))


@pytest.mark.parametrize("n", [64, 100, 224, 400, 448, 500, 512, 600, 800, 900])
def test_cloud_and_truth_are_sampled_by_their_own_rules(n):
    index = np.tile(np.arange(n, dtype=np.float32)[:, None, None], (1, n, 3))
    cloud, step = in_view(xyz=index)["xyz"][:, 5, 0], np.float32(n) / np.float32(224)
    assert cloud.tolist() == [np.floor(np.float32(i) * step) for i in range(224)]
    centre = (np.arange(224) + 0.5) * n / 224
    off = truth_source(n) - np.floor(centre)
    assert not off[centre % 1 != 0].any() and np.abs(off).max() <= 1  # Pillow sums up rounding


def test_the_dome_alone_is_left(dome):
    got = m3dm.prepare(dome, VIEW, seed=0)
    assert {k: (v.dtype.name, v.shape) for k, v in got.items()} == {
        "rgb": ("uint8", (224, 224, 3)),
        "xyz": ("float32", (224, 224, 3)),
        "mask": ("bool", (224, 224)),
    }
    points = got["xyz"].any(axis=2)
    assert points[105:118, 105:118].mean() > 0.9 and 0.02 < points.mean() < 0.2
    assert not points[:60].any() and not points[:, :60].any()
    assert got["mask"].any() and points[got["mask"]].mean() > 0.8
    colour = got["rgb"].any(axis=2)
    assert colour[points].mean() > 0.99 and colour.mean() < 0.5  # missing points keep theirs


def test_the_same_seed_gives_the_same_bytes(dome):
    a, b = (m3dm.prepare(dome, VIEW, seed=5) for _ in range(2))
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_a_points_coordinates_are_those_of_the_scan(dome):
    got = m3dm.prepare(dome, VIEW, seed=0)["xyz"]
    native = {tuple(p) for p in dome.xyz.reshape(-1, 3).tolist()}
    assert {tuple(p) for p in got.reshape(-1, 3).tolist()} <= native | {(0, 0, 0)}


def test_a_defect_and_its_points_stay_together(dome):
    mask = np.zeros(dome.mask.shape, bool)
    mask[30:66, 50:110] = True
    xyz = np.where(mask[..., None], np.float32(7), np.float32(2))
    rgb = np.where(mask, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    got = in_view(rgb, xyz, mask)
    assert (got["xyz"][..., 0] == 7).sum() * 0.98 < got["mask"].sum()
    assert (got["xyz"][got["mask"]] == 7).mean() > 0.98
    assert got["rgb"][got["mask"]].mean() > 245 and got["rgb"][~got["mask"]].mean() < 5


def test_without_a_background_nothing_is_removed_or_padded(dome):
    got = m3dm.prepare(dome, NONE, seed=0)
    assert np.array_equal(got["rgb"], resize(dome.rgb, 224, "pil_bicubic"))
    assert np.array_equal(got["xyz"], resize(dome.xyz, 224, "torch_nearest"))


def test_unmasked_colours_are_those_of_the_padded_image(dome):
    got = m3dm.prepare(dome, replace(VIEW, mask_rgb=False), seed=0)
    padded = np.pad(dome.rgb, ((52, 52), (36, 36), (0, 0)))
    assert np.array_equal(got["rgb"], resize(padded, 224, "pil_bicubic"))
    assert np.array_equal(got["xyz"], m3dm.prepare(dome, VIEW, seed=0)["xyz"])


@pytest.mark.parametrize("view", [M3dmView(plane_iterations=50), ShapeGuidedView(size=96)])
def test_the_cache_holds_what_the_builder_made(tmp_path, view):
    category = write_category(tmp_path / "data", height=64, width=80)
    build_view(category, view, tmp_path / "view", workers=2)
    for split in ("train", "validation", "test"):
        samples, truth = open_split(tmp_path / "view", split)
        assert set(samples.arrays) == {"rgb", "xyz"} and (truth is None) == (split != "test")
        for i, ref in enumerate(category.samples(split)):
            made = m3dm.prepare(ref.read(), view, seed_for("plane", category.name, ref.id))
            assert np.array_equal(samples.arrays["rgb"][i], made["rgb"])
            assert np.array_equal(samples.arrays["xyz"][i], made["xyz"])
            assert truth is None or np.array_equal(truth.masks[i], made["mask"])


def test_a_scene_that_is_all_plane_is_an_error_that_says_what_to_do(dome):
    xyz = dome.xyz.copy()
    xyz[..., 2] = 0.6 + 0.1 * xyz[..., 0]
    with pytest.raises(DataError, match="no point in dome/test/hole/000.*set background=none"):
        m3dm.prepare(replace(dome, xyz=xyz), VIEW, seed=0)


def test_a_cloud_without_its_background_is_an_error_that_says_what_to_do(dome):
    _, once, _ = background.cut(dome, replace(VIEW, pad=False), seed=0)
    with pytest.raises(DataError, match="removed before.*set background=none"):
        m3dm.prepare(replace(dome, xyz=once), VIEW, seed=0)


def test_an_unknown_background_is_answered_with_the_known_ones(dome):
    with pytest.raises(ValueError, match="background 'magic' in M3dmView; known: plane, support"):
        m3dm.prepare(dome, M3dmView(background="magic"), seed=0)
