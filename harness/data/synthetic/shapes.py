"""The objects of the eight categories: how high each stands above the plane, and its albedo.

Each maker draws everything random once and returns a Body whose `surface` can then be evaluated
on any grid. Lengths in metres; k is the sample's scale. V_c is value noise of cell c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .noise import Noise, smoothstep
from .render import Raster

MM = 1e-3
REACH_M = 0.095  # nothing farther from the object's centre can be in view


@dataclass(frozen=True)
class Body:
    """surface(s (S,), t (T,)) -> height (T, S), albedo (T, S, 3), zero height off the object."""

    half_s: float  # the object fits in |s| < half_s, |t| < half_t
    half_t: float
    surface: Callable
    drawn: dict = field(default_factory=dict)

    def rasterise(self, spacing: float) -> Raster:
        s, t = (
            np.arange(-np.ceil(half / spacing) - 2, np.ceil(half / spacing) + 3) * spacing
            for half in (self.half_s, self.half_t)
        )
        height, albedo = self.surface(s, t)
        albedo = np.clip(albedo, 0.01, 0.95).astype(np.float32)
        return Raster(s, t, np.maximum(height, 0).astype(np.float32), albedo)


def cookie(rng, k: float) -> Body:
    outline, waves, fine = Noise(rng, 15 * MM), Noise(rng, 15 * MM), Noise(rng, 1.2 * MM)
    mottle = Noise(rng, 6 * MM)
    chips = [
        dict(s=s, t=t, radius=rng.uniform(1.8, 4.2) * MM, height=rng.uniform(0.4, 1.6) * MM)
        for s, t in _in_disc(rng, rng.poisson(16), 0.036 * k)
    ]

    def surface(s, t):
        rho = np.hypot(s, t[:, None]) / (0.040 * k * (1 + 0.025 * outline.on_grid(s, t)))
        height = 0.0085 * k * np.sqrt(np.maximum(1 - rho**8, 0))
        height += 2 * 0.35 * MM * waves.on_grid(s, t) + 0.12 * MM * fine.on_grid(s, t)
        shade = 1 + 0.07 * mottle.on_grid(s, t) + 0.03 * fine.on_grid(s, t)
        albedo = _paint((0.72, 0.52, 0.30), shade)
        for chip in chips:
            box, r = _around(s, t, chip["s"], chip["t"], chip["radius"])
            height[box] += chip["height"] * np.maximum(1 - r * r, 0)
            _blend(albedo[box], (0.20, 0.12, 0.08), smoothstep(r, 1.0, 0.8))
        return np.where(rho < 1, height, 0), albedo

    return Body(0.046 * k, 0.046 * k, surface, {"chips": chips})


def bagel(rng, k: float) -> Body:
    stretch = rng.uniform(0.95, 1.05)
    outline, waves, fine = Noise(rng, 35 * MM), Noise(rng, 15 * MM), Noise(rng, 1.2 * MM)
    crust = Noise(rng, 24 * MM)

    def surface(s, t):
        q = 0.0145 * k
        ring = np.hypot(stretch * s, t[:, None] / stretch) * (1 + 0.03 * outline.on_grid(s, t))
        d = (ring - 0.030 * k) / q
        height = 1.5 * q * np.sqrt(np.maximum(1 - d * d, 0)) + 0.35 * MM * waves.on_grid(s, t)
        grain = fine.on_grid(s, t)
        baked = smoothstep(crust.on_grid(s, t) + 0.3 * grain, -1.5, 1.5)
        albedo = _mix((0.80, 0.58, 0.34), (0.58, 0.34, 0.16), baked)
        return np.where(np.abs(d) < 1, height, 0), albedo * (1 + 0.04 * grain)[..., None]

    return Body(0.054 * k, 0.054 * k, surface, {"stretch": stretch})


def dome(rng, k: float) -> Body:
    waves, patches, fine = Noise(rng, 15 * MM), Noise(rng, 20 * MM), Noise(rng, 1.2 * MM)
    blush = rng.uniform(0, 2 * np.pi)
    border = rng.uniform(-0.4, 0.4)
    freckles = [
        dict(s=s, t=t, radius=rng.uniform(0.5, 1.5) * MM, alpha=rng.uniform(0.10, 0.35))
        for s, t in _in_disc(rng, rng.poisson(10), 0.030 * k)
    ]

    def surface(s, t):
        x, y = s / k, t[:, None] / k
        inside = 1 - (x / 0.036) ** 2 - (y / 0.031) ** 2
        height = 0.026 * k * np.sqrt(np.maximum(inside, 0))
        height *= 1 - 0.10 * np.exp(-((x / 0.0035) ** 2))  # the crease
        height += 0.35 * MM * waves.on_grid(s, t)
        side = (x * np.cos(blush) + y * np.sin(blush)) / 0.033
        red = smoothstep(side + 0.25 * patches.on_grid(s, t), border - 0.6, border + 0.6)
        albedo = _mix((0.88, 0.62, 0.36), (0.70, 0.24, 0.20), red)
        albedo *= (1 + 0.03 * fine.on_grid(s, t))[..., None]
        for freckle in freckles:
            box, r = _around(s, t, freckle["s"], freckle["t"], freckle["radius"])
            _blend(albedo[box], (0.28, 0.15, 0.09), freckle["alpha"] * smoothstep(r, 1.0, 0.6))
        return np.where(inside > 0, height, 0), albedo

    drawn = {"blush_rad": blush, "border": border, "freckles": freckles}
    return Body(0.037 * k, 0.037 * k, surface, drawn)


def plate(rng, k: float) -> Body:
    waves, brush, stain = Noise(rng, 15 * MM), Noise(rng, 1.2 * MM), Noise(rng, 12 * MM)

    def surface(s, t):
        x, y = s / k, t[:, None] / k
        height = 0.010 * smoothstep(-_rounded_box(x, y, 0.036, 0.026, 0.004), 0, 1.2 * MM)
        for hole_x in (-0.022, 0.022):
            for hole_y in (-0.012, 0.012):
                height *= smoothstep(np.hypot(x - hole_x, y - hole_y), 4.2 * MM, 4.7 * MM)
        slot = smoothstep(-_rounded_box(x, y, 0.012, 0.0035, 0.0034), 0, 0.5 * MM)
        height = height - 3 * MM * slot * (height > 0.009)
        inside = height > 0.05 * MM
        height = k * height + 0.05 * MM * waves.on_grid(s, t)
        brushed = brush.on_grid(s / 14, t)
        albedo = _paint((0.57, 0.57, 0.58), 1 + 0.06 * brushed + 0.04 * stain.on_grid(s, t))
        return np.where(inside, height, 0), albedo

    return Body(0.037 * k, 0.027 * k, surface)


def rod(rng, k: float) -> Body:
    waves, grain, tone = Noise(rng, 15 * MM), Noise(rng, 1.6 * MM), Noise(rng, 14 * MM)

    def surface(s, t):
        x, y = s / k, t[:, None] / k
        q = 0.0105 - np.maximum(np.abs(x) - 0.060, 0)  # 2 mm chamfer at both ends
        q = np.where(np.abs(x) < 0.062, q, 0) + 0 * y
        inside = np.abs(y) < q
        height = k * (0.0105 + np.sqrt(np.maximum(q * q - y * y, 0)))
        height += 0.05 * MM * waves.on_grid(s, t)
        ring = grain.on_grid(s / 18, t) + 0.5 * tone.on_grid(s / 3, t)
        albedo = _mix((0.78, 0.60, 0.38), (0.60, 0.41, 0.22), smoothstep(ring, -1.6, 1.6))
        return np.where(inside, height, 0), albedo

    return Body(0.063 * k, 0.0115 * k, surface)


def rope(rng, k: float) -> Body:
    bend, phase = rng.normal(0, 1.2), rng.uniform(0, np.pi)
    waves, fibre, tone = Noise(rng, 15 * MM), Noise(rng, 1.0 * MM), Noise(rng, 10 * MM)

    def surface(s, t):
        q = 0.0085 * k
        y = t[:, None] - bend * s * s
        twist = np.pi * (s / (0.017 * k) + y / (2.4 * q)) + phase
        strand = np.abs(np.cos(twist))
        radius = q * (0.90 + 0.13 * strand)
        inside = np.abs(y) < radius
        height = radius * (0.6 + np.sqrt(np.maximum(1 - (y / radius) ** 2, 0)))
        height += 0.35 * MM * waves.on_grid(s, t) * smoothstep(np.abs(y), 1.03 * q, 0.7 * q)
        gap = 0.62 + 0.38 * smoothstep(strand, 0.0, 0.45)
        shade = gap * (1 + 0.06 * fibre.on_grid(s, t) + 0.05 * tone.on_grid(s, t))
        dyed = np.floor(twist / np.pi + 0.5) % 3 == 0  # one strand in three is blue
        albedo = _mix((0.74, 0.68, 0.55), (0.25, 0.35, 0.55), dyed.astype(float))
        return np.where(inside, height, 0), albedo * shade[..., None]

    half_t = 0.010 * k + abs(bend) * REACH_M**2
    return Body(REACH_M, half_t, surface, {"bend_per_m": bend, "phase_rad": phase})


def foam(rng, k: float) -> Body:
    p1, p2 = rng.uniform(0, 2 * np.pi, 2)
    waves, fine, tone = Noise(rng, 15 * MM), Noise(rng, 1.2 * MM), Noise(rng, 12 * MM)

    def surface(s, t):
        x, y = s / k, t[:, None] / k
        ramp = smoothstep(0.043 - np.maximum(np.abs(x), np.abs(y)), 0, 1.5 * MM)
        wave = 2 * np.pi / 0.0195
        height = 0.011 + 0.006 * np.cos(wave * x + p1) * np.cos(wave * y + p2)
        grain = fine.on_grid(s, t)
        height = k * height * ramp + (0.35 * waves.on_grid(s, t) + 0.15 * grain) * MM
        shade = 1 + 0.07 * grain + 0.05 * tone.on_grid(s, t)
        return np.where(ramp > 0, height, 0), _paint((0.36, 0.44, 0.54), shade)

    return Body(0.044 * k, 0.044 * k, surface, {"phases_rad": [p1, p2]})


def tread(rng, k: float) -> Body:
    waves, fine, dust = Noise(rng, 15 * MM), Noise(rng, 1.2 * MM), Noise(rng, 10 * MM)

    def surface(s, t):
        x, y = s / k, t[:, None] / k
        edge = np.minimum(0.038 - np.abs(x), 0.030 - np.abs(y))
        height = 0.45 * np.sqrt(np.maximum(0.030**2 - y * y, 0)) + 0.004
        offset = np.where(y > 0, 0.25, -0.25) * 0.0155  # the halves do not line up
        across = _groove(x + offset, 0.0155, 2.6 * MM)
        along = _groove(y, 0.011, 2.0 * MM)
        groove = np.maximum(across, along + 0 * across)
        height = k * (height - 0.0022 * groove) * smoothstep(edge, 0, 0.8 * MM)
        height = height + 0.05 * MM * waves.on_grid(s, t)
        shade = (1 - 0.45 * groove) * (1 + 0.07 * fine.on_grid(s, t) + 0.10 * dust.on_grid(s, t))
        return np.where(edge > 0, height, 0), _paint((0.17, 0.17, 0.175), shade)

    return Body(0.039 * k, 0.031 * k, surface)


MAKERS: dict[str, Callable] = {  # category -> (rng, scale) -> Body
    make.__name__: make for make in (cookie, bagel, dome, plate, rod, rope, foam, tread)
}


def _in_disc(rng, count: int, radius: float):
    """Points uniform over a disc, as plain numbers."""
    r = radius * np.sqrt(rng.uniform(size=count))
    angle = rng.uniform(0, 2 * np.pi, count)
    return zip((r * np.cos(angle)).tolist(), (r * np.sin(angle)).tolist())


def _around(s, t, centre_s, centre_t, radius):
    """The part of the grid within `radius` of a point: its index, and distance / radius."""
    columns = slice(*np.searchsorted(s, (centre_s - radius, centre_s + radius)))
    rows = slice(*np.searchsorted(t, (centre_t - radius, centre_t + radius)))
    return (rows, columns), np.hypot(s[columns] - centre_s, t[rows, None] - centre_t) / radius


def _paint(colour, shade):
    return np.asarray(colour, np.float32) * shade[..., None].astype(np.float32)


def _mix(colour, other, weight):
    weight = weight[..., None].astype(np.float32)
    return np.asarray(colour, np.float32) * (1 - weight) + np.asarray(other, np.float32) * weight


def _blend(albedo, colour, alpha) -> None:
    """Paint `colour` over `albedo` in place."""
    albedo += alpha[..., None].astype(np.float32) * (np.asarray(colour, np.float32) - albedo)


def _rounded_box(x, y, half_x, half_y, radius):
    """Signed distance to a rectangle with rounded corners, negative inside."""
    dx, dy = np.abs(x) - (half_x - radius), np.abs(y) - (half_y - radius)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0) - radius


def _groove(x, pitch: float, width: float):
    """1 in grooves of `width` that repeat with `pitch`, 0 between, sides of 0.5 mm."""
    distance = np.abs((x / pitch + 0.5) % 1 - 0.5) * pitch
    return smoothstep(distance, width / 2 + 0.25 * MM, width / 2 - 0.25 * MM)
