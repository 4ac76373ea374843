"""Training images of stage 1: RGB from anywhere, and depth that was never measured.

Depth images are Perlin noise, turned, stretched to [0, 1] and then squeezed into a random part
of that range (methods/dsr3d/README.md, section 3; paper section 3.2). All random numbers of a
sample are drawn on the CPU from a generator of its own (`draw_sample`); the images are then made
for the whole batch at once on any device (`images`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from methods.blocks.perlin import PerlinDraw, draw_perlin, perlin_noise, rotate
from methods.blocks.samples import Tensors, unit_rgb
from methods.blocks.textures import Texture
from methods.dsr3d.settings import Dada


@dataclass(frozen=True)
class Draws(Tensors):
    """The random numbers of B samples; what a setting does not need has no elements."""

    u: torch.Tensor  # (B, G + 1, G + 1) Perlin gradient angles, turns
    grid: torch.Tensor  # (B, 2) Perlin cells
    angle_deg: torch.Tensor  # (B,) of the noise
    alpha: torch.Tensor  # (B,) scale of the depth
    b: torch.Tensor  # (B,) share of the rest of the range that it is shifted by
    rgb: torch.Tensor  # (B, S, S, 3) uint8
    gray: torch.Tensor  # (B, S, S) uint8


def draw_sample(
    rng: np.random.Generator, dada: Dada, setting: str, texture: Texture | None
) -> tuple:
    """The numbers of one sample, in the order of `Draws`. texture: where images are needed."""
    noise, alpha, b = PerlinDraw(np.empty(0, np.float32), (0, 0), 0.0), 1.0, 0.0
    if "3d" in setting and dada.depth.source == "perlin":
        noise = draw_perlin(rng, (0, dada.depth.max_exponent), dada.depth.rotation_deg)
        alpha, b = rng.uniform(*dada.depth.alpha), rng.random() * dada.depth.beta
    rgb = gray = np.empty(0, np.uint8)
    if "rgb" in setting:
        rgb = texture(rng)
    if "3d" in setting and dada.depth.source == "gray":  # another image than the RGB (inferred)
        gray = cv2.cvtColor(texture(rng), cv2.COLOR_RGB2GRAY)
    numbers = (np.float32(x) for x in (noise.angle_deg, alpha, b))
    return noise.u, np.array(noise.grid), *numbers, rgb, gray


def images(draws: Draws, dada: Dada, setting: str) -> torch.Tensor:
    """(B, C, S, S) in [0, 1], channels as `stack` has them."""
    rgb = depth = None
    if "rgb" in setting:
        rgb = unit_rgb(draws.rgb)
    if "3d" in setting:
        if dada.depth.source == "gray":
            depth = draws.gray[:, None].float() / 255
        else:
            noise = perlin_noise(draws.u, draws.grid, (dada.size, dada.size))[:, None]
            depth = simulated_depth(noise, draws.angle_deg, draws.alpha, draws.b)
    return stack(rgb, depth, setting)


def simulated_depth(
    noise: torch.Tensor, angle_deg: torch.Tensor, alpha: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """D = alpha P + b (1 - alpha) in [0, 1], P the turned noise stretched to [0, 1].

    Turning brings in zeros, and these take part in the stretching: the corners become plateaus.
    noise (B, 1, H, W); angle_deg, alpha, b (B,) -> (B, 1, H, W)
    """
    turned = rotate(noise, angle_deg)
    low, high = turned.amin(dim=(2, 3), keepdim=True), turned.amax(dim=(2, 3), keepdim=True)
    span = torch.where(high > low, high - low, 1)  # a field of cells of one pixel is all zeros
    alpha, b = alpha.view(-1, 1, 1, 1), b.view(-1, 1, 1, 1)
    return (alpha * (turned - low) / span + b * (1 - alpha)).clamp(0, 1)


def stack(rgb: torch.Tensor | None, depth: torch.Tensor | None, setting: str) -> torch.Tensor:
    """The networks' input from rgb (B, 3, H, W) and depth (B, 1, H, W), those the setting has.

    3DSR: depth, R, G, B. DSR, setting "rgb": B, G, R, as its published weights expect.
    """
    if setting == "rgb":
        return rgb.flip(1)
    return depth if setting == "3d" else torch.cat([depth, rgb], dim=1)
