"""The encoders of Point-MAE and Point-BERT, as M3DM taps them.

Groups of neighbours go through a small PointNet and become tokens; a ViT reads them; the outputs
of three blocks are joined (methods/m3dm/README.md, section 3.2). Names of modules give the keys
of the published checkpoints. Unlike the published code, batch statistics are those of one cloud
even where several clouds share a batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.at_once import AtOnce
from methods.blocks.mlp import Mlp

NORM_EPS = 1e-5
AT_ONCE = AtOnce(cpu=16, accelerator=1024)  # groups whose activations fit into a cache


class MiniPointNet(nn.Module):
    """Groups of one cloud -> a token each: (G, S, 3) -> (G, C)"""

    def __init__(self, channels: int):
        super().__init__()
        self.first_conv = nn.Sequential(
            nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1)
        )
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, channels, 1)
        )

    def forward(self, groups: torch.Tensor, batch_statistics: bool) -> torch.Tensor:
        at_once = AT_ONCE.on(groups.device)
        mixed = groups.new_empty(*groups.shape[:2], self.second_conv[0].out_channels)
        first = self._first_affine(groups, batch_statistics)
        means, variances = [], []
        for part, out in zip(groups.split(at_once), mixed.split(at_once)):
            self._mix(part, *first, out)
            if batch_statistics:
                means.append(out.mean(dim=(0, 1)))
                variances.append((out - means[-1]).square_().mean(dim=(0, 1)))

        _, norm, _, out = self.second_conv
        mean, variance = norm.running_mean, norm.running_var
        if batch_statistics:
            share = groups.new_tensor([len(part) / len(groups) for part in groups.split(at_once)])
            means, variances = torch.stack(means), torch.stack(variances)
            mean = share @ means
            variance = share @ (variances + (means - mean).square())
        scale, shift = _affine(norm, mean, variance)
        weight = out.weight[..., 0]
        tokens = [
            F.linear(part.mul_(scale).add_(shift).relu_(), weight).amax(dim=1)
            for part in mixed.split(at_once)
        ]
        return torch.cat(tokens) + out.bias  # (G, C)

    def _first_affine(self, groups: torch.Tensor, batch_statistics: bool):
        """The first convolution and its norm as one linear map: weight (128, 3), bias (128,)"""
        lift, norm = self.first_conv[:2]
        mean, variance = norm.running_mean, norm.running_var
        if batch_statistics:
            mean, variance = _moments_after(lift, groups.reshape(-1, 3))
        scale, shift = _affine(norm, mean, variance)
        return lift.weight[..., 0] * scale[:, None], lift.bias * scale + shift

    def _mix(self, groups, weight, bias, out: torch.Tensor) -> None:
        """Up to the second norm: (g, S, 3) -> out (g, S, 512)"""
        x = _linear(self.first_conv[3], F.linear(groups, weight, bias).relu_())
        whole = x.amax(dim=1)  # (g, 256)
        # The convolution of [whole, x] in two parts: `whole` is the same all over its group.
        mix = self.second_conv[0]
        weight = mix.weight[..., 0]
        torch.matmul(x, weight[:, 256:].T, out=out)
        out += F.linear(whole, weight[:, :256], mix.bias)[:, None]


def _linear(conv: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, conv.weight[..., 0], conv.bias)


def _affine(norm: nn.BatchNorm1d, mean: torch.Tensor, variance: torch.Tensor):
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _moments_after(conv: nn.Conv1d, points: torch.Tensor):
    """Mean and biased variance of every channel of conv(points), from those of the points."""
    points = points.double()
    mean = points.mean(dim=0)
    centred = points - mean
    covariance = centred.T @ centred / len(points)  # (3, 3)
    weight = conv.weight[..., 0].double()
    variance = ((weight @ covariance) * weight).sum(dim=1)
    return (weight @ mean + conv.bias).to(conv.weight), variance.to(conv.weight)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, N, C = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)  # (B, heads, N, C/heads)
        return self.proj(x.transpose(1, 2).reshape(B, N, C))


class Block(nn.Module):
    """Pre-norm; `keep` (B, 2) weighs the attention and the MLP branch of every cloud."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, NORM_EPS)
        self.norm2 = nn.LayerNorm(width, NORM_EPS)
        self.mlp = Mlp(width, 4 * width)
        self.attn = Attention(width, heads)

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        weights = (1, 1) if keep is None else keep.T[..., None, None]  # (2, B, 1, 1)
        x = x + weights[0] * self.attn(self.norm1(x))
        return x + weights[1] * self.mlp(self.norm2(x))


