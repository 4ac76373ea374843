"""Points of an organised cloud, as M3DM and Shape-Guided take them from their view."""

from __future__ import annotations

import torch


def valid_points(xyz: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The points of one cloud (H, W, 3) whose three coordinates are all non-zero, row by row.

    -> points (N, 3), and the pixel of each, row * W + column (N,) int64
    """
    flat = xyz.reshape(-1, 3)
    pixel = (flat != 0).all(dim=1).nonzero()[:, 0]
    return flat[pixel], pixel


def unit_width(points: torch.Tensor) -> torch.Tensor:
    """Points (N, 3) moved to the origin, and scaled by their extent along x alone."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    return (points - low) / (high[0] - low[0])
