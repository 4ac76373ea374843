"""From scores of cells or pixels to maps: enlarged, averaged, blurred."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from methods.blocks.transfer import sent


def enlarged(cells: torch.Tensor, size: int) -> torch.Tensor:
    """Scores (B, grid * grid) of cells, row by row -> maps (B, size, size), bilinear."""
    grid = round(cells.shape[1] ** 0.5)
    maps = cells.view(-1, 1, grid, grid)
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def window_mean(maps: torch.Tensor, window: int) -> torch.Tensor:
    """Maps (B, H, W), averaged over window x window px (odd), zeros outside."""
    return F.avg_pool2d(maps[:, None], window, stride=1, padding=window // 2)[:, 0]


def gaussian_line(sigma: float, reach: int, like: torch.Tensor) -> torch.Tensor:
    """Weights (2 reach + 1,) of sum 1, in the type and on the device of `like`; sigma in px."""
    x = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype)
    line = torch.exp(-(x**2) / (2 * sigma**2))
    return line / line.sum()


def blurred_in_levels(maps: torch.Tensor, radius_px: float) -> torch.Tensor:
    """Pillow's Gaussian blur (three box filters) of maps (B, H, W), as published.

    Each map in 256 levels up to its maximum, cut and not rounded; values below zero, which the
    levels cannot hold, become zero. A map without a value above zero stays as it is.
    """
    # Imported where it is used: speed can be measured on machines without it.
    from PIL import Image, ImageFilter

    top = maps.amax(dim=(1, 2), keepdim=True)
    levels = (255 * (maps / torch.where(top > 0, top, 1))).clamp(min=0).to(torch.uint8).cpu()
    blur = ImageFilter.GaussianBlur(radius_px)
    blurred = [np.asarray(Image.fromarray(level.numpy()).filter(blur)) for level in levels]
    there = sent(torch.from_numpy(np.stack(blurred)), maps.device).to(maps.dtype)
    return torch.where(top > 0, there / 255 * top, maps)