class Blocks(nn.Module):
    """The position goes into every block; returns the outputs of the tapped ones."""

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))

    def forward(self, x, position, keep, taps: tuple[int, ...]) -> list[torch.Tensor]:
        tapped = []
        for i, block in enumerate(self.blocks):
            x = block(x + position, None if keep is None else keep[:, i])
            if i in taps:
                tapped.append(x)
        return tapped


class PointTransformer(nn.Module):
    """Groups of points -> a feature each: groups (B, G, S, 3), centres (B, G, 3) -> (B, G, 3 C)

    family: "point_mae", or "point_bert" with narrower tokens, a projection and a class token.
    The three taps are the outputs of the last block of every third of the depth.
    """

    def __init__(
        self,
        family: str = "point_mae",
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        token: int = 256,
        drop_path: float = 0.1,
    ):
        super().__init__()
        self.taps = tuple(depth * third // 3 - 1 for third in (1, 2, 3))
        self.drop_path = drop_path
        bert = family == "point_bert"
        if bert:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.cls_pos = nn.Parameter(torch.zeros(1, 1, width))
            self.reduce_dim = nn.Linear(token, width)
        self.bert = bert
        self.encoder = MiniPointNet(token if bert else width)
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.blocks = Blocks(width, depth, heads)
        self.norm = nn.LayerNorm(width, NORM_EPS)
        self.apply(_init)

    def tokens(self, groups: torch.Tensor, batch_statistics: bool) -> torch.Tensor:
        """(B, G, S, 3) -> (B, G, C) before the transformer; one cloud at a time, its activations
        are large and its statistics its own."""
        return torch.stack([self.encoder(cloud, batch_statistics) for cloud in groups])

    def forward(
        self,
        groups: torch.Tensor,
        centres: torch.Tensor,
        mode: str = "batchstat",
        keep: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """keep (B, depth, 2): weights of the branches, from `drop_weights`; none: all 1."""
        x = self.tokens(groups, mode != "eval")
        position = self.pos_embed(centres)
        if self.bert:
            ones = (len(x), -1, -1)
            x = torch.cat([self.cls_token.expand(*ones), self.reduce_dim(x)], dim=1)
            position = torch.cat([self.cls_pos.expand(*ones), position], dim=1)
        tapped = self.blocks(x, position, keep, self.taps)
        return torch.cat([self.norm(t)[:, self.bert :] for t in tapped], dim=2)

    def drop_weights(self, keep: torch.Tensor) -> torch.Tensor:
        """Branches kept (B, depth, 2) bool, on the host -> their weights under stochastic depth.

        Block i of n drops a branch with probability drop_path * i / (n - 1) and scales up the
        others, so that the mean stays.
        """
        return keep / (1 - self.drop_rates()[:, None])

    def drop_rates(self) -> torch.Tensor:
        return torch.linspace(0, self.drop_path, len(self.blocks.blocks))


def _init(module: nn.Module) -> None:
    """As Point-MAE: linear and convolution weights from N(0, 0.02) cut at 2, biases 0."""
    if isinstance(module, (nn.Linear, nn.Conv1d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


ENCODERS = {"point_mae": "MAE_encoder.", "point_bert": "transformer_q."}  # prefixes of keys


def encoder_keys(state: dict[str, torch.Tensor], family: str) -> dict[str, torch.Tensor]:
    """Entries of a published pre-training checkpoint that belong to the encoder, with our keys.

    Point-MAE: "MAE_encoder.", Point-BERT: "transformer_q." without its class head; both may lie
    under "base_model" and carry "module." anywhere (methods/m3dm/README.md, section 3.4).
    """
    state = state.get("base_model", state)
    prefix = ENCODERS[family]
    mapped = {}
    for key, value in state.items():
        key = key.replace("module.", "")
        for known in (prefix, "base_model."):
            if key.startswith(known) and not key.startswith("transformer_q.cls_head"):
                mapped[key.removeprefix(known)] = value
    return mapped
