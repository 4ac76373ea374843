"""DAS3D's networks and loss (Li et al., arXiv 2410.09821).

methods/das3d/README.md, sections 3 and 4. Two DRAEM autoencoders restore the clean RGB and
depth images; a DRAEM U-Net segments the anomaly from what they saw (first encoder blocks) and
what they made of it (last decoder blocks). The paper names no layers; ours are EasyNet's, its
closest relative.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.draem import Discriminative, Reconstructive
from methods.blocks.losses import focal, ssim
from methods.das3d.settings import Loss, Settings


class Output(NamedTuple):
    recon_rgb: torch.Tensor | None  # (B, 3, H, W)
    recon_depth: torch.Tensor | None  # (B, depth_channels, H, W)
    fuse: torch.Tensor  # (B, 5w a modality, H, W)
    logits: torch.Tensor  # (B, 2, H, W), channel 1 = anomaly


class Das3dNet(nn.Module):
    """setting "rgb", "3d" or "rgb+3d" says which of recon_rgb and recon_depth there are.

    rgb (B, 3, H, W) and depth (B, 1, H, W) in [0, 1], sides divisible by 32; the one that the
    setting leaves out is not looked at and can be None.
    """

    def __init__(self, settings: Settings, setting: str = "rgb+3d"):
        super().__init__()
        w, skips = settings.recon.width, settings.recon.skips
        self.feature_names, self.detach = settings.feature_names, settings.detach_features
        self.depth_channels = settings.depth_channels
        channels = 0
        if "rgb" in setting:
            self.recon_rgb = Reconstructive(3, 3, w, skips)
            channels += self._channels(w, 3)
        if "3d" in setting:
            self.recon_depth = Reconstructive(self.depth_channels, self.depth_channels, w, skips)
            channels += self._channels(w, self.depth_channels)
        self.disc = Discriminative(channels, 2, settings.disc.base)

    def _channels(self, w, out):
        widths = {"b1": w, "b2": 2 * w, "db3": w, "db4": w, "out": out}
        return sum(widths[name] for name in self.feature_names)

    def forward(self, rgb: torch.Tensor | None, depth: torch.Tensor | None) -> Output:
        recon_rgb = recon_depth = None
        fuse = []
        if hasattr(self, "recon_rgb"):
            features = self.recon_rgb.features(rgb)
            recon_rgb = features["out"]
            fuse += self._enlarged(features, rgb.shape[-2:])
        if hasattr(self, "recon_depth"):
            features = self.recon_depth.features(depth.expand(-1, self.depth_channels, -1, -1))
            recon_depth = features["out"]
            fuse += self._enlarged(features, depth.shape[-2:])
        fuse = torch.cat(fuse, dim=1)  # (B, 10w, H, W)
        if self.detach:
            fuse = fuse.detach()
        return Output(recon_rgb, recon_depth, fuse, self.disc(fuse))

    def _enlarged(self, features, size):
        maps = [features[name] for name in self.feature_names]
        return [
            m
            if m.shape[-2:] == size
            else F.interpolate(m, size, mode="bilinear", align_corners=False)
            for m in maps
        ]


def das3d_loss(
    output: Output, rgb: torch.Tensor, depth: torch.Tensor, mask: torch.Tensor, weights: Loss
) -> dict[str, torch.Tensor]:
    """Terms of the loss, not yet weighted, and their weighted sum "total".

    rgb (B, 3, H, W) and depth (B, 1, H, W) are the clean images, mask (B, 1, H, W) in {0, 1}.
    """
    terms = {}
    if output.recon_depth is not None:
        terms["depth"] = (output.recon_depth - depth).square().mean()
    if output.recon_rgb is not None:
        terms["rgb"] = (output.recon_rgb - rgb).square().mean()
        terms["ssim"] = 1 - ssim(output.recon_rgb, rgb)
    terms["focal"] = focal(output.logits.softmax(dim=1), mask)
    total = sum(getattr(weights, f"w_{name}") * term for name, term in terms.items())
    return {**terms, "total": total}
