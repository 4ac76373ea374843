"""Point clouds as tensors: farthest points, neighbours, inverse-distance weights.

Clouds of unlike length share a batch by padding: points (B, N, 3) and valid (B, N), valid points
first. Distances are float32 sums of squared differences, never |a|^2 + |b|^2 - 2ab, which loses
all digits between neighbours. Sources: pointnet2_ops (FPS), KNN_CUDA (neighbours), M3DM
(interpolation); methods/m3dm/README.md, sections 3.1 and 4.1.

Other searches have arithmetic of their own, which is part of their results: the codes of a
quantiser by products (blocks/quantiser.nearest_codes), Shape-Guided's neighbours by products, as
published (shape_guided/inference.nearest_rows), the rows of a large bank exactly, with bounds
that spare most of them (blocks/memory_bank), and Shape-Guided's centres, the first of equally far
ones (`farthest` as it is).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from methods.blocks.at_once import AtOnce

FAR = 1e10  # squared, running distance before the first point (pointnet2_ops)
SKIPPED = 1e-3  # squared: points this near to the origin never become centres (same)
MAX_THREADS = 512  # of the published kernel; they decide between equal distances
PAIRS = AtOnce(cpu=1 << 19, accelerator=1 << 25)  # distances held at once
CLOSE = 1e-5  # relative gap of squared distances that float32 may not order right


def pack(xyz: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Organised clouds (B, H, W, 3) -> points (B, N, 3), valid (B, N), pixel (B, N) int64.

    Row-major; a point is valid if all its coordinates differ from 0. N is the longest cloud.
    """
    flat = xyz.flatten(1, 2)  # (B, H*W, 3)
    there = (flat != 0).all(dim=2)
    counts = there.sum(dim=1)
    known = counts.tolist()
    if not all(known):
        raise ValueError(f"cloud {known.index(0)} of the batch has no valid point")
    first = torch.argsort(~there, dim=1, stable=True)[:, : max(known)]
    valid = torch.arange(first.shape[1], device=xyz.device) < counts[:, None]
    return take(flat, first) * valid[..., None], valid, first * valid


def take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """x (B, N, C), index (B, ...) -> (B, ..., C)"""
    batch = torch.arange(len(x), device=x.device).view(-1, *[1] * (index.ndim - 1))
    return x[batch, index]


def farthest_points(points: torch.Tensor, count: int, valid: torch.Tensor) -> torch.Tensor:
    """Indices (B, count) of points (B, N, 3) each farthest from those before it; all on the host.

    The first is point 0. As pointnet2_ops: points within SKIPPED of the origin are left out, and of
    equally far points that wins which the kernel's tree of threads lets win. A cloud that runs out
    repeats a point.
    """
    clouds = zip(points, valid, strict=True)
    return torch.stack([_kernel_farthest(cloud[known], count) for cloud, known in clouds])


def _kernel_farthest(points: torch.Tensor, count: int) -> torch.Tensor:
    """The same of one cloud (N, 3)."""
    order = _kernel_order(len(points))
    moved = points[order]
    x, y, z = moved.unbind(dim=1)
    usable = x * x + y * y + z * z > SKIPPED
    if not usable.any():
        return torch.zeros(count, dtype=torch.long)
    start = int(order.argmin())  # where point 0 went
    return order[torch.from_numpy(farthest(moved.numpy(), count, start, usable.numpy()))]


def farthest(
    points: np.ndarray,
    count: int,
    start: int,
    usable: np.ndarray | None = None,
    distances: np.ndarray | None = None,
) -> np.ndarray:
    """Indices (count,) of points (N, 3), `start` and then always the farthest from those before.

    The first of equally far ones; usable: bool (N,), those that may be chosen; distances: (count,
    N), filled with the squared ones from each choice. By the CPU for any device: each choice
    needs the one before it, and a dozen launches a choice take longer than it does.
    """
    x, y, z = np.ascontiguousarray(points.T)
    nearest = np.full_like(x, FAR) if usable is None else np.where(usable, FAR, -1).astype(x.dtype)
    total, part = np.empty_like(x), np.empty_like(x)
    chosen = np.empty(count, np.int64)
    for i in range(count):
        chosen[i] = start
        total = total if distances is None else distances[i]
        np.subtract(x, x[start], out=total)
        np.square(total, out=total)
        for axis in (y, z):
            np.subtract(axis, axis[start], out=part)
            np.square(part, out=part)
            total += part
        np.minimum(nearest, total, out=nearest)  # those that may not be chosen stay at -1
        start = nearest.argmax()
    return chosen


