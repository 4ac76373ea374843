"""DAS3D's synthesis once more, slow and plain: one sample at a time, float64, NumPy and SciPy.

What the batched version is compared with, in results (tests) and in speed (benchmark).
"""

import math

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.signal import convolve2d
from scipy.stats import multivariate_normal, norm


def perlin(u, grid, size):
    """Corner by corner, as in methods/das3d/README.md, section 7.1."""
    i, j = np.mgrid[:size, :size]
    y, x = i * grid[0] / size, j * grid[1] / size
    row, col = y.astype(int), x.astype(int)
    fy, fx = y - row, x - col

    def fade(t):
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    def corner(k, m):
        angle = 2 * math.pi * u[row + k, col + m]
        return np.cos(angle) * (fy - k) + np.sin(angle) * (fx - m)

    def lerp(a, b, t):
        return a + t * (b - a)

    left = lerp(corner(0, 0), corner(1, 0), fade(fy))
    right = lerp(corner(0, 1), corner(1, 1), fade(fy))
    return math.sqrt(2) * lerp(left, right, fade(fx))


def rotate(image, degrees):
    t, centre = math.radians(degrees), (len(image) - 1) / 2
    dr, dc = np.mgrid[: len(image), : len(image)] - centre
    row = centre + math.cos(t) * dr - math.sin(t) * dc
    col = centre + math.sin(t) * dr + math.cos(t) * dc
    return map_coordinates(image, [row, col], order=1, mode="grid-constant", cval=0.0)


def kernel(alpha, sigma):
    radius = math.ceil(3 * sigma)
    x = np.stack(np.mgrid[-radius : radius + 1, -radius : radius + 1], axis=-1)
    density = multivariate_normal(cov=sigma**2 * np.eye(2)).pdf(x)
    g = 2 * density * norm.cdf(x @ alpha)
    return g / g.sum()


def synthesise(image, depth, foreground, draws, i, settings):
    """Sample i of `draws` with the default rules -> I_a~, Z_a~, M*~, in float64.

    image (S, S, 3) and depth (S, S) in [0, 1], foreground (S, S) bool
    """
    d = {name: np.asarray(getattr(draws, name)[i], np.float64) for name in vars(draws)}
    grid = d["grid"].astype(int)
    noise = rotate(perlin(d["u"], grid, len(image)), float(d["angle_deg"]))
    t_p = settings.perlin.threshold
    region = np.where(noise > t_p, 1.0, np.where(noise < -t_p, -1.0, 0.0)) * foreground
    change = convolve2d(region, kernel(d["alpha"], float(d["sigma"])), mode="same")
    mask = d["p_z"] * np.abs(change) >= settings.t_h
    mixed = (1 - d["beta"]) * d["texture"] / 255 + d["beta"] * image
    rgb = image if d["drop_rgb"] else np.where(mask[..., None], mixed, image)
    depth = depth if d["drop_depth"] else depth + d["p_z"] * change
    return rgb, depth, mask & (not (d["drop_rgb"] and d["drop_depth"]))
