from dataclasses import replace

import cv2
import numpy as np
import pytest

from harness.data.samples import DataError
from harness.data.views import das3d
from harness.data.views.background import keep, near_plane
from methods.views import Das3dView
from tests.harness.data.scans import DEPTH_KINDS, kinds, sample, scan

VIEW = Das3dView(size=64)


@pytest.fixture(scope="module")
def dome():
    """96 x 128 px: the plane is removed, the dome stays."""
    return sample(*scan(96, 128))


@pytest.mark.parity
def test_depth_is_prepared_as_recorded(parity):
    want = parity("das3d").npz("depth_prepare")
    xyz = want["xyz"]
    removed = near_plane(cv2.split(xyz), want["plane"], Das3dView.plane_distance_m)
    assert np.array_equal(removed, want["removed"] > 0)
    z = keep(xyz, ~removed)[..., 2]
    kept = z != 0
    assert np.array_equal(kept, want["kept"] > 0)
    filled = das3d.fill_background(z)
    assert np.abs(filled - want["filled"]).max() <= 1e-6

    view = replace(VIEW, size=len(want["resized"]))
    _, depth, kept, _ = das3d.to_square(np.zeros(xyz.shape, np.uint8), filled, kept, kept, view)
    assert np.abs(depth - want["resized"]).max() <= 1e-6
    assert np.array_equal(kept, want["kept_resized"] > 0)
    z, foreground = das3d.normalise(depth, kept, depth.min(), depth.max())
    assert np.abs(z - want["normalised"]).max() <= 1e-6
    assert abs(z[~kept].mean() - want["t_f"]) <= 1e-6
    assert np.array_equal(foreground, want["foreground"] > 0)


def test_the_dome_is_the_foreground_and_all_else_is_exactly_one(dome):
    got = das3d.prepare(dome, VIEW, seed=0)
    assert kinds(got) == DEPTH_KINDS
    depth, foreground = got["depth"], got["foreground"]
    assert depth.min() == 0 and depth.max() == 1
    assert foreground[32, 32] and not foreground[:8].any() and not foreground[:, :8].any()
    assert 0.05 < foreground.mean() < 0.25
    assert (depth[~foreground] > 1 - 2e-6).all()
    assert got["mask"].any() and (foreground[got["mask"]].mean() > 0.9)


def test_the_same_seed_gives_the_same_bytes_and_the_sample_is_left_alone(dome):
    before = dome.rgb.copy(), dome.xyz.copy()
    a, b = (das3d.prepare(dome, VIEW, seed=5) for _ in range(2))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert np.array_equal(dome.rgb, before[0]) and np.array_equal(dome.xyz, before[1])


def test_plane_pixels_lose_their_colour_and_missing_ones_keep_it(dome):
    rgb, z, missing, _ = das3d.cut(dome, replace(VIEW, pad=False, dbscan=False), seed=0)
    missing_before = ~dome.valid
    assert np.array_equal(missing, missing_before)
    assert np.array_equal(rgb[missing], dome.rgb[missing]) and not z[missing].any()
    gone = (z == 0) & ~missing
    assert gone.any() and not rgb[gone].any()
    assert np.array_equal(rgb[z != 0], dome.rgb[z != 0])


def test_only_the_largest_cluster_stays(dome):
    xyz = dome.xyz.copy()
    xyz[8:18, 8:18, 2] -= 0.05  # 100 points hovering in a corner
    hovering = replace(dome, xyz=xyz, valid=(xyz != 0).any(axis=2))
    without, z_without, _, _ = das3d.cut(hovering, replace(VIEW, dbscan=False, pad=False), seed=0)
    rgb, z, _, _ = das3d.cut(hovering, replace(VIEW, pad=False), seed=0)
    corner = np.s_[10:18, 10:18]
    valid = hovering.valid[corner]
    assert (z_without[corner][valid] != 0).all() and not z[corner][valid].any()
    assert without[corner][valid].any() and not rgb[corner][valid].any()
    assert z[48, 64] or not hovering.valid[48, 64]


def test_without_a_background_nothing_is_removed(dome):
    view = replace(VIEW, background="none", pad=False)
    rgb, z, _, _ = das3d.cut(dome, view, seed=0)
    assert np.array_equal(rgb, dome.rgb) and np.array_equal(z, dome.xyz[..., 2])
    got = das3d.prepare(dome, view, seed=0)
    holes = das3d.nearest(~dome.valid, 64)
    assert holes.any() and not got["foreground"][holes].any()
    assert got["foreground"].mean() > 0.9


def test_without_any_background_pixel_everything_is_foreground(dome):
    xyz = np.where(dome.xyz == 0, np.float32(0.6), dome.xyz)
    whole = replace(dome, xyz=xyz, valid=np.ones(xyz.shape[:2], bool))
    got = das3d.prepare(whole, replace(VIEW, background="none", pad=False), seed=0)
    assert got["foreground"].all() and got["depth"].min() == 0 and got["depth"].max() == 1


