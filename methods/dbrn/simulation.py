"""DBRN's anomaly simulation in three cases (methods/dbrn/README.md, section 3).

Perlin noise within the foreground says where; there, both images are left normal, erased, or
blended with a texture, in colour for RGB and in grey for depth. All random numbers of a sample
are drawn on the CPU from a generator of its own (`draw_samples`); the images are then made for
the whole batch at once on any device (`simulate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from methods.blocks.perlin import draw_perlin, perlin_noise, rotate
from methods.blocks.samples import Tensors, turn
from methods.blocks.textures import Texture
from methods.blocks.transfer import constant
from methods.dbrn.settings import Settings, Sim

GREY = (0.299, 0.587, 0.114)  # of r, g, b


@dataclass(frozen=True)
class Draws(Tensors):
    """The random numbers of B samples; pairs are for RGB and depth."""

    u: torch.Tensor  # (B, K, G + 1, G + 1) Perlin gradient angles, turns; K tries
    grid: torch.Tensor  # (B, K, 2) Perlin cells
    angle_deg: torch.Tensor  # (B, K) of the noise
    p: torch.Tensor  # (B, 2) which case, float64
    beta: torch.Tensor  # (B, 2) opacity of the old image
    same: torch.Tensor  # (B,) which modality is shown twice the same
    turn_deg: torch.Tensor  # (B,) of the clean pair
    texture: torch.Tensor  # (B, 1 or 2, S, S, 3) uint8


class Simulated(NamedTuple):
    """A training batch: the clean pair and what the networks are shown."""

    clean_rgb: torch.Tensor  # (B, 3, H, W) R
    clean_depth: torch.Tensor  # (B, 1, H, W) D
    foreground: torch.Tensor  # (B, 1, H, W) FG in {0, 1}
    rgb: torch.Tensor  # (B, 3, H, W) R_a
    depth: torch.Tensor  # (B, 1, H, W) D_a
    mask: torch.Tensor  # (B, 1, H, W) M in {0, 1}


def draw_samples(seeds: Sequence[int], settings: Settings, setting: str, texture: Texture) -> Draws:
    """Draw the numbers of one sample per seed."""
    return Draws.stacked(
        _draw_sample(np.random.default_rng(s), settings, setting, texture) for s in seeds
    )


def _draw_sample(rng, s, setting, texture):
    noise, sim = s.sim.perlin, s.sim
    exponents = (noise.min_exponent, noise.max_exponent)
    tries = [draw_perlin(rng, exponents, noise.rotation_deg) for _ in range(1 + sim.max_retries)]
    p, beta = rng.random(2), rng.uniform(0, sim.beta_max, 2)
    same = rng.random()
    turn_deg = rng.uniform(-90, 90) * (rng.random() < s.aug.rotate_prob)
    if sim.share_p:
        p[1] = p[0]
    if sim.share_beta:
        beta[1] = beta[0]
    # An absent modality counts as normal, so that the mask is that of the other alone.
    p[[part not in setting for part in ("rgb", "3d")]] = math.inf

    # Textures come last and only where they are seen: skipping them shifts no other draw.
    size, count = s.prep.size, 1 if sim.share_source else 2
    blank = np.zeros((size, size, 3), np.uint8)
    seen = [(p <= sim.e2).any()] if count == 1 else p <= sim.e2
    return (
        np.stack([t.u for t in tries]),
        np.array([t.grid for t in tries]),
        np.float32([t.angle_deg for t in tries]),
        p,
        np.float32(beta),
        np.float32(same),
        np.float32(turn_deg),
        np.stack([texture(rng) if use else blank for use in seen]),
    )


def simulate(
    rgb: torch.Tensor, depth: torch.Tensor, foreground: torch.Tensor, draws: Draws, s: Settings
) -> Simulated:
    """Make anomalies in normal samples.

    rgb (B, 3, H, W) in [0, 1], depth (B, 1, H, W) and foreground (B, 1, H, W) in {0, 1}, float
    """
    if s.aug.rotate_prob > 0:
        rgb, depth, foreground = turn(rgb, depth, foreground, draws.turn_deg, s.prep.depth_high)
    mask = anomaly_mask(foreground, draws, s.sim)  # (B, 1, H, W)
    source = draws.texture.movedim(-1, 2).to(rgb.dtype) / 255  # (B, 1 or 2, 3, H, W)
    grey = torch.einsum("bchw,c->bhw", source[:, -1], constant(GREY, rgb))[:, None]
    (p_rgb, p_depth), (beta_rgb, beta_depth) = (
        x.mT.unsqueeze(-1).unsqueeze(-1).unsqueeze(-1) for x in (draws.p, draws.beta.to(rgb.dtype))
    )
    normal = (draws.p > s.sim.e1).all(dim=1).view(-1, 1, 1, 1)
    return Simulated(
        rgb,
        depth,
        foreground,
        corrupt(rgb, source[:, 0], mask, p_rgb, beta_rgb, s.sim),
        corrupt(depth, grey, mask, p_depth, beta_depth, s.sim),
        mask * ~normal,
    )


def anomaly_mask(foreground: torch.Tensor, draws: Draws, sim: Sim) -> torch.Tensor:
    """M (B, 1, H, W): noise above the threshold, within the foreground; of the tries, the first
    that is not empty, or the last."""
    B, K = draws.u.shape[:2]
    noise = perlin_noise(draws.u.flatten(0, 1), draws.grid.flatten(0, 1), foreground.shape[-2:])
    noise = rotate(noise[:, None], draws.angle_deg.flatten()).unflatten(0, (B, K))
    masks = (noise > sim.perlin.threshold) * foreground[:, None]  # (B, K, 1, H, W)
    found = masks.flatten(2).any(dim=2)  # (B, K)
    found[:, -1] = True
    chosen = found.to(torch.uint8).argmax(dim=1)
    return masks[torch.arange(B, device=masks.device), chosen]


def corrupt(image, source, mask, p, beta, sim: Sim):
    """X_a of equation 1: normal, erased or blended by p (B, 1, 1, 1), each with its own beta."""
    erased = image * (1 - mask)
    blended = erased + beta * image * mask + (1 - beta) * source * mask
    return torch.where(p > sim.e1, image, torch.where(p > sim.e2, erased, blended))
