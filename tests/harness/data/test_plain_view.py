import numpy as np
import pytest

from harness.data.resize import nearest, resize
from harness.data.samples import DataError, Sample
from harness.data.views.build import prepare
from harness.data.views.plain import middle_plane
from methods.views import PlainView
from tests.harness.data.scans import scan

VIEW = PlainView(size=48, border_px=3)


def sample(rgb, xyz, mask, valid=None):
    valid = (xyz != 0).any(axis=2) if valid is None else valid
    return Sample("test/hole/000", "dome", "test", "hole", 1, rgb, xyz, valid, mask > 0)


@pytest.fixture(scope="module")
def dome():
    return sample(*scan(96, 128))


def test_a_scan_is_made_smaller_and_nothing_else(dome):
    arrays = prepare(dome, VIEW)
    assert np.array_equal(arrays["rgb"], resize(dome.rgb, 48, "cv2_area"))
    assert np.array_equal(arrays["valid"], nearest(dome.valid, 48))
    assert np.array_equal(arrays["mask"], nearest(dome.mask, 48))
    depth = nearest(dome.xyz[..., 2], 48)
    assert np.array_equal(arrays["depth"], np.where(arrays["valid"], depth, 0))
    kinds = {name: (a.dtype.name, a.shape) for name, a in arrays.items()}
    assert kinds == {
        "rgb": ("uint8", (48, 48, 3)),
        "depth": ("float32", (48, 48)),
        "height": ("float32", (48, 48)),
        "valid": ("bool", (48, 48)),
        "mask": ("bool", (48, 48)),
    }
    assert not arrays["height"][~arrays["valid"]].any() and not arrays["valid"].all()


def tilted(around=0.0):
    """A plane seen from 0.6 m with a block of 20 mm in its middle, and its true heights."""
    y, x = (np.mgrid[:64, :64] - 31.5) * 0.002
    normal = np.array([0.2, -0.1, 1.0]) / np.linalg.norm([0.2, -0.1, 1.0])
    z = 0.6 - 0.2 * x + 0.1 * y
    high = np.zeros((64, 64))
    high[20:44, 20:44] = 0.02
    xyz = np.stack([x, y, z], axis=2) - high[..., None] * normal
    return xyz.astype(np.float32), high


def test_heights_are_metres_above_the_tilted_plane_towards_the_camera():
    xyz, high = tilted()
    grey = np.full((64, 64, 3), 128, np.uint8)
    arrays = prepare(sample(grey, xyz, np.zeros((64, 64))), PlainView(size=64, border_px=4))
    assert np.abs(arrays["height"] - high).max() < 1e-6


def test_half_of_the_points_may_lie_anywhere():
    rng = np.random.default_rng(0)
    plane = np.concatenate([rng.uniform(-1, 1, (600, 2)), np.zeros((600, 1))], axis=1)
    others = rng.uniform(-1, 1, (500, 3)) + (0, 0, 0.3)
    normal, centre = middle_plane(np.concatenate([plane, others]) + (0, 0, 2))
    assert normal @ (0, 0, 1) > 1 - 1e-6 and abs(centre @ normal - 2) < 1e-3


def test_without_a_background_the_plane_is_that_of_the_whole_surface():
    xyz, _ = tilted()
    xyz[:8] -= (0, 0, 0.1)  # what touches the frame pulls at nothing
    grey = np.full((64, 64, 3), 128, np.uint8)
    view = PlainView(size=64, background="none")
    height = prepare(sample(grey, xyz, np.zeros((64, 64))), view)["height"]
    assert np.abs(height[50:, :]).max() < 1e-4


def test_a_frame_without_points_is_refused_with_the_remedy():
    xyz, _ = tilted()
    xyz[:10] = xyz[-10:] = 0
    xyz[:, :10] = xyz[:, -10:] = 0
    grey = np.full((64, 64, 3), 128, np.uint8)
    scanned = sample(grey, xyz, np.zeros((64, 64)))
    with pytest.raises(DataError, match=r"dome/test/hole/000 has 0 .*background=none"):
        prepare(scanned, PlainView(size=64))
    prepare(scanned, PlainView(size=64, background="none"))
