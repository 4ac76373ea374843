"""Vector quantiser with a codebook that follows the data (VQ-VAE-2).

methods/dsr3d/README.md, section 2. The codebook is either a running mean of the vectors it stands
for ("ema", what the published code of DSR and 3DSR does) or learnt by the loss ("gradient", as
the papers write it).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

CHUNK = 1 << 26  # distances held at once: 256 MB in float32


class Quantised(NamedTuple):
    q: torch.Tensor  # (B, D, H, W) codes, straight-through: the gradient skips the lookup
    codes: torch.Tensor  # (B, H, W) int64
    loss: torch.Tensor  # ()


class Quantiser(nn.Module):
    """Snap every feature vector of z (B, D, H, W) to its nearest code.

    commitment: weight of the pull of z towards its code; decay, epsilon: of the running means.
    restart_below: codes with a running count below it start again from vectors of the batch. With
    0, as published, codes that nothing is near jump far away at the first step, need about
    10 / (1 - decay) steps to come back, and end at the origin if they still find nothing.
    """

    def __init__(
        self,
        codes: int,
        dim: int,
        commitment: float = 0.25,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        learning: str = "ema",
        restart_below: float = 0.0,
    ):
        super().__init__()
        self.commitment, self.decay, self.epsilon = commitment, decay, epsilon
        self.learning, self.restart_below = learning, restart_below
        ema = learning == "ema"
        self.codebook = nn.Parameter(torch.empty(codes, dim), requires_grad=not ema)  # (K, D)
        if ema:
            self.register_buffer("ema_sum", torch.empty(codes, dim))  # W_k, (K, D)
            self.register_buffer("ema_count", torch.zeros(codes))  # N_k, (K,)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """ema: codes and sums N(0, 1), independent of each other; gradient: U(-1/K, 1/K)."""
        if self.learning == "ema":
            self.codebook.normal_(generator=generator)
            self.ema_sum.normal_(generator=generator)
            self.ema_count.zero_()
        else:
            reach = 1 / len(self.codebook)
            self.codebook.uniform_(-reach, reach, generator=generator)

    def forward(self, z: torch.Tensor) -> Quantised:
        with whole_precision(z.device.type):
            z = z.float()
            B, D, H, W = z.shape
            rows = z.permute(0, 2, 3, 1).reshape(-1, D)  # (N, D), N = B*H*W
            codes = nearest_codes(rows.detach(), self.codebook.detach())  # (N,)
            q = self.codebook[codes].view(B, H, W, D).permute(0, 3, 1, 2)
            loss = self.commitment * F.mse_loss(z, q.detach())
            if self.learning == "gradient":
                loss = loss + F.mse_loss(q, z.detach())
            elif self.training:
                self._follow(rows.detach(), codes)
            return Quantised(z + (q - z).detach(), codes.view(B, H, W), loss)

    @torch.no_grad()
    def _follow(self, rows: torch.Tensor, codes: torch.Tensor) -> None:
        """Move every code towards the mean of the rows it was taken for."""
        K, keep = len(self.codebook), self.decay
        # Whole numbers, exact in any order; bincount would wait for the largest code.
        counts = rows.new_zeros(K).index_add_(0, codes, rows.new_ones(len(codes)))  # (K,)
        sums = torch.zeros_like(self.ema_sum).index_add_(0, codes, rows)  # (K, D)
        count = keep * self.ema_count + (1 - keep) * counts
        total = count.sum()
        self.ema_count.copy_((count + self.epsilon) / (total + K * self.epsilon) * total)
        self.ema_sum.mul_(keep).add_(sums, alpha=1 - keep)
        self.codebook.copy_(self.ema_sum / self.ema_count[:, None])
        if self.restart_below > 0:
            self._restart(rows)

    def _restart(self, rows: torch.Tensor) -> None:
        """Put hardly used codes on rows (N, D), evenly spread over them, as if seen once."""
        dead = (self.ema_count < self.restart_below)[:, None]  # (K, 1)
        K = len(self.codebook)
        seeds = rows[torch.arange(K, device=rows.device) * len(rows) // K]
        for state in (self.codebook, self.ema_sum):
            state.copy_(torch.where(dead, seeds, state))
        self.ema_count.copy_(torch.where(dead[:, 0], 1, self.ema_count))


def whole_precision(device: str) -> AbstractContextManager:
    """No autocast, on devices that have one."""
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else nullcontext()


def nearest_codes(rows: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Index (N,) of the code (K, D) nearest to each row (N, D), the first of equally near ones."""
    per_chunk = max(1, CHUNK // len(codebook))
    return torch.cat([distances(part, codebook).argmin(dim=1) for part in rows.split(per_chunk)])


def distances(rows: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """(N, K) squared distances but for |row|^2, which changes no comparison within a row."""
    return torch.addmm(codebook.square().sum(dim=1), rows, codebook.T, alpha=-2)
