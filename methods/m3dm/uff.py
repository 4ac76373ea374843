"""Unsupervised feature fusion (paper section 3.3): the network, its loss and its schedule.

Patches are rows here. The loss compares every kept patch of a batch with every other: 50,000 x
50,000 numbers at the paper's size, so it goes block by block and recomputes in the backward pass.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from methods.blocks.mlp import Mlp
from methods.m3dm.declaration import iterations_per_epoch
from methods.m3dm.settings import Uff
from methods.seeds import seed_for

ROWS = 2048  # of a block of the loss, and of patches that go through the networks at once


class FeatureFusion(nn.Module):
    """xyz (..., P), rgb (..., C) -> their processed halves; the heads serve the training only."""

    def __init__(self, xyz: int = 1152, rgb: int = 768, ratio: int = 4, head: int = 256):
        super().__init__()
        self.xyz_norm = nn.LayerNorm(xyz)
        self.xyz_mlp = Mlp(xyz, ratio * xyz)
        self.rgb_norm = nn.LayerNorm(rgb)
        self.rgb_mlp = Mlp(rgb, ratio * rgb)
        self.rgb_head = nn.Linear(rgb, head)
        self.xyz_head = nn.Linear(xyz, head)

    def xyz(self, x: torch.Tensor) -> torch.Tensor:
        return self.xyz_mlp(self.xyz_norm(x))

    def rgb(self, x: torch.Tensor) -> torch.Tensor:
        return self.rgb_mlp(self.rgb_norm(x))

    def forward(self, xyz: torch.Tensor, rgb: torch.Tensor) -> torch.Tensor:
        """-> (..., P + C), points first"""
        return torch.cat([self.xyz(xyz), self.rgb(rgb)], dim=-1)

    def loss(self, xyz: torch.Tensor, rgb: torch.Tensor, temperature: float = 1.0):
        """Of patches (R, P) and (R, C) that belong together.

        Patches with any channel exactly 0 are left out: they have, or touch, no point.
        """
        kept = (xyz != 0).all(dim=1)
        xyz, rgb = xyz[kept], rgb[kept]
        query = _by_blocks(lambda x: self.rgb_head(self.rgb(x)), rgb)
        key = _by_blocks(lambda x: self.xyz_head(self.xyz(x)), xyz)
        return contrastive_loss(query, key, temperature)


def _by_blocks(function, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([checkpoint(function, part, use_reentrant=False) for part in x.split(ROWS)])


def contrastive_loss(query: torch.Tensor, key: torch.Tensor, temperature: float = 1.0):
    """InfoNCE of rows (R, D), query to key only, times 2 T (code)."""
    query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)

    def block(part, start):
        logits = part @ key.T / temperature  # (rows, R)
        target = torch.arange(start, start + len(part), device=part.device)
        return F.cross_entropy(logits, target, reduction="sum")

    starts = range(0, len(query), ROWS)
    parts = [checkpoint(block, query[i : i + ROWS], i, use_reentrant=False) for i in starts]
    return 2 * temperature * torch.stack(parts).sum() / len(query)


def learning_rate(epoch: float, s: Uff) -> float:
    """Linear warm-up from 0, then half a cosine to 0; `epoch` counts on fractionally."""
    if epoch < s.warmup_epochs:
        return s.lr * epoch / s.warmup_epochs
    done = (epoch - s.warmup_epochs) / (s.epochs - s.warmup_epochs)
    return s.lr * 0.5 * (1 + math.cos(math.pi * done))


def updates(samples: int, s: Uff) -> list[tuple[int, int, float]]:
    """(epoch, first iteration, learning rate) of every update; a rest of an epoch is dropped."""
    n = iterations_per_epoch(samples, s)
    return [
        (epoch, first, learning_rate(epoch + first / n, s))
        for epoch in range(s.epochs)
        for first in range(0, n - s.accumulation + 1, s.accumulation)
    ]


def sample_order(samples: int, epoch: int, s: Uff, seed: int) -> np.ndarray:
    """Samples of an epoch (iterations, batch): as many shuffled passes as it takes."""
    wanted = iterations_per_epoch(samples, s) * s.batch
    orders = [
        np.random.default_rng(seed_for("order", seed, epoch, i)).permutation(samples)
        for i in range(-(-wanted // samples))
    ]
    return np.concatenate(orders)[:wanted].reshape(-1, s.batch)
