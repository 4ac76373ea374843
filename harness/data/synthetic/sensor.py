"""What the sensors make of the noise-free scene: 8-bit colour, noisy points, missing points."""

from __future__ import annotations

import cv2
import numpy as np

from .noise import Noise
from .render import Camera, Pose, Raster, Sight

REFERENCE_PX = 256  # image width at which the constants per pixel hold
PROJECTOR = np.array([-0.20, 0.0, 0.0])
GAMMA = 1.8
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def expose(linear, gains, width_px: int) -> np.ndarray:
    """Exposure, white balance and the blur of the optics, still without noise."""
    sigma = min(0.6 * width_px / REFERENCE_PX, 0.8)
    return cv2.GaussianBlur(linear * gains, (0, 0), sigma)


def encode(linear) -> np.ndarray:
    """Linear colour to [0, 1] as stored."""
    return np.clip(linear, 0, 1) ** (1 / GAMMA)


def photograph(exposed, rng) -> np.ndarray:
    """uint8 (H, W, 3) with read and shot noise."""
    spread = np.sqrt((1.5 / 255) ** 2 + np.maximum(exposed, 0) * (2 / 255) ** 2)
    noisy = exposed + spread * rng.standard_normal(exposed.shape)
    return np.round(255 * encode(noisy)).astype(np.uint8)


def measure_depth(sight: Sight, cos_view, rng) -> np.ndarray:
    """Noisy z (H, W): white noise plus noise that neighbours share."""
    sigma = 40e-6 * (sight.z / 0.6) ** 2 / np.sqrt(np.maximum(cos_view, 0.05))
    white = rng.standard_normal(sight.z.shape)
    shared = cv2.GaussianBlur(rng.standard_normal(sight.z.shape), (0, 0), 1.5)
    shared *= 2 * np.sqrt(np.pi) * 1.5  # the filter leaves 1 / (2 sqrt(pi) sigma) of the sd
    return sight.z + sigma * (0.75 * white + 0.66 * shared)


def missing_points(
    sight: Sight,
    raster: Raster,
    pose: Pose,
    camera: Camera,
    cos_view,
    exposed,
    salt: float,
    salt_noise: Noise,
    rng,
) -> np.ndarray:
    """bool (H, W): in the projector's shadow, or lost by one of several independent chances."""
    grazing = 1 / (1 + np.exp(-(np.degrees(np.arccos(np.clip(cos_view, 0, 1))) - 76) / 2.5))
    edge = 0.8 * (_range_3x3(sight.z) > _edge_limit(camera))
    unit = 0.6 / camera.f
    uneven = salt_noise.on_grid(
        (np.arange(camera.width) - camera.cx) * unit, (np.arange(camera.height) - camera.cy) * unit
    )
    lost = np.where(sight.on_object, 0.15 * salt + 0.002, np.maximum(salt * (1 + 0.6 * uneven), 0))
    luminance = exposed @ LUMINANCE
    dark = 0.25 * np.maximum(0.06 - luminance, 0) / 0.06
    glare = 0.7 * (luminance > 0.97)
    kept = (1 - grazing) * (1 - edge) * (1 - lost) * (1 - dark) * (1 - glare)
    return (rng.uniform(size=kept.shape) > kept) | in_shadow(sight, raster, pose)


def _edge_limit(camera: Camera) -> float:
    # 3 mm over the 3x3 pixels of the reference image is a slope of 3. Coarser pixels would reach
    # 3 mm on any curved surface, so below the reference the slope is kept instead.
    return 0.003 * max(1.0, REFERENCE_PX / camera.width)


def _range_3x3(z):
    z = z.astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    return cv2.dilate(z, kernel) - cv2.erode(z, kernel)


def in_shadow(sight: Sight, raster: Raster, pose: Pose) -> np.ndarray:
    """True where the height field rises 0.6 mm above the line of sight to the projector."""
    shadow = np.zeros(sight.z.shape, bool)
    longest = 1.8 * (raster.peak + 0.004) / 0.6
    to_s = PROJECTOR @ pose.axis_s - pose.origin[0]
    to_t = PROJECTOR @ pose.axis_t - pose.origin[1]
    to_h = pose.distance - PROJECTOR @ pose.normal
    reach_s = longest * np.abs(to_s - sight.s).max()
    reach_t = longest * np.abs(to_t - sight.t).max()
    near = (sight.s > raster.s[0] - reach_s) & (sight.s < raster.s[-1] + reach_s)
    near &= (sight.t > raster.t[0] - reach_t) & (sight.t < raster.t[-1] + reach_t)
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not rows.size:
        return shadow
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    s, t, h = sight.s[part], sight.t[part], sight.h[part]
    for step in range(1, 33):
        way = longest * (step / 32) ** 2
        ray_h = h + way * (to_h - h)
        surface = raster.look_up(raster.height, s + way * (to_s - s), t + way * (to_t - t))
        shadow[part] |= surface > ray_h + 0.0006
    return shadow
