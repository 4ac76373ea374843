"""DBRN's simulation, losses and window attention once more, slow and plain, in NumPy.

What the batched versions are compared with, in results (tests) and in speed (benchmark).
"""

import numpy as np

from tests.methods import das3d_oracle


def keep(uniform, rate):
    """Inverted dropout: 0 where the draw is below the rate, else 1 / (1 - rate)."""
    return (uniform >= rate) / (1 - rate)


def simulate(image, depth, foreground, draws, i, sim):
    """Sample i of `draws` -> R_a, D_a, M, in float64 (equation 1).

    image (S, S, 3) and depth (S, S), foreground (S, S) bool
    """
    d = {name: np.asarray(getattr(draws, name)[i], np.float64) for name in vars(draws)}
    for u, grid, angle in zip(d["u"], d["grid"].astype(int), d["angle_deg"]):
        noise = das3d_oracle.rotate(das3d_oracle.perlin(u, grid, len(depth)), float(angle))
        mask = (noise > sim.perlin.threshold) & foreground
        if mask.any():
            break
    colour = d["texture"][0] / 255
    grey = d["texture"][-1] / 255 @ [0.299, 0.587, 0.114]
    shown = []
    for x, source, p, beta in (
        (image, colour, d["p"][0], d["beta"][0]),
        (depth, grey, d["p"][1], d["beta"][1]),
    ):
        made = x.astype(np.float64)
        if p <= sim.e2:
            made[mask] = beta * made[mask] + (1 - beta) * source[mask]
        elif p <= sim.e1:
            made[mask] = 0
        shown.append(made)
    return *shown, mask & bool((d["p"] <= sim.e1).any())


def squared_error(image, recon, foreground, mask, weights):
    """The squared terms of L_rec, pixel by pixel. image, recon (B, C, H, W); masks (B, 1, H, W)"""
    total = 0.0
    for b, c, row, col in np.ndindex(image.shape):
        if mask[b, 0, row, col]:
            weight = weights[2]
        elif foreground[b, 0, row, col]:
            weight = weights[1]
        else:
            weight = weights[0]
        total += weight * (image[b, c, row, col] - recon[b, c, row, col]) ** 2
    return total / image.size


def window_attention(q, k, v, table, window, shift):
    """Every token attends to the tokens of its window, one head after the other.

    q (already scaled), k, v (grid, grid, heads, d); table ((2 window - 1)^2, heads). Tokens that
    only the roll brought into one window do not see each other.
    """
    grid, _, heads, _d = q.shape
    rolled = (np.arange(grid) - shift) % grid

    def neighbours(a, b):
        """Whether positions along one axis share a window and are truly close."""
        return rolled[a] // window == rolled[b] // window and abs(a - b) < window

    out = np.zeros(q.shape)
    for r, c, h in np.ndindex(grid, grid, heads):
        seen = [
            (i, j)
            for i in range(grid)
            for j in range(grid)
            if neighbours(r, i) and neighbours(c, j)
        ]
        scores = []
        for i, j in seen:
            dr, dc = rolled[r] - rolled[i] + window - 1, rolled[c] - rolled[j] + window - 1
            scores.append(q[r, c, h] @ k[i, j, h] + table[dr * (2 * window - 1) + dc, h])
        weights = np.exp(np.array(scores) - max(scores))
        weights /= weights.sum()
        out[r, c, h] = sum(w * v[i, j, h] for w, (i, j) in zip(weights, seen))
    return out
