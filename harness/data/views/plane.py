"""The supporting plane, found in the frame of the image where no object lies (RANSAC).

What Open3D's `segment_plane` computes, with two liberties: all hypotheses are fitted and
counted in whole arrays, and of equally good ones the first is taken.
"""

from __future__ import annotations

import numpy as np

from harness.data.samples import DataError

BLOCK = 1 << 17    # distances computed at once: 1 MB stays in the cache, and BLAS on one thread


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
    normal = axes[:, :, 0]    # eigenvalues rise: the first axis is the one of least spread
    normal = np.where(normal[:, 2:] < 0, -normal, normal)
    return np.concatenate([normal, -(normal * centre).sum(axis=1, keepdims=True)], axis=1)


def ransac_plane(
    points: np.ndarray, inlier: float, size: int, iterations: int, rng: np.random.Generator
) -> np.ndarray:
    """The plane with the most points (M, 3) nearer than `inlier`, refitted to them -> (4,)."""
    planes = fit_planes(points[_draw(len(points), size, iterations, rng)])
    counts = np.empty(len(planes), np.int64)
    rows = max(1, BLOCK // len(points))
    for start in range(0, len(planes), rows):
        block = planes[start : start + rows]
        distance = np.abs(block[:, :3] @ points.T + block[:, 3:])    # (rows, M)
        counts[start : start + rows] = [np.count_nonzero(d < inlier) for d in distance]
    best = planes[counts.argmax()]
    near = points[np.abs(points @ best[:3] + best[3]) < inlier]
    return fit_planes(near[None])[0] if len(near) >= 3 else best


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
    drawn = np.empty((times, size), np.int64)
    for column, last in enumerate(range(n - size, n)):
        number = rng.integers(0, last + 1, times)
        taken = (drawn[:, :column] == number[:, None]).any(axis=1)
        drawn[:, column] = np.where(taken, last, number)
    return drawn
