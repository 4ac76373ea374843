"""Anomalies in the space of codes (methods/dsr3d/README.md, section 5).

Where the mask says so, a code vector gives way to another: one that is neither among the nearest
to the features nor among the farthest, or, for a whole call at random, one of the same image
from another place. All random numbers come from one NumPy generator (`draw`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from methods.blocks.quantiser import distances
from methods.blocks.samples import Tensors
from methods.dsr3d.settings import Anomaly

CHUNK = 1 << 24  # distances sorted at once: 64 MB in float32, as much for the order


@dataclass(frozen=True)
class Call(Tensors):
    """The random numbers of one call of `generate`, features (B, D, h, w)."""

    u: torch.Tensor  # (B, h, w) in [0, 1): which of the candidates
    shuffle: bool  # patches change places instead
    side: int  # of a patch, feature vectors
    order: torch.Tensor  # (B, patches) int64: new patch i was patch order[i]


@dataclass(frozen=True)
class Draws(Tensors):
    """The random numbers of a training step's anomalies."""

    strength_lo: torch.Tensor  # (B,) float64
    strength_hi: torch.Tensor  # (B,) float64
    both: torch.Tensor  # (B,) bool: both levels are anomalous
    lo: torch.Tensor  # (B,) bool: where not both, the low level is, else the high
    low: Call
    high_on_anomalous: Call  # high features that saw the anomalous low ones
    high_on_clean: Call


def draw(rng: np.random.Generator, batch: int, size: tuple[int, int], s: Anomaly) -> Draws:
    """size: (h, w) of the low level; the high one's is twice that."""
    strength_lo, strength_hi = torch.from_numpy(rng.uniform(*s.strength, (2, batch)))
    both = torch.from_numpy(rng.random(batch) < s.p_both)
    lo = torch.from_numpy(rng.random(batch) < s.p_lo)
    sizes = size, (2 * size[0], 2 * size[1]), (2 * size[0], 2 * size[1])
    return Draws(strength_lo, strength_hi, both, lo, *(_call(rng, batch, hw, s) for hw in sizes))


def _call(rng, batch, size, s) -> Call:
    h, w = size
    # Only sides that divide both: the published sizes divide by all of them.
    exponents = [e for e in range(s.shuffle_max_exponent + 1) if h % 2**e == w % 2**e == 0]
    side = 2 ** exponents[rng.integers(len(exponents))]
    shuffle = bool(rng.random() < s.shuffle_probability)
    u = rng.random((batch, h, w), np.float32)
    places = np.broadcast_to(np.arange(h * w // side**2), (batch, h * w // side**2))
    order = rng.permuted(places, axis=1)
    return Call(torch.from_numpy(u), shuffle, side, torch.from_numpy(order))


class Place(NamedTuple):
    """Where a call changes features."""

    inside: torch.Tensor  # (B, 1, h, w) bool
    at: tuple[torch.Tensor, ...]  # sample, row and column (P,) of each position inside


def places(*masks: torch.Tensor) -> list[Place]:
    """Where masks (B, 1, h, w) are 1, each of a size of its own.

    How many positions there are is asked of the device once for all masks: asking is waiting.
    """
    inside = [mask > 0 for mask in masks]
    counts = torch.stack([one.sum() for one in inside]).tolist()
    return [
        Place(one, one[:, 0].nonzero_static(size=count).unbind(1))
        for one, count in zip(inside, counts)
    ]


def generate(
    z: torch.Tensor,
    q: torch.Tensor,
    codebook: torch.Tensor,
    place: Place,
    strength: torch.Tensor,
    call: Call,
    s: Anomaly,
) -> torch.Tensor:
    """q with anomalies in a place.

    z and q (B, D, h, w) before and after quantising, codebook (K, D), strength (B,)
    """
    if call.shuffle:
        return torch.where(place.inside, shuffled(q, call.order, call.side), q)
    # The same choice at all positions has the same distribution; ranking all is most of the cost.
    at = place.at
    codes = choose_codes(z.permute(0, 2, 3, 1)[at], codebook, strength[at[0]], call.u[at], s)
    changed = q.permute(0, 2, 3, 1).clone()
    changed[at] = codebook[codes]
    return changed.permute(0, 3, 1, 2)


def choose_codes(
    rows: torch.Tensor, codebook: torch.Tensor, strength: torch.Tensor, u: torch.Tensor, s: Anomaly
) -> torch.Tensor:
    """One of the candidates of each row (P, D), by its strength and u (P,) -> codes (P,)."""
    K = len(codebook)
    if s.replacement == "random":
        return (u * K).long()
    dropped, count = candidates(strength, K, s.drop_nearest)
    rank = dropped + (u.double() * count).long()  # (P,)
    codes = torch.empty_like(rank)
    for part in torch.arange(len(rows), device=rows.device).split(max(1, CHUNK // K)):
        order = distances(rows[part], codebook).argsort(dim=1)  # (p, K), nearest first
        codes[part] = order.gather(1, rank[part, None])[:, 0]
    return codes


def candidates(strength: torch.Tensor, K: int, drop_nearest: float) -> tuple[int, torch.Tensor]:
    """How many of the nearest codes are left out, and how many of the next are candidates (P,)."""
    dropped = int(drop_nearest * K)
    near = ((strength * K).floor().long() + 1).clamp(1, K - 1)
    return dropped, (near - dropped).clamp(min=1)


def shuffled(q: torch.Tensor, order: torch.Tensor, side: int) -> torch.Tensor:
    """Patches of each map (B, D, h, w) in a new order (B, patches), numbered row by row."""
    B, D, h, w = q.shape
    patches = q.reshape(B, D, h // side, side, w // side, side).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(B, -1, D, side, side)
    moved = patches[torch.arange(B, device=q.device)[:, None], order]
    moved = moved.reshape(B, h // side, w // side, D, side, side).permute(0, 3, 1, 4, 2, 5)
    return moved.reshape(B, D, h, w)


def shrink(mask: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """mask (B, 1, H, W) at the features' resolution: 1 where any of its pixels is."""
    return F.max_pool2d(mask, mask.shape[-1] // size[-1])
