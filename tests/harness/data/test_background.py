from dataclasses import replace

import cv2
import numpy as np
import pytest

from harness.data.samples import DataError
from harness.data.views.background import cut, keep, near_plane, object_pixels, pad_square
from methods.views import BtfView
from tests.harness.data.scans import sample, scan

VIEW = BtfView(pad=False)


@pytest.fixture(scope="module")
def dome():
    """96 x 128 px: the plane is removed, the dome stays."""
    return sample(*scan(96, 128))


def test_points_near_the_plane_are_those_of_one_point_at_a_time():
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, 0.01, (37, 21, 3)).astype(np.float32)
    plane = np.array([0.36, 0.48, 0.8, 0.002])
    points = xyz.astype(float)
    want = [[abs(float(p @ plane[:3] + plane[3])) < 0.005 for p in row] for row in points]
    got = near_plane(cv2.split(xyz), plane, 0.005)
    assert got.any() and not got.all() and np.array_equal(got, want)


def test_what_is_kept_is_left_as_it_was_and_all_else_is_zero():
    rng = np.random.default_rng(1)
    pixels = rng.random((9, 14)) < 0.5
    for image in (rng.normal(size=(9, 14, 3)).astype("f4"), rng.integers(1, 256, (9, 14, 3), "u1")):
        kept = keep(image, pixels)
        assert np.array_equal(kept[pixels], image[pixels]) and not kept[~pixels].any()


def test_removed_pixels_lose_colour_and_point_and_missing_ones_keep_their_colour(dome):
    rgb, xyz, _ = cut(dome, VIEW, seed=0)
    rest = object_pixels(dome, VIEW, seed=0)
    assert np.array_equal(rgb[rest], dome.rgb[rest]) and not rgb[~rest].any()
    assert np.array_equal(xyz[rest], dome.xyz[rest]) and not xyz[~rest].any()
    assert not dome.valid.all() and rest[~dome.valid].all()


def test_colours_may_be_kept_everywhere(dome):
    masked, unmasked = (cut(dome, replace(VIEW, mask_rgb=m), seed=0) for m in (True, False))
    assert np.array_equal(unmasked[0], dome.rgb) and not np.array_equal(masked[0], dome.rgb)
    assert np.array_equal(masked[1], unmasked[1])


def test_a_sample_is_never_changed(dome):
    before = dome.rgb.copy(), dome.xyz.copy(), dome.mask.copy()
    rgb, xyz, _ = cut(dome, VIEW, seed=0)
    rgb[:], xyz[:] = 1, 1
    assert all(np.array_equal(a, b) for a, b in zip(before, (dome.rgb, dome.xyz, dome.mask)))


def test_a_point_with_a_zero_coordinate_is_in_no_cluster_but_stays(dome):
    xyz = dome.xyz.copy()
    xyz[48, 64] = (0, 0.001, 0.55)
    rest = object_pixels(replace(dome, xyz=xyz), VIEW, seed=0)
    assert rest[48, 64]


@pytest.mark.parametrize(
    "shape, around",
    [
        ((400, 900), (250, 250, 0, 0)),
        ((800, 600), (0, 0, 100, 100)),
        ((45, 80), (27, 28, 10, 10)),
        ((100, 100), (0, 0, 0, 0)),
        ((3, 101), (98, 99, 49, 50)),
    ],
)
def test_padding_is_centred_with_the_smaller_half_first(shape, around):
    padded = pad_square(np.ones(shape, np.uint8))
    side = len(padded)
    assert side % 100 == 0 and padded.shape == (side, side) and padded.sum() == np.prod(shape)
    top, bottom, left, right = around
    assert padded[top : side - bottom, left : side - right].all()


def test_cloud_colour_and_truth_are_padded_alike(dome):
    bare, padded = (cut(dome, replace(VIEW, pad=pad), seed=0) for pad in (False, True))
    for a, b in zip(bare, padded):
        assert b.shape[:2] == (200, 200) and np.array_equal(b[52:148, 36:164], a)
        assert np.count_nonzero(a) == np.count_nonzero(b)


def test_points_with_a_zero_coordinate_alone_are_no_object(dome):
    xyz = dome.xyz.copy()
    xyz[10:-10, 10:-10, 0] = 0
    with pytest.raises(DataError, match="no point in dome/test/hole/000.*set background=none"):
        cut(replace(dome, xyz=xyz), VIEW, seed=0)
