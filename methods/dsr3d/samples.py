"""Training samples of stage 2: turned normal images, and masks of anomalies to come.

methods/dsr3d/README.md, sections 6 and 8. All random numbers of a batch are drawn on the CPU
from one generator (`draw`); images and masks are then made at once on any device. The angles
are fresh ones: the published loader replays one short sequence in every worker and epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from methods.blocks.perlin import draw_perlin, perlin_noise, rotate
from methods.blocks.samples import Tensors, unit_rgb
from methods.contract import Batch
from methods.dsr3d.networks import InstanceNorm
from methods.dsr3d.settings import Augment, Mask
from methods.dsr3d.simulation import stack

NEVER = 2.0  # a threshold that no noise reaches


@dataclass(frozen=True)
class Draws(Tensors):
    """The random numbers of B training samples."""

    index: np.ndarray  # (B,) of the training set
    turn_deg: torch.Tensor  # (B,) of the image
    u: torch.Tensor  # (B, G + 1, G + 1) Perlin gradient angles, turns
    grid: torch.Tensor  # (B, 2) Perlin cells
    angle_deg: torch.Tensor  # (B,) of the noise
    threshold: torch.Tensor  # (B,) of the noise; NEVER where the sample stays normal
    colour: torch.Tensor  # (B, 3), of DSR's third stage
    beta: torch.Tensor  # (B,) share of the old colour that stays, likewise


def draw(
    rng: np.random.Generator,
    count: int,
    batch: int,
    mask: Mask,
    augment: Augment,
    beta: tuple[float, float] = (0.0, 0.0),
) -> Draws:
    """Draw `batch` of `count` samples, with replacement, and what happens to each."""
    index = rng.integers(count, size=batch)
    turned = rng.random(batch) < augment.probability
    turn_deg = rng.uniform(*augment.rotation_deg, batch) * turned
    normal = rng.random(batch) < mask.p_normal
    threshold = np.where(normal, NEVER, rng.uniform(*mask.threshold, batch))
    colour, beta = rng.random((batch, 3)), rng.uniform(*beta, batch)
    noise = [draw_perlin(rng, (0, mask.max_exponent), mask.rotation_deg) for _ in range(batch)]
    return Draws(
        index,
        _float(turn_deg),
        torch.from_numpy(np.stack([n.u for n in noise])),
        torch.tensor([n.grid for n in noise]),
        _float([n.angle_deg for n in noise]),
        _float(threshold),
        _float(colour),
        _float(beta),
    )


def _float(values: Sequence) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, np.float32))


def images(batch: Batch, setting: str) -> torch.Tensor:
    """(B, C, S, S) in [0, 1], channels as `stack` has them."""
    return stack(unit_rgb(batch["rgb"]), batch["depth"][:, None], setting)


def make(batch: Batch, draws: Draws, mask: Mask, setting: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Turned images x (B, C, S, S) and masks (B, 1, S, S) in {0, 1}, not turned with them."""
    x = rotate(images(batch, setting), draws.turn_deg)
    where = noise_mask(draws, x.shape[-2:], mask.both_signs)
    if mask.foreground_only:
        where = where * batch["foreground"][:, None]
    return laid_out(x), where


def laid_out(x: torch.Tensor) -> torch.Tensor:
    """Images as they best lie in memory for the networks."""
    return x.contiguous(memory_format=InstanceNorm.memory_format(x.device))


def noise_mask(draws: Draws, size: tuple[int, int], both_signs: bool) -> torch.Tensor:
    """(B, 1, H, W): 1 where turned Perlin noise (or its absolute value) exceeds the threshold."""
    noise = rotate(perlin_noise(draws.u, draws.grid, size)[:, None], draws.angle_deg)
    noise = noise.abs() if both_signs else noise
    return (noise > draws.threshold.view(-1, 1, 1, 1)).to(noise.dtype)


def coloured(x: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
    """x (B, 3, H, W) with one colour a sample blended in where mask is 1."""
    colour, beta = draws.colour.to(x)[:, :, None, None], draws.beta.to(x).view(-1, 1, 1, 1)
    return torch.where(mask > 0, (1 - beta) * colour + beta * x, x)
