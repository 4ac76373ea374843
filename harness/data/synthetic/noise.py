"""Smooth random fields that are the same at every resolution."""

from __future__ import annotations

import numpy as np

LATTICE = 48  # points a side; a field repeats after 48 cells
OCTAVES, PERSISTENCE = 3, 0.5
_SPREAD = 57 / 70  # mean of the sum of squared Catmull-Rom weights over one cell


def smoothstep(x, a: float, b: float):
    """0 at a, 1 at b, flat at both ends; a > b falls instead of rising."""
    y = np.clip((x - a) / (b - a), 0, 1)
    return y * y * (3 - 2 * y)


class Noise:
    """Value noise V_cell: cells of `cell`, cell/2 and cell/4 metres, unit variance.

    A field is a function of metres, so evaluating it on a finer grid shows the same field in
    more detail. Grids are products of two axes, which makes the interpolation separable.
    """

    def __init__(self, rng: np.random.Generator, cell: float):
        self.cell = cell
        self.lattices = rng.standard_normal((OCTAVES, LATTICE, LATTICE), dtype=np.float32)

    def on_grid(self, s, t) -> np.ndarray:
        """Values (len(t), len(s)) float32 at the crossings of the axes s and t, in metres."""
        amplitudes = PERSISTENCE ** np.arange(OCTAVES)
        amplitudes = amplitudes / (np.sqrt(np.sum(amplitudes**2)) * _SPREAD)
        total = np.zeros((len(t), len(s)), np.float32)
        for octave, (lattice, amplitude) in enumerate(zip(self.lattices, amplitudes)):
            scale = 2**octave / self.cell
            rows = _interpolate(lattice, np.asarray(t) * scale)  # (T, 48)
            total += _interpolate(amplitude * rows.T, np.asarray(s) * scale).T
        return total

    def on_line(self, u) -> np.ndarray:
        """Values (len(u),) along the line t = 0."""
        return self.on_grid(u, np.zeros(1))[0]


def _interpolate(table, x):
    """Catmull-Rom interpolation of the rows of `table`, wrapped, at positions x in rows."""
    base = np.floor(x)
    f = (x - base).astype(np.float32)[:, None]
    base = base.astype(np.int64)
    weights = (
        f * (f * (2 - f) - 1) / 2,
        (f * f * (3 * f - 5) + 2) / 2,
        f * (f * (4 - 3 * f) + 1) / 2,
        f * f * (f - 1) / 2,
    )
    table = np.ascontiguousarray(table, dtype=np.float32)
    # Four explicit taps and no matrix product: BLAS may sum in another order on more threads.
    a, b, c, d = (w * table[(base + k - 1) % LATTICE] for k, w in enumerate(weights))
    return a + b + c + d