def test_a_scene_of_which_hardly_anything_is_left_is_logged(dome, caplog):
    caplog.set_level("INFO")
    xyz = dome.xyz.copy()
    xyz[..., 2] = 0.6
    xyz[40:44, 60:64, 2] = 0.55
    das3d.cut(replace(dome, xyz=xyz, valid=np.ones(xyz.shape[:2], bool)), VIEW, seed=0)
    assert "little_object" in caplog.text and "dome/test/hole/000" in caplog.text


def test_a_scene_that_is_all_plane_is_an_error_that_says_what_to_do(dome):
    xyz = dome.xyz.copy()
    xyz[..., 2] = 0.6 + 0.1 * xyz[..., 0]
    flat = replace(dome, xyz=xyz, valid=np.ones(xyz.shape[:2], bool))
    with pytest.raises(DataError, match="no point in dome/test/hole/000.*set background=none"):
        das3d.prepare(flat, VIEW, seed=0)


def test_holes_are_filled_as_one_pixel_at_a_time_would():
    rng = np.random.default_rng(0)
    z = rng.uniform(0.5, 0.7, (20, 24)).astype(np.float32)
    z[rng.random(z.shape) < 0.4] = 0
    z[5:14, 6:15] = 0
    missing = (z == 0) & (rng.random(z.shape) < 0.9)  # the others were removed: never filled
    want = z.astype(float)
    for _ in range(3):
        source = want.copy()
        for r, c in np.argwhere(missing & (source == 0)):
            window = source[r - 1 : r + 2, c - 1 : c + 2]  # empty in row 0 and column 0
            if window.any():
                want[r, c] = window[window != 0].mean()
    got = das3d.fill_holes(z, missing, 3)
    assert np.array_equal(got == 0, want == 0) and (got == 0).any()
    assert np.abs(got - want).max() < 1e-7


def test_filled_holes_belong_to_the_object(dome):
    view = replace(VIEW, size=96, pad=False)
    open_holes, filled = (
        das3d.prepare(dome, replace(view, hole_fill=fill), seed=0)["foreground"]
        for fill in ("none", "ast3")
    )
    inside = np.s_[40:56, 40:56]  # well within the dome
    assert not open_holes[inside].all() and filled[inside].all()


@pytest.mark.parametrize("n, size", [(60, 32), (80, 32), (900, 256), (30, 64), (7, 7)])
def test_nearest_takes_the_floor_of_the_scaled_index(n, size):
    row = np.arange(n)[None].repeat(2, axis=0)
    assert das3d.nearest(row, size)[0].tolist() == [int(i * n // size) for i in range(size)]


def test_a_defect_and_its_pixels_stay_together_through_the_resize(dome):
    mask = np.zeros(dome.mask.shape, bool)
    mask[30:66, 50:110] = True
    rgb = np.where(mask, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    marked = replace(dome, rgb=rgb, mask=mask)
    got = das3d.prepare(marked, replace(VIEW, background="none"), seed=0)
    assert got["rgb"][got["mask"]].mean() > 230 and got["rgb"][~got["mask"]].mean() < 5


def test_depth_may_be_resized_bilinearly(dome):
    nearest = das3d.prepare(dome, VIEW, seed=0)
    bilinear = das3d.prepare(dome, replace(VIEW, depth_resize="bilinear"), seed=0)
    assert not np.array_equal(nearest["depth"], bilinear["depth"])
    assert (nearest["foreground"] != bilinear["foreground"]).mean() < 0.03


def test_the_extremes_of_the_training_split_serve_all_splits(dome):
    view = replace(VIEW, depth_range="category")
    higher = replace(dome, xyz=np.where(dome.xyz == 0, 0, dome.xyz - np.float32([0, 0, 0.01])))
    metres = {
        split: {k: v[None] for k, v in das3d.prepare(s, view, seed=0).items()}
        for split, s in (("train", dome), ("test", higher))
    }
    kept = metres["test"]["foreground"].copy()
    learnt = das3d.learn(metres["train"], view)
    for arrays in metres.values():
        das3d.finish(arrays, view, learnt)
    train, test = metres["train"]["depth"], metres["test"]["depth"]
    assert train.min() == 0 and train.max() == 1 and test.min() < -0.1  # not clipped
    assert (metres["test"]["foreground"] <= kept).all()
    assert (metres["test"]["foreground"] == kept).mean() > 0.999


def test_a_constant_depth_is_one():
    depth, everywhere = np.full((4, 4), 0.6, np.float32), np.ones((4, 4), bool)
    z, foreground = das3d.normalise(depth, everywhere, depth.min(), depth.max())
    assert (z == 1).all() and foreground.all()


@pytest.mark.parametrize("option", ["background", "hole_fill", "depth_range", "depth_resize"])
def test_an_unknown_option_is_answered_with_the_known_ones(dome, option):
    with pytest.raises(ValueError, match=f"unknown {option} 'magic'.*known: "):
        das3d.prepare(dome, replace(VIEW, **{option: "magic"}), seed=0)
