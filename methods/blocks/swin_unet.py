"""Swin-Unet (Cao et al., ECCV workshops 2022), as published, with what DBRN adds to it.

A U-Net of Swin transformer blocks (Liu et al., ICCV 2021). Names of attributes give the keys of
the authors' checkpoints. DBRN's additions (methods/dbrn/README.md, sections 4.1 to 4.3): dropped
skips and images at several scales of the decoder. Nothing here draws random numbers: what is
dropped comes in as `Drops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.mlp import Mlp

MASKED = -100.0  # added to the attention between tokens that are no neighbours (published)


class Drops(NamedTuple):
    """Multipliers that drop parts of a pass; None drops nothing."""

    skips: Sequence[torch.Tensor] | None = None  # of each skip, broadcast over (B, L, C)
    paths: torch.Tensor | None = None  # (2 blocks, B) of the residual branches


class PatchEmbed(nn.Module):
    """x (B, c, H, W) -> tokens (B, L, C), L = H/patch * W/patch in row-major order."""

    def __init__(self, channels: int, width: int, patch: int = 4):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return self.norm(self.proj(x).flatten(2).mT)


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a learned bias for every offset.

    x (B * windows, w * w, C), mask (windows, w * w, w * w) added to the scores, or None
    """

    def __init__(self, width: int, window: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, mask=None):
        N, L, C = x.shape
        qkv = self.qkv(x).view(N, L, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, L, C/heads)
        added = self.bias()
        if mask is not None:
            added = (added + mask[:, None]).repeat(N // len(mask), 1, 1, 1)
        x = F.scaled_dot_product_attention(q, k, v, added.expand(N, -1, -1, -1), scale=self.scale)
        return self.proj(x.transpose(1, 2).reshape(N, L, C))

    def bias(self):
        """(heads, L, L)"""
        L = len(self.relative_position_index)
        table = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        return table.view(L, L, -1).permute(2, 0, 1)


def relative_position_index(window: int) -> torch.Tensor:
    """Row of the bias table for every (query, key) of a window (w * w, w * w)."""
    at = torch.arange(window)
    row, col = (c.flatten() for c in torch.meshgrid(at, at, indexing="ij"))
    dr, dc = (c[:, None] - c + window - 1 for c in (row, col))
    return dr * (2 * window - 1) + dc


def shift_mask(grid: int, window: int, shift: int) -> torch.Tensor:
    """What to add between tokens of a rolled grid's windows: (windows, w * w, w * w).

    Rolling brings tokens of opposite borders into one window; regions keep them apart.
    """
    region = torch.zeros(grid, dtype=torch.long)
    region[grid - window : grid - shift] = 1
    region[grid - shift :] = 2
    region = windows_of((3 * region[:, None] + region)[None, :, :, None], window)[..., 0]
    return torch.where(region[:, :, None] == region[:, None], 0.0, MASKED)


def windows_of(x: torch.Tensor, window: int) -> torch.Tensor:
    """(B, H, W, C) -> (B * windows, w * w, C)"""
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.transpose(2, 3).reshape(-1, window * window, C)


def grid_of(x: torch.Tensor, window: int, grid: int) -> torch.Tensor:
    """Undo windows_of: (B * windows, w * w, C) -> (B, grid, grid, C)"""
    n = grid // window
    x = x.view(-1, n, n, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, grid, grid, x.shape[-1])


class Block(nn.Module):
    """Attention within windows, shifted by half a window in every other block, and an MLP.

    x (B, grid * grid, C), paths (2, B) multipliers of the two branches, or None
    """

    def __init__(self, width, grid, heads, window, shifted, mlp_ratio):
        super().__init__()
        self.grid, self.window = grid, min(window, grid)
        # A grid that is one window has nothing to shift.
        self.shift = window // 2 if shifted and grid > window else 0
        mask = shift_mask(grid, self.window, self.shift) if self.shift else None
        self.register_buffer("attn_mask", mask)
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, self.window, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(mlp_ratio * width))

    def forward(self, x, paths=None):
        first, second = (None, None) if paths is None else paths[..., None, None]
        x = x + _times(self._attend(self.norm1(x)), first)
        return x + _times(self.mlp(self.norm2(x)), second)

    def _attend(self, x):
        B, L, C = x.shape
        x = x.view(B, self.grid, self.grid, C)
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        x = self.attn(windows_of(x, self.window), self.attn_mask)
        x = grid_of(x, self.window, self.grid)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x.view(B, L, C)


def _times(x, multiplier):
    return x if multiplier is None else x * multiplier


