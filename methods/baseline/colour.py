"""From sRGB to L*a*b* (CIE 1976, white D65): equal distances look about equally large."""

from __future__ import annotations

import torch

from methods.blocks.transfer import constant

TO_XYZ = (  # linear sRGB to XYZ (IEC 61966-2-1)
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
BEND = 6 / 29  # where the cube root becomes a line, so that black has no infinite slope


def lab(rgb: torch.Tensor) -> torch.Tensor:
    """rgb (B, 3, H, W) in [0, 1] -> L* in [0, 100], a* and b* about [-100, 100]: (B, 3, H, W)."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = constant(TO_XYZ, rgb)
    white = matrix.sum(dim=1, keepdim=True)  # of rgb (1, 1, 1)
    xyz = torch.einsum("ij,bjhw->bihw", matrix / white, linear)
    root = xyz.clamp(min=BEND**3) ** (1 / 3)
    x, y, z = torch.where(xyz > BEND**3, root, xyz / (3 * BEND**2) + 4 / 29).unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
