"""What the views do to depth alike: holes filled from around them, metres brought to [0, 1]."""

from __future__ import annotations

import cv2
import numpy as np


def around(values: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the 3 x 3 window of every pixel (H, W): the sum of the values, how many are `there`.

    Beyond the border is nothing. float64 where the values are.
    """
    total, count = (
        cv2.boxFilter(a, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for a in (values, there.astype(np.float64))
    )
    return total, count


def fill_holes(z: np.ndarray, missing: np.ndarray, passes: int) -> np.ndarray:
    """AST's filling: a missing pixel takes the mean of the non-zero ones of its 3 x 3 window.

    Each pass reads the result of the one before. Row 0 and column 0 are never filled: the
    published code slices from -1 there, which is empty; kept for parity.
    """
    z = z.astype(np.float64)
    for _ in range(passes):
        total, count = around(z, z != 0)
        fill = missing & (z == 0) & (count > 0)
        fill[0] = fill[:, 0] = False
        z[fill] = total[fill] / count[fill]
    return z.astype(np.float32)


def extremes(depths: np.ndarray) -> tuple[float, float]:
    """The least and the largest depth of a split (N, H, W), a sample at a time."""
    return min(d.min() for d in depths), max(d.max() for d in depths)


def place(depth: np.ndarray, low: float, high: float) -> np.ndarray:
    """Where depths lie between low (0) and high (1), float64; 1 everywhere if these are equal."""
    low, high = float(low), float(high)
    span = high - low if high > low else 1.0
    return 1 - (high - depth.astype(np.float64)) / span