class PatchMerging(nn.Module):
    """Half the side, twice the channels: (B, L, C) -> (B, L/4, 2C)"""

    def __init__(self, width: int, grid: int):
        super().__init__()
        self.grid = grid
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, x):
        B, L, C = x.shape
        x = x.view(B, self.grid // 2, 2, self.grid // 2, 2, C)  # rows, columns
        x = x.permute(0, 1, 3, 4, 2, 5).reshape(B, L // 4, 4 * C)  # column offset is slower
        return self.reduction(self.norm(x))


def spread(x: torch.Tensor, grid: int, factor: int) -> torch.Tensor:
    """Channels to pixels: (B, grid^2, factor^2 C) -> (B, (grid factor)^2, C)"""
    B = len(x)
    x = x.view(B, grid, grid, factor, factor, -1).transpose(2, 3)
    return x.reshape(B, (grid * factor) ** 2, -1)


class PatchExpand(nn.Module):
    """Tokens on a finer grid: (B, L, C) -> (B, L factor^2, width)"""

    def __init__(self, channels: int, width: int, grid: int, factor: int):
        super().__init__()
        self.grid, self.factor = grid, factor
        self.expand = nn.Linear(channels, factor**2 * width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return self.norm(spread(self.expand(x), self.grid, self.factor))


class Stage(nn.Module):
    """Blocks, then a change of resolution: x -> features of the blocks, what is passed on."""

    def __init__(self, blocks, downsample=None, upsample=None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if downsample:
            self.downsample = downsample
        if upsample:
            self.upsample = upsample
        self.rows = 2 * len(self.blocks)  # of Drops.paths

    def forward(self, x, paths=None):
        for i, block in enumerate(self.blocks):
            x = block(x, None if paths is None else paths[2 * i : 2 * i + 2])
        resample = getattr(self, "downsample", None) or getattr(self, "upsample", None)
        return x, resample(x) if resample else x


class Head(nn.Module):
    """Image at four times the side of a decoder stage: the published final head, after a norm."""

    def __init__(self, channels: int, width: int, out_channels: int, grid: int):
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 16 * width, bias=False)
        self.norm_out = nn.LayerNorm(width)
        self.output = nn.Conv2d(width, out_channels, 1, bias=False)

    def forward(self, x):
        x = self.norm_out(spread(self.expand(self.norm(x)), self.grid, 4))
        return self.output(as_map(x, 4 * self.grid))


def as_map(tokens: torch.Tensor, side: int) -> torch.Tensor:
    """(B, side * side, C) -> (B, C, side, side), in channels-last memory."""
    return tokens.mT.unflatten(2, (side, side))


class SwinUnet(nn.Module):
    """x (B, in_channels, image_size, image_size) -> images at 1, 1/2, 1/4, ... of the size.

    in_channels None: no patch embedding, x are tokens (B, (image_size / 4)^2, width).
    path_rate: of the last block of the encoder; the others rise to it from 0, and a stage of
    the decoder has the rates of its mirror image. extra_scales: how many images beyond the first.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int | None,
        out_channels: int,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 4, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        mlp_ratio: float = 4.0,
        path_rate: float = 0.1,
        extra_scales: int = 0,
    ):
        super().__init__()
        last, side = len(depths) - 1, image_size // 4
        widths, grids = zip(*((width * 2**i, side // 2**i) for i in range(last + 1)))

        def blocks(i):
            return [
                Block(widths[i], grids[i], heads[i], window, bool(k % 2), mlp_ratio)
                for k in range(depths[i])
            ]

        if in_channels is not None:
            self.patch_embed = PatchEmbed(in_channels, width)
        self.layers = nn.ModuleList(
            Stage(blocks(i), downsample=PatchMerging(widths[i], grids[i]) if i < last else None)
            for i in range(last + 1)
        )
        self.layers_up = nn.ModuleList()
        self.concat_back_dim = nn.ModuleList([nn.Identity()])
        expand = [PatchExpand(widths[i], widths[i - 1], grids[i], 2) for i in range(1, last + 1)]
        self.layers_up.append(expand.pop())
        # The published code takes the depths of the encoder here too, whatever it is told.
        for i in reversed(range(last)):
            self.layers_up.append(Stage(blocks(i), upsample=expand.pop() if expand else None))
            self.concat_back_dim.append(nn.Linear(2 * widths[i], widths[i]))
        self.norm = nn.LayerNorm(widths[last])
        self.norm_up = nn.LayerNorm(width)
        self.up = PatchExpand(width, width, grids[0], 4)
        self.output = nn.Conv2d(width, out_channels, 1, bias=False)
        if extra_scales:
            self.heads = nn.ModuleList(
                Head(widths[i], width, out_channels, grids[i]) for i in range(1, extra_scales + 1)
            )
        self.side = image_size
        self.skip_shapes = [(grids[i] ** 2, widths[i]) for i in range(last)]  # (L, C) each
        self.path_rates = _path_rates(depths, path_rate)

    def forward(self, x: torch.Tensor, drops: Drops = Drops()) -> list[torch.Tensor]:
        if hasattr(self, "patch_embed"):
            x = self.patch_embed(x)
        stages = [*self.layers, *self.layers_up[1:]]
        paths = [None] * len(stages)
        if drops.paths is not None:
            paths = drops.paths.split([stage.rows for stage in stages])

        skips = []
        for stage, own in zip(self.layers, paths):
            skips.append(x)
            x = stage(x, own)[1]
        x = self.layers_up[0](self.norm(x))

        skips = skips[:-1]  # the bottleneck's input is no skip
        if drops.skips is not None:
            skips = [skip * keep for skip, keep in zip(skips, drops.skips)]
        features = []  # before each stage's upsampling, finest first
        for stage, join, own in zip(
            self.layers_up[1:], self.concat_back_dim[1:], paths[len(self.layers) :]
        ):
            before, x = stage(join(torch.cat([x, skips.pop()], dim=-1)), own)
            features.insert(0, before)
        images = [self.output(as_map(self.up(self.norm_up(x)), self.side))]
        if hasattr(self, "heads"):
            images += [head(f) for head, f in zip(self.heads, features[1:])]
        return images


def _path_rates(depths: Sequence[int], rate: float) -> torch.Tensor:
    """Stochastic depth of both branches of every block, encoder then decoder (2 blocks,)."""
    rates = np.split(np.linspace(0, rate, sum(depths)), np.cumsum(depths)[:-1])
    rates = np.concatenate(rates + rates[-2::-1])
    return torch.from_numpy(rates.repeat(2).astype(np.float32))


@torch.no_grad()
def init_weights(net: nn.Module, generator: torch.Generator, std: float = 0.02) -> None:
    """The published initialisation of a Swin-Unet, in place.

    Linear weights N(0, std) and bias tables N(0, 0.02) (the published cut at +-2 cuts nothing
    off); convolutions as PyTorch does, U(-a, a) with a = fan_in^-1/2. The rest is right by
    construction. Networks much narrower than the published ones learn faster with a larger std.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.weight.normal_(0, std, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, WindowAttention):
            module.relative_position_bias_table.normal_(0, 0.02, generator=generator)
        elif isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def start_flat(net: SwinUnet, level: float, gain: float = 0.01) -> None:
    """Let a fresh network put out images that are `level` everywhere, in place.

    Published networks begin with noise around 0. While all layers push towards the images' mean
    level and away from that noise, what they tell of the input shrinks, which costs a short
    training most of its steps. gain: of the features below the last convolution, near 0, so that
    the first thing they learn is what belongs to the image.
    """
    finals = [
        (net.up.norm, net.output),
        *((h.norm_out, h.output) for h in getattr(net, "heads", ())),
    ]
    for norm, output in finals:
        weight = output.weight[:, :, 0, 0]  # (c_out, width)
        norm.weight.fill_(gain)
        norm.bias.copy_(weight.pinverse() @ weight.new_full((len(weight),), level))


def load_pretrained(net: SwinUnet, path: Path) -> list[str]:
    """Start from a published checkpoint, of a Swin transformer or a Swin-Unet; -> keys loaded.

    Entries of the same name and shape are taken, the encoder's also into the mirrored stages of
    a decoder that the checkpoint lacks, as the published code does; the rest stays as it is.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {k.removeprefix("swin_unet."): v for k, v in state.get("model", state).items()}
    last = len(net.layers) - 1
    for key in [k for k in state if k.startswith("layers.")]:
        _, stage, rest = key.split(".", 2)
        state.setdefault(f"layers_up.{last - int(stage)}.{rest}", state[key])
    own = {k: p for k, p in net.named_parameters() if k in state and state[k].shape == p.shape}
    if not own:
        raise ValueError(
            f"{path} has no entry that fits this Swin-Unet, "
            f"e.g. {next(iter(state), 'none at all')}; "
            "it needs a checkpoint of Swin-T or Swin-Unet with the same width and window"
        )
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(state[key])
    return sorted(own)
