"""Exact DBSCAN for organised clouds, where a point has thousands of neighbours.

The usual algorithm visits every pair of neighbours: 10^9 of them at 800 x 800 pixels. Here
points are sorted into cells with a diagonal of eps / 2, so that the points of touching cells
are neighbours, and so are those of a cube of 8 cells. Counting the points of a cell and of the
26 around it proves nearly every core point, and touching cells join nearly all that belongs
together. Only where that leaves a question are points compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

CHUNK = 1 << 20  # point pairs compared at once (24 MB)
CELLS_A_POINT = 32  # up to so many cells in the bounding box, they are counted, not sorted
PROBES = (1, 8)  # core points a cube shows in the two quick rounds, which join most cubes


def dbscan(points: np.ndarray, eps: float, min_points: int) -> np.ndarray:
    """Labels (N,) of the points (N, 3): -1 noise, clusters numbered by their first core point.

    A point is core if `min_points` points, itself counted, are at most eps away. A border point
    in reach of several clusters belongs to the one numbered first. These are the labels of
    scikit-learn's DBSCAN.
    """
    points = np.asarray(points, np.float64)
    if len(points) == 0:
        return np.empty(0, np.int64)
    cells = _sort_into_cells(points, eps)
    core = (cells.around() >= min_points)[cells.of_point]
    near = tree = None
    if (thin := np.flatnonzero(~core)).size:
        near = cells.in_reach_of(thin)
        tree = cKDTree(points[near], balanced_tree=False, compact_nodes=False)
        core[thin] = tree.query_ball_point(points[thin], eps, return_length=True) >= min_points
    labels = np.full(len(points), -1)
    if core.any():
        labels[core] = _core_labels(points, core, cells, eps)
    if not core.all():
        _claim_border(labels, points, core, near, tree, eps)
    return labels


def largest_cluster(labels: np.ndarray) -> np.ndarray:
    """Mask of the points with the most frequent label, the smallest of equally frequent ones.

    Noise counts as a cluster, as in the published preprocessing: where most points are noise,
    the noise is what stays.
    """
    found, counts = np.unique(labels, return_counts=True)
    return labels == found[counts.argmax()]


@dataclass(frozen=True)
class _Cells:
    """Occupied cells in the order of their positions, with a diagonal of eps / 2."""

    of_point: np.ndarray  # (N,) each point's cell
    count: np.ndarray  # (C,) points
    position: np.ndarray  # (C, 3) on the grid
    touching: np.ndarray  # (P, 2) pairs with a common corner

    def around(self) -> np.ndarray:
        """Points in each cell and in those that touch it (C,)."""
        total = self.count.astype(np.float64)
        for a, b in (self.touching.T, self.touching.T[::-1]):
            total += np.bincount(a, self.count[b], len(total))
        return total

    def in_reach_of(self, points: np.ndarray) -> np.ndarray:
        """The numbers of all points that may be eps from some of `points`, and of more."""
        cells = np.unique(self.of_point[points])
        nearest, _ = cKDTree(self.position[cells]).query(
            self.position,
            p=np.inf,
            distance_upper_bound=4.5,  # eps is 2 sqrt(3) cells
        )
        return np.flatnonzero(np.isfinite(nearest)[self.of_point])


def _sort_into_cells(points: np.ndarray, eps: float) -> _Cells:
    side = eps / np.sqrt(12) * (1 - 1e-9)  # rounding must not put neighbours > eps apart
    columns = np.ascontiguousarray(points.T)
    low, high = columns.min(axis=1), columns.max(axis=1)
    extent = np.floor((high - low) / side) + 1
    if (extent + 2).prod() > 2**62:  # 2: the margin of _pairs
        raise ValueError(f"eps {eps} is too small for a cloud of extent {high - low}")
    extent = extent.astype(np.int64)
    x, y, z = (np.floor((c - c_low) / side).astype(np.int64) for c, c_low in zip(columns, low))
    used, of_point, count = _unique((x * extent[1] + y) * extent[2] + z, extent.prod())
    position = np.stack(np.unravel_index(used, extent), axis=1)
    return _Cells(of_point, count, position, _pairs(position, 1))


def _unique(key: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """np.unique of keys below `size`, with inverse and counts."""
    if size > CELLS_A_POINT * len(key):
        return np.unique(key, return_inverse=True, return_counts=True)
    count = np.bincount(key, minlength=size)
    used = np.flatnonzero(count)
    number = np.empty(size, np.int64)
    number[used] = np.arange(len(used))
    return used, number[key], count[used]


def _pairs(position: np.ndarray, reach: int) -> np.ndarray:
    """Pairs (P, 2) of rows of `position` (C, 3), in order, at most `reach` apart on each axis."""
    extent = position.max(axis=0) + 1 + reach  # a margin, so that no offset wraps around
    steps = np.array([extent[1] * extent[2], extent[2], 1])
    key, width = position @ steps, 2 * reach + 1
    pairs = []
    for offset in list(np.ndindex(width, width, width))[width**3 // 2 + 1 :]:
        other = key + (np.array(offset) - reach) @ steps
        at = np.searchsorted(key, other).clip(max=len(key) - 1)
        here = np.flatnonzero(key[at] == other)
        pairs.append(np.stack([here, at[here]], axis=1))
    return np.concatenate(pairs)


def _core_labels(points: np.ndarray, core: np.ndarray, cells: _Cells, eps: float) -> np.ndarray:
    """Clusters of the core points alone, numbered by first appearance.

    Cubes of 8 cells are joined where core points lie in touching cells, then by ever dearer
    tests, each only on cubes that are not yet in one cluster.
    """
    occupied = np.zeros(len(cells.count), bool)
    occupied[cells.of_point[core]] = True
    position = cells.position[occupied] // 2
    extent = position.max(axis=0) + 1
    used, cube = np.unique(np.ravel_multi_index(position.T, extent), return_inverse=True)
    of_cell = np.full(len(occupied), -1)
    of_cell[occupied] = cube
    cube = of_cell[cells.of_point[core]]  # of each core point
    edges = of_cell[cells.touching[occupied[cells.touching].all(axis=1)]]
    group = _components(edges, len(used))
    if group.any():
        pairs = _pairs(np.stack(np.unravel_index(used, extent), axis=1), 2)
        pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
        questioned = np.zeros(len(used), bool)
        questioned[pairs] = True
        rows = np.flatnonzero(questioned[cube])
        rows = rows[np.argsort(cube[rows], kind="stable")]  # points of one cube side by side
        some, size = points[core][rows], np.bincount(cube[rows], minlength=len(used))
        start = np.cumsum(size) - size
        for touching in (_probe(PROBES[0]), _probe(PROBES[1]), _compare_all):
            pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
            edges = np.concatenate([edges, pairs[touching(some, start, size, pairs, eps)]])
            group = _components(edges, len(used))
    return _by_appearance(group[cube])


def _components(edges: np.ndarray, nodes: int) -> np.ndarray:
    graph = coo_array((np.ones(len(edges), np.int8), edges.T), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1]


def _by_appearance(group: np.ndarray) -> np.ndarray:
    """The same groups (N,), numbered in the order in which they first appear."""
    first = np.empty(group.max() + 1, np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]  # the last assignment stays
    return np.argsort(np.argsort(first))[group]


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
            )  # (rows, count, 3) each, the last point repeated where a cube has fewer
            square = ((a[:, :, None] - b[:, None]) ** 2).sum(axis=-1)
            near[low : low + rows] = (square <= eps**2).any(axis=(1, 2))
        return near

    return touching


def _compare_all(core, start, size, pairs, eps) -> np.ndarray:
    """Whether any core points of the two cubes are at most eps apart."""
    near = np.zeros(len(pairs), bool)
    open_pairs = np.flatnonzero((size[pairs] > PROBES[-1]).any(axis=1))  # others: probed in full
    trees = {c: cKDTree(core[start[c] : start[c] + size[c]]) for c in np.unique(pairs[open_pairs])}
    for i in open_pairs:
        a, b = pairs[i]
        near[i] = trees[a].count_neighbors(trees[b], eps) > 0
    return near


def _claim_border(labels, points, core, near, tree, eps) -> None:
    """Give each non-core point in reach of core points the lowest of their labels, in place.

    tree: of all points in their reach, whose numbers are `near`.
    """
    rest = np.flatnonzero(~core)
    reach = tree.query_ball_point(points[rest], eps)  # fewer than min_points each
    owner = np.repeat(rest, [len(found) for found in reach])
    other = near[np.fromiter(chain.from_iterable(reach), np.int64, len(owner))]
    owner, other = owner[core[other]], other[core[other]]
    claim = np.full(len(points), len(points))
    np.minimum.at(claim, owner, labels[other])
    labels[owner] = claim[owner]
