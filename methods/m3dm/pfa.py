"""Point feature alignment (paper section 3.2): features of point groups onto a grid of patches.

Published: interpolate the G centres' features to every point, write them into an S x S map,
average over 3 x 3 pixels, then over the cells of the grid. All of it is linear in the centres'
features, and a cell sees few centres: here it is one sparse matrix (cells, G) per cloud, so the
map of 1152 x 224 x 224 numbers is never made (methods/m3dm/README.md, sections 4 and 7).
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from methods.blocks.at_once import starts_fast
from methods.blocks.points import inverse_weights, nearest_points, pack

WINDOW = 3  # px, of the first average (code)
PAPER_EPS = 1e-8  # m, eq. (1): "a fairly small constant"
CENTRES_AT_ONCE = 64  # of eq. (1), whose weights are dense


def bins(length: int, cells: int) -> torch.Tensor:
    """[start, end) (cells, 2) of adaptive average pooling; bins may overlap."""
    i = torch.arange(cells)
    return torch.stack([i * length // cells, -(-(i + 1) * length // cells)], dim=1)


@functools.lru_cache(maxsize=8)
def pooling(size: int, grid: int) -> torch.Tensor:
    """K (grid, size): the share of each pixel row in each cell row, both averages in one."""
    inner = size - WINDOW + 1
    K = torch.zeros(grid, size, dtype=torch.float64)
    for i, (start, end) in enumerate(bins(inner, grid).tolist()):
        for first in range(start, end):
            K[i, first : first + WINDOW] += 1 / (WINDOW * (end - start))
    return K.float()


def interpolation(
    points: torch.Tensor, valid: torch.Tensor, centres: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every point's 3 nearest centres and their weights, (B, N, 3) each; padding weighs 0."""
    squared, index = nearest_points(points, centres, 3)
    return inverse_weights(squared) * valid[..., None], index


def operators(xyz: torch.Tensor, centres: torch.Tensor, grid: int, rule: str) -> list[torch.Tensor]:
    """Sparse matrices (grid * grid, G), one per cloud: patches = operator @ centres' features.

    xyz (B, S, S, 3), centres (B, G, 3); rule: "nearest3" (code) or "all" (paper, eq. 1).
    """
    points, valid, pixel = pack(xyz)
    counts = valid.sum(dim=1).tolist()  # valid points come first
    if rule == "all":
        return [
            _all_centres(p[:n], at[:n], c, xyz.shape[1], grid)
            for p, n, at, c in zip(points, counts, pixel, centres)
        ]
    weights, index = interpolation(points, valid, centres)
    return [
        _nearest_centres(w[:n], k[:n], at[:n], len(c), xyz.shape[1], grid)
        for w, k, n, at, c in zip(weights, index, counts, pixel, centres)
    ]


def _nearest_centres(weights, index, pixel, count: int, size: int, grid: int) -> torch.Tensor:
    """weights, index (N, 3), pixel (N,) -> (grid * grid, count)"""
    cell, share = _cells_of_rows(size, grid, pixel.device)  # (S, m)
    row, column = pixel // size, pixel % size
    cells = cell[row][:, :, None] * grid + cell[column][:, None, :]  # (N, m, m)
    shares = share[row][:, :, None] * share[column][:, None, :]
    entry = cells[..., None] * count + index[:, None, None, :]  # (N, m, m, 3)
    value = shares[..., None] * weights[:, None, None, :]
    dense = torch.zeros(grid * grid * count, device=weights.device)
    dense.index_add_(0, entry.flatten(), value.flatten())
    return _compact(dense.view(grid * grid, count))


@functools.lru_cache(maxsize=8)
def _cells_of_rows(size: int, grid: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The cell rows a pixel row belongs to (S, m), and its share in each: 0 fills up."""
    K = pooling(size, grid).T  # (S, grid)
    m = int((K > 0).sum(dim=1).max())
    share, cell = K.topk(m, dim=1)
    return cell.to(device), share.to(device)


def _all_centres(points, pixel, centres, size: int, grid: int) -> torch.Tensor:
    """Eq. (1): 1 / distance to all centres, over the sum for all points and centres."""
    K = pooling(size, grid).to(points.device)
    columns, total = [], 0.0
    for part in centres.split(CENTRES_AT_ONCE):
        near = 1 / ((points[:, None] - part).norm(dim=2) + PAPER_EPS)  # (N, g)
        total += near.sum(dtype=torch.float64)
        image = points.new_zeros(size * size, len(part))
        image[pixel] = near
        image = K @ image.view(size, size * len(part))  # (grid, S * g)
        columns.append(torch.einsum("jc,ick->ijk", K, image.view(grid, size, -1)).flatten(0, 1))
    return _compact((torch.cat(columns, dim=1) / total).float())


def _compact(operator: torch.Tensor) -> torch.Tensor:
    """Sparse on a CPU, since most entries are 0; an accelerator would wait for their number."""
    return operator.to_sparse() if starts_fast(operator.device) else operator


def align(operators: list[torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """Features (B, G, C) of the centres -> patches (B, grid * grid, C), row by row."""
    return torch.stack([W @ f for W, f in zip(operators, features)])


def image_patches(tokens: torch.Tensor, grid: int) -> torch.Tensor:
    """Image features (B, C, g, g) -> (B, grid * grid, C): each repeated where the grid is finer."""
    return F.adaptive_avg_pool2d(tokens, grid).flatten(2).transpose(1, 2)


def group_map(xyz: torch.Tensor, centres: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values (B, G) of the groups, interpolated to the pixels: (B, S, S), 0 without a point."""
    points, valid, pixel = pack(xyz)
    weights, index = interpolation(points, valid, centres)
    at = (weights * values.gather(1, index.flatten(1)).view(weights.shape)).sum(dim=2)
    out = xyz.new_zeros(xyz.shape[0], xyz.shape[1] * xyz.shape[2])
    # Padding comes with weight 0 at pixel 0: adding leaves what is there.
    return out.scatter_add_(1, pixel, at).view(xyz.shape[:3])


def misaligned(size: int, fine: int) -> torch.Tensor:
    """The image patch (of size * size) that the released UFF features pair with each of the
    fine * fine point patches (methods/m3dm/README.md, section 5.4). Only 8 of 3136 are right."""
    r = torch.arange(fine * fine)
    coarse = size * size
    repeats = fine * fine // coarse
    return (repeats * (r % coarse) + r // coarse) % coarse
