"""The appearance expert: frozen features of an ImageNet network.

methods/shape_guided/README.md, section 3.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.samples import standardised, unit_rgb
from methods.shape_guided.settings import Rgb


class Appearance(nn.Module):
    """Normalised images (B, 3, S, S) -> features (B, G, C) of G = (S / 8)^2 cells, row by row."""

    def __init__(self, rgb: Rgb):
        super().__init__()
        self.pool = rgb.pool
        self.backbone = timm.create_model(
            rgb.backbone, pretrained=False, features_only=True, out_indices=(1, 2)
        )
        if (strides := self.backbone.feature_info.reduction()) != [4, 8]:
            raise ValueError(
                f"shape_guided.rgb.backbone {rgb.backbone!r} has strides {strides} where 4 and 8 "
                "are wanted; a ResNet of timm has them"
            )

    @torch.no_grad()
    def forward(self, images):
        layer1, layer2 = self.backbone(images)  # (B, c1, S/4, S/4), (B, c2, S/8, S/8)
        return combine(layer1, layer2, self.pool)


def combine(layer1: torch.Tensor, layer2: torch.Tensor, pool: int = 3) -> torch.Tensor:
    """Average both maps over pool x pool cells, shrink them to the grid of layer2, and join them.

    layer1 (B, c1, 2g, 2g), layer2 (B, c2, g, g) -> (B, g * g, c1 + c2)
    """
    size = layer2.shape[-2:]
    maps = [F.adaptive_avg_pool2d(F.avg_pool2d(m, pool, stride=1), size) for m in (layer1, layer2)]
    return torch.cat(maps, dim=1).flatten(2).transpose(1, 2).contiguous()


def normalised(rgb: torch.Tensor, settings: Rgb) -> torch.Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S) with ImageNet's mean and deviation removed."""
    return standardised(unit_rgb(rgb), settings.mean, settings.std).contiguous()
