"""Residual U-Net, the CNN that DBRN compares its Swin-Unet with.

The paper cites "Res-UNet" without describing it (probably Xiao et al. 2018); widths and blocks
here are inferred from its printed speed (methods/dbrn/README.md, section 4.4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.swin_unet import Drops


class Residual(nn.Module):
    """ReLU(conv-BN-ReLU-conv-BN + shortcut), 3 x 3, a -> b channels."""

    def __init__(self, a: int, b: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1),
            nn.BatchNorm2d(b),
            nn.ReLU(inplace=True),
            nn.Conv2d(b, b, 3, padding=1),
            nn.BatchNorm2d(b),
        )
        self.shortcut = (
            nn.Identity() if a == b else nn.Sequential(nn.Conv2d(a, b, 1), nn.BatchNorm2d(b))
        )

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


class Join(nn.Module):
    """Double the side, a -> b channels, then a residual block on that and a skip."""

    def __init__(self, a: int, b: int):
        super().__init__()
        self.up = nn.Conv2d(a, b, 3, padding=1)
        self.block = Residual(2 * b, b)

    def forward(self, x, skip):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.block(torch.cat([F.relu(self.up(x)), skip], dim=1))


class ResUnet(nn.Module):
    """x (B, in_channels, H, W), sides divisible by 16 -> images at 1, 1/2, 1/4, ... of the size.

    Takes the same Drops as a SwinUnet, for its three shallowest skips.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        out_channels: int,
        width: int = 128,
        extra_scales: int = 0,
    ):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.encoder = nn.ModuleList(Residual(a, b) for a, b in zip([in_channels, *widths], widths))
        ups = widths[-2::-1]  # 8w, 4w, 2w, w
        self.decoder = nn.ModuleList(Join(a, b) for a, b in zip([widths[-1], *ups], ups))
        self.output = nn.Conv2d(width, out_channels, 1)
        if extra_scales:
            self.heads = nn.ModuleList(
                nn.Conv2d(widths[i], out_channels, 1) for i in range(1, extra_scales + 1)
            )
        sides = [image_size // 2**i for i in range(3)]
        self.skip_shapes = [(side**2, w) for side, w in zip(sides, widths)]  # (L, C) each
        self.path_rates = torch.zeros(0)

    def forward(self, x: torch.Tensor, drops: Drops = Drops()) -> list[torch.Tensor]:
        skips = []
        for i, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()  # the bottleneck itself
        if drops.skips is not None:
            kept = [s * _as_map(keep, s) for s, keep in zip(skips, drops.skips)]
            skips = kept + skips[len(kept) :]
        features = []  # finest first
        for join in self.decoder:
            x = join(x, skips.pop())
            features.insert(0, x)
        images = [self.output(x)]
        if hasattr(self, "heads"):
            images += [head(f) for head, f in zip(self.heads, features[1:])]
        return images


def _as_map(keep, like):
    """(B, L or 1, C or 1) -> (B, C or 1, H or 1, W or 1)"""
    H, W = like.shape[-2:] if keep.shape[1] > 1 else (1, 1)
    return keep.mT.unflatten(2, (H, W))
