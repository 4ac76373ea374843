"""Exact DBSCAN for organised clouds, where a point has thousands of neighbours.

The usual algorithm visits every pair of neighbours: 10^9 of them at 800 x 800 pixels. Here
points are sorted into cubes with a diagonal of eps, so the points of one cube are neighbours of
each other: a cube with `min_points` points holds core points only, and all core points of a
cube are one cluster. What is left to find out is which cubes touch, and the few thin cubes at
the rim.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

CHUNK = 1 << 20    # point pairs compared at once (24 MB)
STRIDES = (8, 1)   # parts of the cloud in which neighbours are counted, the last one the whole
PROBES = (1, 8)    # core points a cube shows in the two quick rounds, which join most cubes

# Half of the cubes that can hold a neighbour: eps is sqrt(3) sides, so at most 2 cubes away.
_OFFSETS = np.array([o for o in np.ndindex(5, 5, 5) if o > (2, 2, 2)]) - 2


def dbscan(points: np.ndarray, eps: float, min_points: int) -> np.ndarray:
    """Labels (N,) of the points (N, 3): -1 noise, clusters numbered by their first core point.

    A point is core if `min_points` points, itself counted, are at most eps away. A border point
    in reach of several clusters belongs to the one numbered first. These are the labels of
    scikit-learn's DBSCAN.
    """
    points = np.asarray(points, np.float64)
    if len(points) == 0:
        return np.empty(0, np.int64)
    cube, keys, steps = _cubes(points, eps)
    core = np.bincount(cube)[cube] >= min_points
    tree = None
    for stride in STRIDES:    # neighbours in a part of the cloud are enough to prove a core point
        if (thin := np.flatnonzero(~core)).size:
            tree = cKDTree(points[::stride], balanced_tree=False, compact_nodes=False)
            core[thin] = tree.query_ball_point(points[thin], eps, return_length=True) >= min_points
    labels = np.full(len(points), -1)
    if core.any():
        labels[core] = _core_labels(points[core], cube[core], keys, steps, eps)
    if not core.all():
        _claim_border(labels, points, core, tree, eps)
    return labels


def largest_cluster(labels: np.ndarray) -> np.ndarray:
    """Mask of the points with the most frequent label, the smallest of equally frequent ones.

    Noise counts as a cluster, as in the published preprocessing: where most points are noise,
    the noise is what stays.
    """
    found, counts = np.unique(labels, return_counts=True)
    return labels == found[counts.argmax()]


def _cubes(points: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cube of each point (N,), the cubes' sorted keys, and the key steps along x, y, z."""
    side = eps / np.sqrt(3) * (1 - 1e-9)    # rounding must not put points > eps apart in one cube
    position = np.floor((points - points.min(axis=0)) / side)
    extent = position.max(axis=0) + 3       # a margin of 2, so that no offset wraps around
    if extent.prod() > 2**62:
        raise ValueError(f"eps {eps} is too small for a cloud of extent {np.ptp(points, axis=0)}")
    steps = np.array([extent[1] * extent[2], extent[2], 1]).astype(np.int64)
    keys, cube = np.unique(position.astype(np.int64) @ steps, return_inverse=True)
    return cube, keys, steps


def _core_labels(core, cube, keys, steps, eps) -> np.ndarray:
    """Clusters of the core points alone, numbered by first appearance.

    Cubes are joined by ever dearer tests, each only on cubes that are not yet in one cluster.
    """
    used, cube = np.unique(cube, return_inverse=True)
    order, size = np.argsort(cube, kind="stable"), np.bincount(cube)
    core, start = core[order], np.cumsum(size) - size    # points of one cube side by side
    pairs = _neighbours(keys[used], steps)
    group, edges = np.arange(len(used)), np.empty((0, 2), np.int64)
    for touching in (_probe(PROBES[0]), _probe(PROBES[1]), _compare_all):
        pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
        edges = np.concatenate([edges, pairs[touching(core, start, size, pairs, eps)]])
        graph = coo_array((np.ones(len(edges)), edges.T), shape=(len(used), len(used)))
        group = connected_components(graph, directed=False)[1]
    _, first, label = np.unique(group[cube], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[label]


def _neighbours(keys: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) of occupied cubes near enough to hold points eps apart."""
    pairs = []
    for step in _OFFSETS @ steps:
        at = np.searchsorted(keys, keys + step).clip(max=len(keys) - 1)
        here = np.flatnonzero(keys[at] == keys + step)
        pairs.append(np.stack([here, at[here]], axis=1))
    return np.concatenate(pairs)


def _probe(count: int):
    """A test of cube pairs that looks at the first `count` points of each cube only."""

    def touching(core, start, size, pairs, eps) -> np.ndarray:
        index = np.arange(count)
        near = np.zeros(len(pairs), bool)
        rows = CHUNK // count**2
        for low in range(0, len(pairs), rows):
            a, b = (
                core[start[side, None] + np.minimum(index, size[side, None] - 1)]
                for side in pairs[low : low + rows].T
            )    # (rows, count, 3) each, the last point repeated where a cube has fewer
            square = ((a[:, :, None] - b[:, None]) ** 2).sum(axis=-1)
            near[low : low + rows] = (square <= eps**2).any(axis=(1, 2))
        return near

    return touching


def _compare_all(core, start, size, pairs, eps) -> np.ndarray:
    """Whether any core points of the two cubes are at most eps apart."""
    near = np.zeros(len(pairs), bool)
    open_pairs = np.flatnonzero((size[pairs] > PROBES[-1]).any(axis=1))    # others: probed in full
    trees = {
        c: cKDTree(core[start[c] : start[c] + size[c]]) for c in np.unique(pairs[open_pairs])
    }
    for i in open_pairs:
        a, b = pairs[i]
        near[i] = trees[a].count_neighbors(trees[b], eps) > 0
    return near


def _claim_border(labels, points, core, tree, eps) -> None:
    """Give each non-core point in reach of core points the lowest of their labels, in place."""
    rest = np.flatnonzero(~core)
    reach = tree.query_ball_point(points[rest], eps)    # fewer than min_points each
    owner = np.repeat(rest, [len(found) for found in reach])
    other = np.concatenate([np.asarray(found, np.int64) for found in reach])
    owner, other = owner[core[other]], other[core[other]]
    claim = np.full(len(points), len(points))
    np.minimum.at(claim, owner, labels[other])
    labels[owner] = claim[owner]