def _kernel_order(count: int) -> torch.Tensor:
    """Order (count,) in which the first of equal maxima is the published kernel's choice.

    Thread t sees points t, t + T, ...; of two threads with equal distances the reduction keeps
    the one whose number, bits reversed, is smaller.
    """
    bits = min(count, MAX_THREADS).bit_length() - 1
    thread = torch.arange(count) % (1 << bits)
    rank = torch.zeros_like(thread)
    for bit in range(bits):
        rank += (thread >> bit & 1) << (bits - 1 - bit)
    return torch.argsort(rank, stable=True)


def nearest_points(
    queries: torch.Tensor, points: torch.Tensor, k: int, valid: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k nearest points of each query, nearest first; equals in order of their index.

    queries (B, Q, 3), points (B, N, 3), valid (B, N) -> squared distances (B, Q, k) float32 and
    indices (B, Q, k). A cloud with fewer points fills up with its nearest.
    """
    found, counts = [], [points.shape[1]] * len(points)
    if valid is not None:
        counts = valid.sum(dim=1).tolist()
    for b, count in enumerate(counts):
        cloud = points[b, :count]
        search = _by_tree if cloud.device.type == "cpu" and k < len(cloud) else _by_force
        found.append(search(queries[b], cloud, k))
    distances, indices = zip(*found)
    return torch.stack(distances), torch.stack(indices)


def _by_force(queries, points, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All distances, in blocks: (Q, 3), (N, 3) -> (Q, k), (Q, k)"""
    rows = max(1, PAIRS.within(points.device, 4) // len(points))
    parts = [_smallest(squared_distances(q[:, None], points), k) for q in queries.split(rows)]
    distances, indices = zip(*parts)
    return torch.cat(distances), torch.cat(indices)


def _by_tree(queries, points, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same through a k-d tree, in a tenth of the time on a CPU.

    The tree orders by float64 distances. Where the last neighbour and the next are too close to
    say how float32 orders them, that query is searched by force.
    """
    _, index = cKDTree(points.numpy()).query(queries.numpy(), k + 1)
    index = torch.from_numpy(index)
    squared = squared_distances(queries[:, None], points[index])  # (Q, k + 1)
    close = squared[:, k] - squared[:, k - 1] <= CLOSE * squared[:, k]
    distance, index = _in_order(squared[:, :k], index[:, :k])
    if close.any():
        distance[close], index[close] = _by_force(queries[close], points, k)
    return distance, index


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(..., 3), (..., 3) -> (...), axis by axis"""
    total = (a[..., 0] - b[..., 0]).square_()
    for axis in (1, 2):
        total += (a[..., axis] - b[..., axis]).square_()
    return total


def _smallest(squared: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest of each row (Q, N), in order; the first column of equals."""
    n = squared.shape[1]
    column = torch.arange(n, device=squared.device)
    found = _keys(squared, column).topk(min(k, n), dim=1, largest=False).values
    if n < k:  # filled up with the nearest
        found = torch.cat([found, found[:, :1].expand(-1, k - n)], dim=1)
    return _of_keys(found)


def _in_order(distance: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows by distance, equals by index."""
    return _of_keys(_keys(distance, index).sort(dim=1).values)


def _keys(distance: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """int64 numbers that order by float32 distance, which is not negative, and then by index.

    No two are equal, so a search for the smallest has one answer on any device.
    """
    return distance.view(torch.int32).long() << 32 | index


def _of_keys(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances and indices of `_keys`."""
    return (keys >> 32).int().view(torch.float32), keys & 0xFFFFFFFF


def inverse_weights(squared: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Weights of the neighbours, 1 / (d^2 + eps), that sum to 1 along the last axis."""
    weights = 1 / (squared + eps)
    return weights / weights.sum(dim=-1, keepdim=True)
