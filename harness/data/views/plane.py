"""The supporting plane, found in the frame of the image where no object lies (RANSAC).

What Open3D's `segment_plane` computes, with two liberties: all hypotheses are fitted at once,
and of equally good ones the first is taken.
"""

from __future__ import annotations

import numpy as np

from harness.data.samples import DataError

TILE = 128  # points side by side that are judged together
ROUNDING = 1e-9  # m, far above that of a distance


def border_points(xyz: np.ndarray, border: int) -> np.ndarray:
    """Points of the frame `border` pixels wide (corners twice, as published) -> (M, 3) float64.

    Points with any zero coordinate are dropped: the published code's idea of a missing point.
    """
    frame = (xyz[:border], xyz[-border:], xyz[:, :border], xyz[:, -border:])
    points = np.concatenate([part.reshape(-1, 3) for part in frame])
    return points[(points != 0).all(axis=1)].astype(np.float64)


def fit_planes(points: np.ndarray) -> np.ndarray:
    """Least-squares planes of point sets (B, N, 3) -> (B, 4): unit normal with z >= 0, and d."""
    centre = points.mean(axis=1)
    offset = points - centre[:, None]
    _, axes = np.linalg.eigh(np.einsum("bni,bnj->bij", offset, offset))
    normal = axes[:, :, 0]  # eigenvalues rise: the first axis is the one of least spread
    normal = np.where(normal[:, 2:] < 0, -normal, normal)
    return np.concatenate([normal, -(normal * centre).sum(axis=1, keepdims=True)], axis=1)


def ransac_plane(
    points: np.ndarray, inlier: float, size: int, iterations: int, rng: np.random.Generator
) -> np.ndarray:
    """The plane with the most points (M, 3) nearer than `inlier`, refitted to them -> (4,)."""
    planes = fit_planes(points.take(_draw(len(points), size, iterations, rng), axis=0))
    counts = count_near(points, planes, inlier)
    best = planes[counts.argmax()]
    near = points[np.abs(points @ best[:3] + best[3]) < inlier]
    return fit_planes(near[None])[0] if len(near) >= 3 else best


def count_near(points: np.ndarray, planes: np.ndarray, distance: float) -> np.ndarray:
    """How many points (M, 3) are nearer than `distance` to each plane (B, 4) -> (B,) int64.

    Points side by side lie in a small box, flat along the axis in which all points spread least.
    Mostly it is as a whole near the plane or far; where it is not, its points are looked at. The
    counts are exact.
    """
    middle = points.mean(axis=0)
    offset = points - middle
    _, axes = np.linalg.eigh(np.einsum("ni,nj->ij", offset, offset))
    turned, normal = offset @ axes, planes[:, :3] @ axes
    starts = np.arange(0, len(points), TILE)
    low, high = np.minimum.reduceat(turned, starts), np.maximum.reduceat(turned, starts)
    far = planes[:, 3] + planes[:, :3] @ middle
    far = np.abs(normal @ (low + high).T / 2 + far[:, None])  # of the boxes' centres (B, tiles)
    half = np.abs(normal) @ (high - low).T / 2 + ROUNDING
    near = far + half < distance
    counts = near @ np.diff(starts, append=len(points))
    undecided = ~near & (far - half < distance)
    for tile in np.flatnonzero(undecided.any(axis=0)):
        rows = np.flatnonzero(undecided[:, tile])
        some = points[starts[tile] : starts[tile] + TILE]
        far = np.abs(planes[rows, :3] @ some.T + planes[rows, 3:])
        counts[rows] += np.count_nonzero(far < distance, axis=1)
    return counts


def border_plane(
    xyz: np.ndarray, border: int, inlier: float, size: int, iterations: int, seed: int, name: str
) -> np.ndarray:
    """The plane a x + b y + c z + d = 0 under the object of one organised cloud (H, W, 3)."""
    points = border_points(xyz, border)
    if len(points) < size:
        raise DataError(
            f"{name} has {len(points)} valid points in its {border}-pixel frame, and finding the "
            f"plane takes {size}: was its background removed before? If so set background=none"
        )
    return ransac_plane(points, inlier, size, iterations, np.random.default_rng(seed))


def _draw(n: int, size: int, times: int, rng: np.random.Generator) -> np.ndarray:
    """`times` draws of `size` different numbers below n (Floyd's algorithm, all at once)."""
    drawn = np.empty((size, times), np.int64)
    for row, last in enumerate(range(n - size, n)):
        number = rng.integers(0, last + 1, times)
        taken = (drawn[:row] == number).any(axis=0)
        drawn[row] = np.where(taken, last, number)
    return drawn.T
