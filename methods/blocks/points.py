"""Point clouds as tensors: farthest points, neighbours, inverse-distance weights.

Clouds of unlike length share a batch by padding: points (B, N, 3) and valid (B, N), valid points
first. Distances are float32 sums of squared differences, never |a|^2 + |b|^2 - 2ab, which loses
all digits between neighbours. Sources: pointnet2_ops (FPS), KNN_CUDA (neighbours), M3DM
(interpolation); methods/m3dm/README.md, sections 3.1 and 4.1.

Other searches have arithmetic of their own, which is part of their results: the codes of a
quantiser by products (blocks/quantiser.nearest_codes), Shape-Guided's neighbours by products, as
published (shape_guided/inference.nearest_rows), the rows of a large bank exactly, with bounds
that spare most of them (blocks/memory_bank), and Shape-Guided's centres, the first of equally far
ones (shape_guided/patches.farthest_centres).
"""

from __future__ import annotations

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
    if not counts.all():
        raise ValueError(f"cloud {int(counts.argmin())} of the batch has no valid point")
    first = torch.argsort(~there, dim=1, stable=True)[:, : int(counts.max())]
    valid = torch.arange(first.shape[1], device=xyz.device) < counts[:, None]
    return take(flat, first) * valid[..., None], valid, first * valid


def take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """x (B, N, C), index (B, ...) -> (B, ..., C)"""
    batch = torch.arange(len(x), device=x.device).view(-1, *[1] * (index.ndim - 1))
    return x[batch, index]


def farthest_points(points: torch.Tensor, count: int, valid: torch.Tensor) -> torch.Tensor:
    """Indices (B, count) of points each farthest from those before it; the first is point 0.

    As pointnet2_ops: points within SKIPPED of the origin are left out, and of equally far points
    that wins which the kernel's tree of threads lets win. A cloud that runs out repeats a point.
    """
    order = _kernel_order(valid)  # (B, N)
    x, y, z = take(points, order).unbind(dim=2)
    usable = valid.gather(1, order) & (x * x + y * y + z * z > SKIPPED)
    nearest = torch.where(usable, FAR, -1.0)  # (B, N)
    last = torch.argmin(order, dim=1, keepdim=True)  # where point 0 went
    chosen = [last]
    dx, dy, dz = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
    for _ in range(count - 1):
        torch.sub(x, x.gather(1, last), out=dx).square_()
        torch.sub(y, y.gather(1, last), out=dy).square_()
        torch.sub(z, z.gather(1, last), out=dz).square_()
        torch.minimum(nearest, dx.add_(dy).add_(dz), out=nearest)  # unusable stay at -1
        last = nearest.argmax(dim=1, keepdim=True)
        chosen.append(last)
    found = order.gather(1, torch.cat(chosen, dim=1))
    return torch.where(usable.any(dim=1, keepdim=True), found, 0)


def _kernel_order(valid: torch.Tensor) -> torch.Tensor:
    """Order (B, N) in which the first of equal maxima is the published kernel's choice.

    Thread t sees points t, t + T, ...; of two threads with equal distances the reduction keeps
    the one whose number, bits reversed, is smaller.
    """
    index = torch.arange(valid.shape[1], device=valid.device)
    bits = valid.sum(dim=1).clamp(1, MAX_THREADS).log2().floor().long()  # (B,)
    rank = torch.zeros_like(valid, dtype=torch.long)
    thread = index % (1 << bits[:, None])
    for bit in range(MAX_THREADS.bit_length()):
        here = bit < bits[:, None]
        rank += torch.where(here, (thread >> bit & 1) << (bits[:, None] - 1 - bit).clamp(min=0), 0)
    rank = torch.where(valid, rank, MAX_THREADS)
    return torch.argsort(rank, dim=1, stable=True)


def nearest_points(
    queries: torch.Tensor, points: torch.Tensor, k: int, valid: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k nearest points of each query, nearest first; equals in order of their index.

    queries (B, Q, 3), points (B, N, 3), valid (B, N) -> squared distances (B, Q, k) float32 and
    indices (B, Q, k). A cloud with fewer points fills up with its nearest.
    """
    found = []
    for b in range(len(points)):
        cloud = points[b] if valid is None else points[b, : int(valid[b].sum())]
        search = _by_tree if cloud.device.type == "cpu" and k < len(cloud) else _by_force
        found.append(search(queries[b], cloud, k))
    distances, indices = zip(*found)
    return torch.stack(distances), torch.stack(indices)


def _by_force(queries, points, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All distances, in blocks: (Q, 3), (N, 3) -> (Q, k), (Q, k)"""
    rows = max(1, PAIRS.on(points.device) // len(points))
    parts = [_smallest(_squared(q[:, None], points), k) for q in queries.split(rows)]
    distances, indices = zip(*parts)
    return torch.cat(distances), torch.cat(indices)


def _by_tree(queries, points, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same through a k-d tree, in a tenth of the time on a CPU.

    The tree orders by float64 distances. Where the last neighbour and the next are too close to
    say how float32 orders them, that query is searched by force.
    """
    _, index = cKDTree(points.numpy()).query(queries.numpy(), k + 1)
    index = torch.from_numpy(index)
    squared = _squared(queries[:, None], points[index])  # (Q, k + 1)
    close = squared[:, k] - squared[:, k - 1] <= CLOSE * squared[:, k]
    distance, index = _in_order(squared[:, :k], index[:, :k])
    if close.any():
        distance[close], index[close] = _by_force(queries[close], points, k)
    return distance, index


def _squared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(..., 3), (..., 3) -> (...), axis by axis"""
    total = (a[..., 0] - b[..., 0]).square_()
    for axis in (1, 2):
        total += (a[..., axis] - b[..., axis]).square_()
    return total


def _smallest(squared: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest of each row (Q, N), in order; the first column of equals."""
    n = squared.shape[1]
    if n <= k:
        distance, index = torch.sort(squared, dim=1, stable=True)
        column = torch.arange(k, device=squared.device)
        column = torch.where(column < n, column, 0)
        return distance[:, column], index[:, column]
    found = squared.topk(k + 1, dim=1, largest=False)
    tied = (found.values[:, k] == found.values[:, k - 1]).nonzero()[:, 0]
    index = found.indices[:, :k]
    if len(tied):  # topk takes any of the equal ones
        index[tied] = torch.sort(squared[tied], dim=1, stable=True).indices[:, :k]
    return _in_order(squared.gather(1, index), index)


def _in_order(distance: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows by distance, equals by index."""
    index, order = index.sort(dim=1)
    distance, second = distance.gather(1, order).sort(dim=1, stable=True)
    return distance, index.gather(1, second)


def inverse_weights(squared: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Weights of the neighbours, 1 / (d^2 + eps), that sum to 1 along the last axis."""
    weights = 1 / (squared + eps)
    return weights / weights.sum(dim=-1, keepdim=True)
