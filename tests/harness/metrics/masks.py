"""Which mask pixels count as anomalous.

MVTec 3D-AD masks are coded by defect type (255, 254, 253, ...), and resized masks have soft
edges, so the rule changes numbers (harness/metrics/README.md, section 1). Ours is
`any_value`; the others are what published code does, for comparison with it. All take one mask
(H, W), grey values 0..255 when integer and 0..1 when float, and return bool (H, W).
"""

from __future__ import annotations

import numpy as np


def any_value(mask) -> np.ndarray:
    """Every non-zero value: ours, the MVTec tool's, and what 3DSR's AUPRO does."""
    return np.asarray(mask) > 0


def above_half(mask) -> np.ndarray:
    """value > 0.5 on the scale 0..1: BTF, M3DM, Shape-Guided."""
    return _unit(mask) > 0.5


def only_full(mask) -> np.ndarray:
    """Cut down to an integer, so that only exactly 1 counts: 3DSR's P-AUROC and P-AP."""
    return _unit(mask) >= 1.0


def _unit(mask) -> np.ndarray:
    mask = np.asarray(mask)
    return mask / 255.0 if np.issubdtype(mask.dtype, np.integer) else mask.astype(np.float64)
