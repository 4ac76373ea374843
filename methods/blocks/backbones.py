"""Image backbones through timm, by the names the papers' codes use. Nothing is downloaded.

Bare timm names change their meaning between versions (vit_base_patch8_224 is another fine-tune
today), so every name stands for a tag (methods/m3dm/README.md, section 2).
"""

from __future__ import annotations

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from methods.blocks.weights import fit_own, load
from methods.published import BACKBONES


class ImageTokens(nn.Module):
    """A ViT's patch tokens after its last norm: (B, 3, S, S) -> (B, C, S/p, S/p)

    size: px; patch, depth: of other sizes than the published ones, for random weights.
    """

    def __init__(self, name: str, size: int, patch: int | None = None, depth: int | None = None):
        super().__init__()
        if name not in BACKBONES:
            raise ValueError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
        other = {k: v for k, v in {"patch_size": patch, "depth": depth}.items() if v is not None}
        self.net = timm.create_model(
            BACKBONES[name].tag, pretrained=False, num_classes=0, img_size=size, **other
        ).eval()
        self.grid = self.net.patch_embed.grid_size[0]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.net.forward_features(images)[:, self.net.num_prefix_tokens :]
        return tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def load_weights(self, state: dict[str, torch.Tensor], source: object) -> None:
        """Load a published state dict, but for what has no place here (a classifier).

        Position embeddings of another image size are resampled.
        """
        own = self.net.state_dict()
        position = state.get("pos_embed")
        if position is not None and position.shape[1] != own["pos_embed"].shape[1]:
            position = resample_abs_pos_embed(
                position, (self.grid, self.grid), num_prefix_tokens=self.net.num_prefix_tokens
            )
            state = {**state, "pos_embed": position}
        load(self.net, fit_own(state, self.net), source, rest=True)
