"""DAS3D's dual-modality anomaly synthesis (eq. 1 to 8 and 12 of the paper).

methods/das3d/README.md, sections 2 and 4. Perlin noise, cut at +-t_p and to the foreground, says
where material is missing or added; a skew-normal kernel turns its steps into slopes; where the
depth changed enough, the colours change too. All random numbers of a sample are drawn on the CPU
from a generator of its own (`draw_samples`); the images are then made for the whole batch at once
on any device (`synthesise`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from methods.blocks.perlin import draw_perlin, perlin_noise, rotate
from methods.blocks.samples import Tensors, turn
from methods.blocks.textures import Texture
from methods.blocks.transfer import constant
from methods.das3d.settings import Settings


@dataclass(frozen=True)
class Draws(Tensors):
    """The random numbers of B samples."""

    u: torch.Tensor  # (B, G + 1, G + 1) Perlin gradient angles, turns
    grid: torch.Tensor  # (B, 2) Perlin cells
    angle_deg: torch.Tensor  # (B,) of the noise
    alpha: torch.Tensor  # (B, 2) skewness along rows and columns, float64
    sigma: torch.Tensor  # (B,) px, float64
    p_z: torch.Tensor  # (B,)
    beta: torch.Tensor  # (B,)
    drop_rgb: torch.Tensor  # (B,) bool, d_I
    drop_depth: torch.Tensor  # (B,) bool, d_Z
    turn_deg: torch.Tensor  # (B,) of the clean pair
    texture: torch.Tensor  # (B, S, S, 3) uint8
    side: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (B,) px, of the kernels, if
    #   settings give none; on the host, as it says how large tensors become


class Synthetic(NamedTuple):
    """A training batch: the clean pair and what the networks are shown."""

    clean_rgb: torch.Tensor  # (B, 3, H, W) I
    clean_depth: torch.Tensor  # (B, 1, H, W) Z
    rgb: torch.Tensor  # (B, 3, H, W) I_a~
    depth: torch.Tensor  # (B, 1, H, W) Z_a~
    mask: torch.Tensor  # (B, 1, H, W) M*~ in {0, 1}


def draw_samples(
    seeds: Sequence[int], settings: Settings, setting: str, texture: Texture | None
) -> Draws:
    """Draw the numbers of one sample per seed. texture: None where no colours are needed."""
    draws = Draws.stacked(
        _draw_sample(np.random.default_rng(s), settings, setting, texture) for s in seeds
    )
    side = kernel_side(isotropic(draws.sigma, settings.skew.rho))
    return replace(draws, side=side.numpy())


def _draw_sample(rng, s, setting, texture):
    exponents = (s.perlin.min_exponent, s.perlin.max_exponent)
    perlin = draw_perlin(rng, exponents, s.perlin.rotation_deg)
    alpha = rng.uniform(*s.skew.alpha, 2)
    sigma, p_z, beta = rng.uniform(*s.skew.sigma), rng.uniform(*s.p_z), rng.uniform(*s.beta)
    drop_rgb, drop_depth = rng.random(2) < s.p_d
    if rng.random() < s.train.normal_prob:
        drop_rgb = drop_depth = True
    turn_deg = rng.uniform(-90, 90) * (rng.random() < s.aug.rotate_prob)
    # An absent modality counts as dropped, so that the mask is that of the other alone.
    drop_rgb, drop_depth = drop_rgb or "rgb" not in setting, drop_depth or "3d" not in setting

    # Colours come last and only where they are seen: skipping them shifts no other draw.
    size = s.prep.size
    colours = np.zeros((size, size, 3), np.uint8) if drop_rgb else texture(rng)
    numbers = (np.float32(x) for x in (p_z, beta))
    return (
        perlin.u,
        np.array(perlin.grid),
        np.float32(perlin.angle_deg),
        alpha,
        np.float64(sigma),
        *numbers,
        np.bool_(drop_rgb),
        np.bool_(drop_depth),
        np.float32(turn_deg),
        colours,
    )


def synthesise(
    rgb: torch.Tensor, depth: torch.Tensor, foreground: torch.Tensor, draws: Draws, s: Settings
) -> Synthetic:
    """Make anomalies in normal samples.

    rgb (B, 3, H, W), depth (B, 1, H, W) and foreground (B, 1, H, W) in [0, 1], float
    """
    if s.aug.rotate_prob > 0:
        rgb, depth, foreground = turn(rgb, depth, foreground, draws.turn_deg, background=1)
    noise = rotate(perlin_noise(draws.u, draws.grid, rgb.shape[-2:])[:, None], draws.angle_deg)
    region = ternary(noise, s.perlin.threshold) * foreground  # M_t (B, 1, H, W)
    p_z = draws.p_z.view(-1, 1, 1, 1)
    if s.skew.enabled:
        Sigma = isotropic(draws.sigma, s.skew.rho)
        kernels = skew_kernels(
            draws.alpha, Sigma, s.skew.h, s.skew.standardise, int(draws.side.max())
        )
        change = depth_change(region, kernels, s.skew.norm)  # dZ (B, 1, H, W)
    else:
        change = region
        if s.skew.literal_ablation:
            p_z = torch.ones_like(p_z)
    mask = refined_mask(change, p_z, s.t_h)  # M* (B, 1, H, W)
    if s.mask.intersect_foreground:
        mask = mask * foreground
    colours = draws.texture.permute(0, 3, 1, 2).to(rgb.dtype) / 255  # I_u (B, 3, H, W)
    rgb_a = paste(rgb, colours, mask, draws.beta.view(-1, 1, 1, 1))
    depth_a = depth + p_z * change
    return Synthetic(
        rgb, depth, *drop(rgb, rgb_a, depth, depth_a, mask, draws.drop_rgb, draws.drop_depth)
    )


def ternary(noise: torch.Tensor, threshold: float) -> torch.Tensor:
    """M_p: -1 below -threshold, 1 above threshold, else 0 (eq. 1)."""
    return (noise > threshold).to(noise.dtype) - (noise < -threshold).to(noise.dtype)


def isotropic(sigma: torch.Tensor, rho: float) -> torch.Tensor:
    """Sigma (B, 2, 2) = sigma^2 [[1, rho], [rho, 1]] from sigma (B,)."""
    return sigma.view(-1, 1, 1) ** 2 * constant([[1.0, rho], [rho, 1.0]], sigma)


def kernel_side(Sigma: torch.Tensor) -> torch.Tensor:
    """h (B,) = 2 ceil(3 sigma_max) + 1, px."""
    largest = Sigma.diagonal(dim1=-2, dim2=-1).amax(dim=-1)
    return 2 * (3 * largest.sqrt()).ceil().long() + 1


def skew_kernels(
    alpha: torch.Tensor,
    Sigma: torch.Tensor,
    h: int | None = None,
    standardise: bool = False,
    largest: int | None = None,
) -> torch.Tensor:
    """Skew-normal density 2 phi_2(x; 0, Sigma) Phi(alpha^T x) at whole pixels (eq. 3 and 4).

    alpha (B, 2) along rows and columns, Sigma (B, 2, 2) px^2 -> (B, K, K), x = 0 in the centre.
    Without `h` every kernel has its own 3-sigma size and zeros around it, up to the largest.
    largest: that size, where it is known.
    """
    side = kernel_side(Sigma) if h is None else torch.full_like(alpha[:, 0], h).long()
    radius = (h or largest or int(side.max())) // 2  # asking an accelerator for it is waiting
    x = torch.arange(-radius, radius + 1, device=alpha.device, dtype=alpha.dtype)
    x = torch.stack(torch.meshgrid(x, x, indexing="ij"), dim=-1)  # (K, K, 2)
    inverse, _ = torch.linalg.inv_ex(Sigma)  # inv asks whether it went well, which is waiting
    squared = torch.einsum("ijr,brc,ijc->bij", x, inverse, x)
    det = torch.linalg.det(Sigma).view(-1, 1, 1)
    phi = torch.exp(-squared / 2) / (2 * math.pi * det.sqrt())
    scale = Sigma.diagonal(dim1=-2, dim2=-1).sqrt() if standardise else torch.ones_like(alpha)
    skewed = torch.einsum("ijr,br->bij", x, alpha / scale)
    inside = x.abs().amax(dim=-1) <= (side // 2).view(-1, 1, 1)  # (B, K, K)
    return 2 * phi * torch.special.ndtr(skewed) * inside


def depth_change(region: torch.Tensor, kernels: torch.Tensor, norm: str = "sum") -> torch.Tensor:
    """dZ = norm(G) * M_t, every sample with its own kernel (eq. 5).

    region (B, 1, H, W), kernels (B, K, K) -> (B, 1, H, W)
    """
    if norm == "sum":
        kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)
    elif norm == "max":
        kernels = kernels / kernels.amax(dim=(1, 2), keepdim=True)
    change = convolve(region, kernels)
    if norm == "result":
        largest = change.abs().amax(dim=(1, 2, 3), keepdim=True)
        change = change / torch.where(largest > 0, largest, 1)
    return change


def convolve(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Every image with its own kernel, zeros outside, same size.

    By FFT: at these kernel sizes some ten times faster than conv2d with a group per sample.
    images (B, 1, H, W), kernels (B, K, K) with K odd -> (B, 1, H, W)
    """
    (H, W), K = images.shape[-2:], kernels.shape[-1]
    padded = [-(-(n + K - 1) // 32) * 32 for n in (H, W)]  # no wrap-around, and a fast length
    spectrum = torch.fft.rfft2(images[:, 0], s=padded)
    spectrum = spectrum * torch.fft.rfft2(kernels.to(images.dtype), s=padded)
    full = torch.fft.irfft2(spectrum, s=padded)  # (B, H + K - 1, ...)
    return full[:, None, K // 2 : K // 2 + H, K // 2 : K // 2 + W]


def refined_mask(change: torch.Tensor, p_z: torch.Tensor, t_h: float) -> torch.Tensor:
    """M*: 1 where the depth changes by t_h or more (eq. 7)."""
    return (p_z * change.abs() >= t_h).to(change.dtype)


def paste(rgb, texture, mask, beta):
    """I_a: within the mask, (1 - beta) texture + beta image (eq. 8)."""
    return (1 - mask) * rgb + mask * ((1 - beta) * texture + beta * rgb)


def drop(rgb, rgb_a, depth, depth_a, mask, drop_rgb, drop_depth):
    """Augmentation dropout: clean again where dropped (B,), normal where both are (eq. 12)."""
    d_rgb, d_depth = drop_rgb.view(-1, 1, 1, 1), drop_depth.view(-1, 1, 1, 1)
    return (
        torch.where(d_rgb, rgb, rgb_a),
        torch.where(d_depth, depth, depth_a),
        mask * ~(d_rgb & d_depth),
    )
