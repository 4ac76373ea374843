"""Image backbones through timm, by the names the papers' codes use. Nothing is downloaded.

Bare timm names change their meaning between versions (vit_base_patch8_224 is another fine-tune
today), so every name stands for a tag (methods/m3dm/README.md, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from methods.blocks.weights import fit_own, load
from methods.published import FILES


@dataclass(frozen=True)
class Backbone:
    tag: str  # of timm
    file: str  # the usual name of its weights

    @property
    def source(self) -> str:
        """Where they are published."""
        known = [file.source for file in FILES if file.file == self.file]
        return known[0] if known else f"https://huggingface.co/timm/{self.tag}"


BACKBONES = {
    "vit_base_patch8_224_dino": Backbone(
        "vit_base_patch8_224.dino",
        "dino_vitbase8_pretrain.pth",
    ),
    "vit_small_patch8_224_dino": Backbone(
        "vit_small_patch8_224.dino",
        "dino_deitsmall8_pretrain.pth",
    ),
    "vit_base_patch8_224": Backbone(
        "vit_base_patch8_224.augreg_in21k_ft_in1k",
        "vit_base_patch8_224.augreg_in21k_ft_in1k.safetensors",
    ),
    "vit_base_patch8_224_in21k": Backbone(
        "vit_base_patch8_224.augreg_in21k",
        "vit_base_patch8_224.augreg_in21k.safetensors",
    ),
    "vit_tiny_patch16_224": Backbone(
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors",
    ),
}


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
