"""DBRN's discriminator: where do original and reconstruction differ.

One patch embedding for both modalities, a fusion of their features, and a body that segments
(methods/dbrn/README.md, section 6).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks import draem, swin_unet
from methods.blocks.draem import Discriminative
from methods.blocks.swin_unet import Drops, PatchEmbed, SwinUnet, as_map
from methods.dbrn.ism import ImportanceScoring
from methods.dbrn.settings import PATCH, Settings


class Discriminator(nn.Module):
    """Originals and reconstructions of both modalities -> logits (B, 2, H, W), 1 = anomaly.

    rgb, rgb_r (B, 3, H, W), depth, depth_r (B, 1, H, W); those of a modality that the setting
    leaves out are not looked at and can be None. With one modality there is nothing to fuse.
    """

    def __init__(self, settings: Settings, setting: str = "rgb+3d"):
        super().__init__()
        s, size = settings, settings.prep.size
        self.setting = setting
        self.fusion = s.fusion if setting == "rgb+3d" else "none"
        self.tokens = s.disc.net == "swin_unet" or s.disc.pe == "patch4"
        width = s.swin.width if self.tokens else s.disc.base
        channels = 8 if self.fusion == "early" else 2
        if self.tokens:
            self.pe = PatchEmbed(channels, width, PATCH)
        else:
            self.pe = nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
        if self.fusion == "ism":
            self.ism = ImportanceScoring(width, s.ism.out, s.ism.act)
        elif self.fusion == "cat":
            self.fuse = nn.Conv2d(2 * width, width, 1)
        if s.disc.net == "swin_unet":
            self.body = SwinUnet(
                size,
                None,
                2,
                width,
                s.swin.depths,
                s.swin.heads,
                s.swin.window,
                s.swin.mlp_ratio,
                s.swin.path_rate,
            )
        else:
            self.body = Discriminative(width, 2, s.disc.base)

    def forward(self, rgb, rgb_r, depth, depth_r, drops: Drops = Drops()) -> torch.Tensor:
        if self.fusion == "early":
            fused = self._embed(torch.cat([rgb, depth, rgb_r, depth_r], dim=1))
        else:
            fused = self._fuse(*self.features(rgb, rgb_r, depth, depth_r))
        if isinstance(self.body, SwinUnet):
            return self.body(fused.flatten(2).mT, drops)[0]
        logits = self.body(fused)
        if self.tokens:
            logits = F.interpolate(logits, scale_factor=PATCH, mode="bilinear", align_corners=False)
        return logits

    def features(self, rgb, rgb_r, depth, depth_r):
        """F_RGB and F_D (B, C, h, w); None for a modality that the setting leaves out.

        Colours are embedded one by one, together with the depth, so that they share the batch's
        statistics; F_RGB is their mean.
        """
        pairs = []
        if "rgb" in self.setting:
            pairs.append(torch.stack([rgb, rgb_r], dim=2).transpose(0, 1).flatten(0, 1))
        if "3d" in self.setting:
            pairs.append(torch.cat([depth, depth_r], dim=1))
        f = self._embed(torch.cat(pairs))  # (3B, B or both, C, h, w): r, g, b, depth
        parts = list(f.split([len(pair) for pair in pairs]))
        f_depth = parts.pop() if "3d" in self.setting else None
        f_rgb = None
        if "rgb" in self.setting:
            r, g, b = parts.pop().chunk(3)
            f_rgb = (r + g + b) / 3  # mean(dim=0) takes many times as long in channels-last
        return f_rgb, f_depth

    def _embed(self, pairs):
        f = self.pe(pairs)
        return as_map(f, pairs.shape[-1] // PATCH) if self.tokens else f

    def _fuse(self, f_rgb, f_depth):
        if self.fusion == "ism":
            return self.ism(f_rgb, f_depth)
        if self.fusion == "hadamard":
            return f_rgb * f_depth
        if self.fusion == "cat":
            return self.fuse(torch.cat([f_rgb, f_depth], dim=1))
        return f_depth if f_rgb is None else f_rgb


def init_weights(net: Discriminator, generator: torch.Generator, std: float) -> None:
    """DRAEM's initialisation, in place; a body that is a Swin-Unet has its own, with `std`."""
    for _name, part in net.named_children():
        if isinstance(part, SwinUnet):
            swin_unet.init_weights(part, generator, std)
        else:
            draem.init_weights(part, generator)
