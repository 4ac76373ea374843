"""Importance scoring module: which modality to believe, pixel by pixel.

methods/dbrn/README.md, section 6.2.
"""

from __future__ import annotations

import torch
from torch import nn


class ImportanceScoring(nn.Sequential):
    """F = F_RGB * W_RGB + F_D * W_D, the weights from both features (equations 3 and 4).

    f_rgb, f_depth (B, C, H, W) -> fused (B, C, H, W)
    """

    def __init__(self, channels: int, out: str = "pixel", act: str = "softmax"):
        super().__init__(
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * channels, 2 if out == "pixel" else 2 * channels, 3, padding=1),
        )
        self.act = act

    def forward(self, f_rgb, f_depth):
        w_rgb, w_depth = self.weights(f_rgb, f_depth)
        return f_rgb * w_rgb + f_depth * w_depth

    def weights(self, f_rgb, f_depth):
        """W_RGB, W_D (B, 1 or C, H, W) each."""
        scores = super().forward(torch.cat([f_rgb, f_depth], dim=1))
        scores = scores.unflatten(1, (2, -1))  # (B, 2, 1 or C, H, W)
        if self.act == "softmax":
            scores = scores.softmax(dim=1)
        elif self.act != "none":
            scores = getattr(scores, self.act)()
        return scores.unbind(dim=1)
