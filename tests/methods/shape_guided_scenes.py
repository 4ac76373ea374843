"""Made samples for the tests of Shape-Guided: wavy discs, cut out of black, some with a bump."""

import numpy as np

from methods.contract import Samples


def scenes(count, size=64, seed=0, bump=(), radius=0.2, noise_m=3e-4):
    """Samples of arrays rgb uint8 (N, S, S, 3) and xyz float32 (N, S, S, 3), metres.

    bump: indices whose surface, and not their colour, has a bump right of the middle.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    rgb, clouds = [], []
    for i in range(count):
        phase = rng.uniform(0, 2 * np.pi, 2)
        inside = np.hypot(x * rng.uniform(0.95, 1.05), y) < radius
        z = 0.4 + 0.004 * np.sin(5 * x / radius + phase[0]) * np.cos(4 * y / radius + phase[1])
        if i in bump:
            z = z - 0.02 * np.exp(-((x - radius / 3) ** 2 + y**2) / (0.15 * radius) ** 2)
        xyz = np.stack([0.08 * (x / radius + 2), 0.08 * (y / radius + 2), z], axis=-1)
        xyz += noise_m * rng.standard_normal(xyz.shape)
        colour = 130 + 50 * np.sin(20 * x + phase[0])[..., None] * rng.uniform(0.5, 1, 3)
        colour += rng.normal(0, 8, colour.shape)
        clouds.append((xyz * inside[..., None]).astype(np.float32))
        rgb.append((np.clip(colour, 0, 255) * inside[..., None]).astype(np.uint8))
    arrays = {"rgb": np.stack(rgb), "xyz": np.stack(clouds)}
    return Samples(arrays, tuple(f"{i:03d}" for i in range(count)))
