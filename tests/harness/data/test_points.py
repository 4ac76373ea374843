"""Numbers in place of depths, and clouds in another order, are told; clouds of sensors are not."""

import numpy as np
import pytest

from harness.data.points import crossed, mirrored, no_cloud, orders, stand_in
from tests.harness.data.scans import scan
from tests.harness.data.tables import Scene, render
from tests.harness.data.test_quality import flat
from tests.harness.data.test_support import THREE

TABLE = render(Scene(bodies=THREE, size=(120, 160), focal=131, half=(0.9, 0.7)))[0]
SQUARE = render(Scene(bodies=THREE, size=(96, 96), focal=80, half=(0.9, 0.7), missing=0.1))[0]
WIDE = render(Scene(bodies=THREE, size=(96, 96), focal=80, wall=True, floor=True, cropped=False))[0]


def valid(xyz):
    return (xyz != 0).any(axis=2)


def on_missing(*values):
    """What stands at the pixels without depth."""
    xyz = TABLE.copy()
    xyz[~valid(xyz)] = values
    return xyz


def of_depth(value):
    """A depth image whose missing pixels hold this, as points."""
    z = np.where(valid(TABLE), TABLE[..., 2], value)
    v, u = np.indices(z.shape)
    return np.stack([(u - 79.7) / 131 * z, (v - 59.7) / 131 * z, z], axis=2).astype(np.float32)


STAND_INS = {
    "65.534 m": (on_missing(0.1, 0.1, 65.534), "(0.1, 0.1, 65.534)"),
    "1e10": (on_missing(1e10, 1e10, 1e10), "(1e+10, 1e+10, 1e+10)"),
    "-1": (on_missing(-1, -1, -1), "(-1, -1, -1)"),
    "a depth of 10 m": (of_depth(10), "10 m away"),
    "a depth of 4.095 m": (of_depth(4.095), "4.095 m away"),
    "a depth of 0 with rays": (
        np.dstack([of_depth(1)[..., :2], np.where(valid(TABLE), TABLE[..., 2], 0)]),
        "0 m away",
    ),
}


@pytest.mark.parametrize("name", STAND_INS)
def test_a_number_in_place_of_a_depth_is_found_with_a_limit_that_drops_it(name):
    xyz, said = STAND_INS[name]
    found = stand_in(xyz, valid(xyz))
    assert found and found.value == said
    assert found.share == pytest.approx((~valid(TABLE)).mean(), abs=0.02)
    z = xyz[..., 2]
    assert np.array_equal((z > 0) & (z <= found.max_depth), valid(TABLE))


def steps(xyz, metres):
    """Of a sensor with coarse steps of depth."""
    return np.round(xyz / metres).astype(np.float32) * np.float32(metres)


CLEAN = {
    "a dome": scan(64, 64)[1],
    "a table of a depth camera": TABLE,
    "a square table": SQUARE,
    "a room": WIDE,
    "a room cut out at its side": WIDE[:, :40],
    "a rough surface without perspective": flat(TABLE),
    "steps of 3 mm": steps(SQUARE, 0.003),
    "a plate at one depth with a step on it": np.where(
        np.arange(96)[:, None, None] > 60, steps(flat(SQUARE), 0.3), steps(flat(SQUARE), 0.3) * 0.9
    ),
    "a far part of a large image": WIDE + (0.9 * WIDE[..., 2:]) * (1, 1, 0),
}


@pytest.mark.parametrize("name", CLEAN)
def test_scans_as_sensors_write_them_are_not_suspected(name):
    xyz = CLEAN[name].astype(np.float32)
    assert stand_in(xyz, valid(xyz)) is None and not crossed(orders(xyz, valid(xyz)))


@pytest.mark.parametrize(
    "xyz",
    [
        SQUARE.transpose(1, 0, 2),
        flat(SQUARE).transpose(1, 0, 2),
        TABLE.transpose(1, 0, 2).reshape(TABLE.shape),
    ],
    ids=["square", "without perspective", "a list of points by columns"],
)
def test_a_cloud_in_the_order_of_its_columns_is_told(xyz):
    assert crossed(orders(xyz, valid(xyz)))


@pytest.mark.parametrize("cloud", [TABLE, SQUARE, WIDE, scan()[1]], ids=range(4))
@pytest.mark.parametrize("turned", ["as it is", "left to right", "upside down", "half a turn"])
def test_a_cloud_that_is_turned_against_its_image_is_told_by_its_axes(cloud, turned):
    turn = {
        "as it is": (cloud, (False, False)),
        "left to right": (cloud[:, ::-1], (True, False)),
        "upside down": (cloud[::-1], (False, True)),
        "half a turn": (cloud[::-1, ::-1], (True, True)),
    }
    xyz, falls = turn[turned]
    assert mirrored(orders(xyz, valid(xyz))) == falls
    assert not crossed(orders(xyz, valid(xyz)))


NO_CLOUDS = {
    "a depth three times": (lambda xyz: np.repeat(xyz[..., 2:], 3, axis=2), "one and the same"),
    "depth alone": (lambda xyz: xyz * np.float32([0, 0, 1]), "x and y are the same everywhere"),
    "millimetres across": (lambda xyz: xyz * np.float32([1000, 1000, 1]), "x and y span"),
    "pixels across": (
        lambda xyz: np.dstack([*np.indices(xyz.shape[:2])[::-1], xyz[..., 2]]) * (xyz != 0),
        "x and y span",
    ),
}


@pytest.mark.parametrize("name", NO_CLOUDS)
def test_points_that_no_camera_saw_are_told(name):
    made, said = NO_CLOUDS[name]
    xyz = made(TABLE).astype(np.float32)
    assert said in no_cloud(xyz, valid(xyz))
    assert not no_cloud(TABLE, valid(TABLE)) and not no_cloud(WIDE, valid(WIDE))


def test_a_single_point_of_few_stands_for_nothing_and_an_axis_through_0_is_no_depth():
    few = TABLE * (np.random.default_rng(0).random(TABLE.shape[:2]) < 0.005)[..., None]
    assert stand_in(few, valid(few)) is None
    swapped = TABLE[..., [0, 2, 1]]
    assert stand_in(swapped, valid(swapped)) is None
