import numpy as np
import pytest

from harness.data.samples import DataError
from harness.data.views.plane import (
    TILE,
    _draw,
    border_plane,
    border_points,
    count_near,
    fit_planes,
    ransac_plane,
)
from tests.harness.data.scans import scan

ARGUMENTS = dict(border=5, inlier=0.004, size=50, iterations=200, name="dome/train/good/000")


def tilted(n, rng):
    """Points on 0.1 x - 0.05 y - z + 0.6 = 0 with sensor noise, and that plane."""
    x, y = rng.uniform(-0.06, 0.06, (2, n))
    z = 0.6 + 0.1 * x - 0.05 * y + rng.normal(0, 5e-5, n)
    plane = np.array([-0.1, 0.05, 1, -0.6]) / np.linalg.norm([-0.1, 0.05, 1])
    return np.stack([x, y, z], axis=1), plane


def test_the_plane_under_a_dome_is_found():
    _, xyz, _ = scan(96, 128)
    plane = border_plane(xyz, seed=0, **ARGUMENTS)
    true = np.array([-0.1, 0.05, 1, -0.6]) / np.linalg.norm([-0.1, 0.05, 1])
    assert np.abs(plane - true).max() < 1e-3
    assert abs(np.linalg.norm(plane[:3]) - 1) < 1e-12


def test_outliers_do_not_move_the_plane():
    rng = np.random.default_rng(1)
    points, true = tilted(3000, rng)
    points[:200, 2] -= rng.uniform(0.02, 0.05, 200)
    found = ransac_plane(points, 0.004, 10, 500, rng)
    assert np.abs(found - true).max() < 2e-3
    assert np.abs(fit_planes(points[None])[0] - true).max() > 2e-3  # all points at once: no


def test_the_best_hypothesis_is_that_of_a_loop():
    rng = np.random.default_rng(2)
    points, _ = tilted(700, rng)
    points[::3] += rng.normal(0, 0.01, (len(points[::3]), 3))
    found = ransac_plane(points, 0.004, 5, 60, np.random.default_rng(7))
    best, most = None, -1
    for rows in _draw(len(points), 5, 60, np.random.default_rng(7)):
        chosen = points[rows]
        normal = np.linalg.svd(chosen - chosen.mean(axis=0))[2][2]
        inliers = np.abs((points - chosen.mean(axis=0)) @ normal) < 0.004
        if inliers.sum() > most:
            best, most = inliers, inliers.sum()
    centre = points[best].mean(axis=0)
    normal = np.linalg.svd(points[best] - centre)[2][2]
    normal *= np.sign(normal[2])
    assert np.abs(found - np.append(normal, -normal @ centre)).max() < 1e-9


@pytest.mark.parametrize("n", [1, TILE - 1, TILE, 5 * TILE + 3])
def test_points_near_planes_are_counted_as_one_by_one(n):
    rng = np.random.default_rng(n)
    points, plane = tilted(n, rng)
    points = points[np.argsort(points[:, 0])]  # tiles of neighbours, some of them cut by planes
    points[::17, 2] += rng.normal(0, 0.02, len(points[::17]))
    planes = plane + rng.normal(0, [[0.1, 0.1, 0.1, 0.003]], (40, 4))
    planes[0] = plane
    distance = np.abs(points @ planes[:, :3].T + planes[:, 3])
    assert np.array_equal(count_near(points, planes, 0.004), (distance < 0.004).sum(axis=0))


def test_the_same_seed_gives_the_same_plane():
    _, xyz, _ = scan(96, 128)
    a, b = (border_plane(xyz, seed=3, **ARGUMENTS) for _ in range(2))
    assert np.array_equal(a, b)


def test_draws_hold_different_points_and_reach_all_of_them():
    drawn = _draw(60, 50, 400, np.random.default_rng(0))
    assert all(len(set(row)) == 50 for row in drawn)
    counts = np.bincount(drawn.ravel(), minlength=60)
    assert counts.min() > 280 and counts.max() < 380  # 333 expected


def test_the_frame_counts_corners_twice_and_drops_points_with_a_zero():
    xyz = np.ones((20, 30, 3))
    assert len(border_points(xyz, 4)) == 2 * 4 * 30 + 2 * 4 * 20
    xyz[0, 0] = 0
    xyz[0, 10, 1] = 0
    assert len(border_points(xyz, 4)) == 2 * 4 * 30 + 2 * 4 * 20 - 3


def test_too_few_border_points_are_an_error_that_names_the_sample():
    _, xyz, _ = scan(48, 64)
    xyz[:5] = xyz[-5:] = xyz[:, :5] = xyz[:, -5:] = 0
    xyz[0, 5:45] = 0.5
    with pytest.raises(DataError, match="good/000 has 40 valid.*takes 50.*background=none"):
        border_plane(xyz, seed=0, **ARGUMENTS)
