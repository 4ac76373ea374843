"""Perlin noise and exact bilinear rotation, for whole batches.

methods/das3d/README.md, section 7.1. DRAEM (Zavrtanik et al., ICCV 2021) makes its anomaly masks
from this noise. Noise is written here as matrix products: a pixel sees the grid lines next to its
row and next to its column, so P = row weights @ gradients @ column weights. Rotation is exact
where DRAEM's (imgaug) rounds to fixed point; the two differ by at most about 0.01.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F


class PerlinDraw(NamedTuple):
    """The random numbers of one noise image."""

    u: np.ndarray  # (G + 1, G + 1) gradient angles in turns, zero beyond the grid
    grid: tuple[int, int]  # cells along rows and columns
    angle_deg: float


def draw_perlin(
    rng: np.random.Generator,
    exponents: tuple[int, int] = (0, 5),
    angles_deg: tuple[float, float] = (-90.0, 90.0),
) -> PerlinDraw:
    """Grid 2^a x 2^b with a, b uniform over `exponents` (both ends included), and an angle."""
    a, b = rng.integers(exponents[0], exponents[1] + 1, 2)
    rows, cols = 2 ** int(a), 2 ** int(b)
    most = 2 ** exponents[1] + 1
    u = np.zeros((most, most), np.float32)
    u[: rows + 1, : cols + 1] = rng.random((rows + 1, cols + 1), np.float32)
    return PerlinDraw(u, (rows, cols), float(rng.uniform(*angles_deg)))


def perlin_noise(u: torch.Tensor, grids: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Perlin noise from gradient angles.

    u (B, R, C) in turns, entries beyond a sample's own grid are ignored; grids (B, 2) cells
    along rows and columns; size (H, W) px -> (B, H, W), about within [-1, 1]
    """
    turn = 2 * math.pi * u  # (B, R, C)
    row, row_offset = _line_weights(grids[:, 0], u.shape[1], size[0], u.dtype)  # (B, H, R)
    col, col_offset = _line_weights(grids[:, 1], u.shape[2], size[1], u.dtype)  # (B, W, C)
    noise = row_offset @ turn.cos() @ col.mT + row @ turn.sin() @ col_offset.mT  # (B, H, W)
    return math.sqrt(2) * noise


def _line_weights(cells, lines: int, size: int, dtype):
    """How much each of `lines` grid lines counts at each pixel, and that times its offset.

    cells (B,) -> two (B, size, lines). Only the two lines around a pixel count: the one at
    offset f with 1 - fade(f) = fade(1 - f), the other, at f - 1, with fade(f).
    """
    pixel = torch.arange(size, device=cells.device, dtype=dtype)
    line = torch.arange(lines, device=cells.device, dtype=dtype)
    position = pixel * cells[:, None].to(dtype) / size  # (B, size), in cells
    offset = position[:, :, None] - line  # (B, size, lines)
    weight = _fade((1 - offset.abs()).clamp(min=0))
    return weight, weight * offset


def _fade(t):
    return ((6 * t - 15) * t + 10) * t**3


def rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Turn every image about its own centre, bilinearly, zeros from outside.

    images (B, C, H, W), degrees (B,), positive is clockwise on screen -> (B, C, H, W)
    """
    H, W = images.shape[-2:]
    angle = torch.deg2rad(degrees.to(images))[:, None, None]
    dr = torch.arange(H, device=images.device, dtype=images.dtype)[:, None] - (H - 1) / 2
    dc = torch.arange(W, device=images.device, dtype=images.dtype) - (W - 1) / 2
    row = angle.cos() * dr - angle.sin() * dc  # (B, H, W), from centre
    col = angle.sin() * dr + angle.cos() * dc
    # With align_corners, -1 and 1 are the centres of the first and last pixel.
    where = torch.stack([col * 2 / (W - 1), row * 2 / (H - 1)], dim=-1)
    return F.grid_sample(images, where, "bilinear", "zeros", align_corners=True)
