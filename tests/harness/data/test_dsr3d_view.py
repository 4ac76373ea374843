from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from harness.data.resize import resize
from harness.data.samples import Sample
from harness.data.views import dsr3d
from harness.data.views.build import build_view
from methods.views import Dsr3dView
from tests.harness.data.scans import DEPTH_KINDS, kinds, scan, write_category

VIEW = Dsr3dView(size=64)


def sample(rgb, xyz, mask):
    return Sample(
        "test/hole/000", "dome", "test", "hole", 1, rgb, xyz, (xyz != 0).any(axis=2), mask > 0
    )


@pytest.fixture(scope="module")
def dome():
    return sample(*scan(96, 128))


@pytest.mark.parity
@pytest.mark.parametrize("case", "ab")
def test_depth_and_foreground_are_those_of_the_published_code(parity, case):
    f = parity("3dsr").npz("preprocess")
    size = f[f"depth_{case}"].shape[-2:]
    xyz = dsr3d.nearest(f[f"cloud_{case}"], size)
    assert np.array_equal(xyz, f[f"resized_{case}"])
    off = dsr3d.plane_distance(xyz, dsr3d.corners(xyz)) > VIEW.plane_distance_m
    assert np.array_equal(off, f[f"plane_raw_{case}"])
    valid = off & (xyz[..., 2] != 0)
    assert np.array_equal(valid, f[f"plane_valid_{case}"])
    assert np.array_equal(dsr3d.close_gaps(valid, VIEW.closing), f[f"plane_closed_{case}"])

    kept = dsr3d.foreground(xyz, VIEW, case)
    assert np.array_equal(kept, f[f"fg_{case}"][0])
    z = np.where(kept, xyz[..., 2].astype(np.float64), 0)
    depth = dsr3d.normalise(z, VIEW.depth_low, VIEW.depth_high, case)
    for name in ("normalised", "filled1", "depth"):
        assert np.abs(depth - f[f"{name}_{case}"]).max() <= 1e-6, name
        depth = dsr3d.fill_holes(depth)


@pytest.mark.parity
def test_colours_and_masks_are_resized_as_published(parity):
    f = parity("3dsr").npz("preprocess")
    size = f["rgb"].shape[1:]
    rgb = resize(f["rgb_source"], size, "cv2_linear")
    assert np.abs(rgb.transpose(2, 0, 1) / 255 - f["rgb"]).max() <= 1e-6
    mask = f["gt_source"] > 0
    assert np.array_equal(dsr3d.resize_mask(mask, size, "any"), f["gt_positive_region_metrics"])
    assert np.array_equal(dsr3d.resize_mask(mask, size, "full"), f["gt_positive_pixel_metrics"])


@pytest.mark.parity
def test_the_plane_of_three_pixels_is_that_of_the_eyecandies_helper(parity):
    f = parity("3dsr").npz("eyecandies_geometry")
    xyz = f["cloud"][..., :3]
    distance = dsr3d.plane_distance(xyz, dsr3d.border_pixels(xyz))
    assert np.array_equal(distance > 0.005, f["fg"])
    assert np.array_equal(distance > 0.02, f["fg_thr02"])


def test_the_dome_has_depth_and_all_else_none(dome):
    got = dsr3d.prepare(dome, VIEW, seed=0)
    assert kinds(got) == DEPTH_KINDS
    depth, inside = got["depth"], got["foreground"]
    assert inside[32, 32] and not inside[:8].any() and not inside[:, :8].any()
    assert depth[inside].min() == pytest.approx(0.1) and depth.max() == pytest.approx(0.9)
    assert depth[32, 32] == pytest.approx(0.1, abs=0.02)  # the top is nearest
    far = ~ndimage.binary_dilation(inside, np.ones((3, 3)), iterations=2)
    assert far.any() and not depth[far].any()
    assert np.array_equal(got["rgb"], resize(dome.rgb, 64, "cv2_linear"))
    assert inside[got["mask"]].mean() > 0.9


def test_holes_are_filled_by_the_mean_of_what_is_around(dome):
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.1, 0.9, (20, 30)) * (rng.random((20, 30)) < 0.4)
    want = depth.copy()
    for r, c in np.argwhere(depth == 0):
        window = depth[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2]
        if (window > 0).any():
            want[r, c] = window[window > 0].mean()
    np.testing.assert_allclose(dsr3d.fill_holes(depth), want, atol=1e-10)
    assert not dsr3d.fill_holes(np.zeros((5, 5))).any()


def test_closing_is_three_dilations_and_three_erosions():
    mask = np.random.default_rng(0).random((40, 50)) < 0.05
    square = np.ones((3, 3))
    grown = ndimage.binary_dilation(mask, square, 3)
    want = ndimage.binary_erosion(grown, square, 3, border_value=1)
    assert np.array_equal(dsr3d.close_gaps(mask, 3), want)


def test_without_a_background_all_that_was_seen_is_object(dome):
    got = dsr3d.prepare(dome, replace(VIEW, background="none"), seed=0)
    seen = dsr3d.nearest(dome.valid, 64)
    assert np.array_equal(got["foreground"], seen) and not seen.all()
    assert got["depth"][seen].min() == pytest.approx(0.1)
    assert (got["depth"] > 0).mean() > 0.99  # holes are filled


def test_the_paper_s_range_and_single_pass(dome):
    view = replace(VIEW, depth_low=0.0, depth_high=1.0, hole_passes=1)
    got, usual = (dsr3d.prepare(dome, v, 0) for v in (view, VIEW))
    assert got["depth"].max() == 1 and (got["depth"] > 0).sum() < (usual["depth"] > 0).sum()
    assert np.array_equal(got["foreground"], usual["foreground"])


def test_degenerate_scans_are_logged_and_do_not_stop(dome, caplog):
    caplog.set_level("INFO")
    xyz = dome.xyz.copy()
    xyz[:8, -8:] = 0
    dsr3d.prepare(replace(dome, xyz=xyz), VIEW, 0)
    assert "plane_from_missing_points sample=dome/test/hole/000" in caplog.text

    flat = dome.xyz.copy()
    flat[..., 2] = 0.6
    depth = dsr3d.prepare(replace(dome, xyz=flat), VIEW, 0)["depth"]
    assert "no_object sample=dome/test/hole/000" in caplog.text and not depth.any()

    depth = dsr3d.prepare(replace(dome, xyz=flat), replace(VIEW, background="none"), 0)["depth"]
    assert "constant_depth" in caplog.text and np.isfinite(depth).all()
    assert depth.max() == pytest.approx(0.1)

    nothing = np.zeros_like(flat)
    assert not dsr3d.prepare(replace(dome, xyz=nothing), VIEW, 0)["depth"].any()


@pytest.mark.parametrize(
    "field, said",
    [
        ("plane", "corners, pixels"),
        ("mask_rule", "any, full"),
        ("background", "plane, support, mask, removed, none, auto"),
    ],
)
def test_unknown_options_say_what_would_do(dome, field, said):
    with pytest.raises(ValueError, match=said):
        dsr3d.prepare(dome, replace(VIEW, **{field: "other"}), 0)


def test_the_view_is_built_from_files(tmp_path):
    category = write_category(tmp_path / "data")
    summary = build_view(category, VIEW, tmp_path / "view")
    assert summary["samples"] == {"train": 3, "validation": 1, "test": 3, "simulated": 1}
    depth = np.load(tmp_path / "view" / "train" / "depth.npy")
    want = dsr3d.prepare(category.samples("train")[0].read(), VIEW, 0)["depth"]
    assert depth.shape == (3, 64, 64) and np.array_equal(depth[0], want)
