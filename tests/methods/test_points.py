"""Point operations: farthest points, neighbours, packing; against loops that anyone can believe."""

import numpy as np
import pytest
import torch

from methods.blocks import points as ops
from methods.blocks.points import farthest_points, nearest_points, pack, take


def clouds(*sizes, seed=0, scale=1.0):
    """Padded clouds (B, N, 3) and their valid points (B, N)."""
    rng = np.random.default_rng(seed)
    out = np.zeros((len(sizes), max(sizes), 3), np.float32)
    for cloud, n in zip(out, sizes):
        cloud[:n] = scale * rng.normal(size=(n, 3))
    valid = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    return torch.from_numpy(out), valid


def slow_farthest(points, count):
    """The published kernel, thread by thread, in float32."""
    usable = (points**2).sum(1) > ops.SKIPPED
    nearest, chosen = np.full(len(points), 1e10, np.float32), [0]
    threads = min(512, 2 ** int(np.log2(len(points))))
    for _ in range(count - 1):
        d = points - points[chosen[-1]]
        squared = d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2
        nearest = np.minimum(nearest, squared)
        best = [(-1.0, 0)] * threads
        for i in np.flatnonzero(usable):
            if nearest[i] > best[i % threads][0]:
                best[i % threads] = (nearest[i], i)
        while len(best) > 1:  # the tree: the lower half keeps equals
            half = len(best) // 2
            best = [a if a[0] >= b[0] else b for a, b in zip(best[:half], best[half:])]
        chosen.append(best[0][1])
    return chosen


@pytest.mark.parametrize("n", [7, 200, 700])
def test_farthest_points_match_the_published_kernel(n):
    points, valid = clouds(n)
    assert farthest_points(points, 6, valid)[0].tolist() == slow_farthest(points[0].numpy(), 6)


def test_farthest_points_break_ties_as_the_kernel_does():
    grid = np.stack(np.meshgrid(*[np.arange(1, 8)] * 3), axis=-1).reshape(1, -1, 3)
    points = torch.from_numpy(grid.astype(np.float32))
    valid = torch.ones(points.shape[:2], dtype=torch.bool)
    assert farthest_points(points, 40, valid)[0].tolist() == slow_farthest(grid[0] * 1.0, 40)


def test_clouds_of_a_batch_do_not_know_of_each_other():
    points, valid = clouds(300, 120, 50)
    many = farthest_points(points, 20, valid)
    _, near = nearest_points(take(points, many), points, 70, valid)
    for i, n in enumerate((300, 120, 50)):
        one = farthest_points(points[i : i + 1, :n], 20, valid[i : i + 1, :n])
        assert torch.equal(one[0], many[i])
        _, alone = nearest_points(
            take(points, many)[i : i + 1], points[i : i + 1, :n], 70, valid[i : i + 1, :n]
        )
        assert torch.equal(alone[0], near[i]) and near[i].max() < n


def test_points_near_the_origin_never_become_centres():
    points, valid = clouds(400, scale=0.04)
    chosen = farthest_points(points, 30, valid)[0]
    assert (points[0, chosen[1:]].square().sum(1) > ops.SKIPPED).all()
    points, valid = clouds(50, scale=1e-3)
    assert farthest_points(points, 5, valid)[0].tolist() == [0] * 5


def test_a_cloud_that_runs_out_repeats_its_points():
    points, valid = clouds(3)
    assert sorted(set(farthest_points(points, 8, valid)[0].tolist())) == [0, 1, 2]
    distance, index = nearest_points(points, points, 5, valid)
    assert index[0, :, 3:].eq(index[0, :, :1]).all() and distance[0, :, 3:].eq(0).all()


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("ties", [False, True])
def test_neighbours_match_a_stable_sort(k, ties):
    points, valid = clouds(500)
    queries = points[:, :40]
    if ties:
        points, queries = (2 * points).round() / 2, (2 * queries).round() / 2
    squared = (queries[0, :, None] - points[0]).square()
    squared = squared[..., 0] + squared[..., 1] + squared[..., 2]
    expected = squared.sort(dim=1, stable=True)
    for search in (ops._by_tree, ops._by_force):
        distance, index = search(queries[0], points[0], k)
        assert torch.equal(distance, expected.values[:, :k])
        assert torch.equal(index, expected.indices[:, :k])
    assert torch.equal(nearest_points(queries, points, k, valid)[1][0], index)


def test_packing_keeps_row_major_order_and_tells_the_pixel():
    xyz = torch.ones(2, 4, 5, 3) * torch.arange(1, 41).view(2, 4, 5, 1)
    xyz[0, 1, 2, 0] = 0  # one zero coordinate: no point
    xyz[1, :2] = 0
    points, valid, pixel = pack(xyz)
    assert valid.sum(1).tolist() == [19, 10]
    assert pixel[0].tolist() == [i for i in range(20) if i != 7]
    assert pixel[1, :10].tolist() == list(range(10, 20))
    assert torch.equal(points[1, :10, 0], xyz[1].flatten(0, 1)[10:, 0])
    assert (points[1, 10:] == 0).all()
    xyz[1] = 0
    with pytest.raises(ValueError, match="cloud 1 .* no valid point"):
        pack(xyz)
