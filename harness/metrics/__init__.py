"""All metrics of a category in one pass: image level, pixel level and AUPRO at every limit.

Pure functions over NumPy arrays; labels and masks come in here and nowhere else. Which metrics
there are stands in registry.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.metrics.pixel import LIMITS, THRESHOLDS, PixelScores
from harness.metrics.registry import (
    Metric,
    acquaint,
    computed,
    described,
    find,
    get,
    headlines,
    known_metrics,
    lacking,
    register,
    signatures,
    values_of,
)
from harness.metrics.scored import Scored

__all__ = [
    "LIMITS",
    "THRESHOLDS",
    "Metric",
    "PixelScores",
    "Scored",
    "acquaint",
    "computed",
    "curves_of",
    "described",
    "evaluate",
    "evaluate_with_curves",
    "find",
    "get",
    "headlines",
    "image_metrics",
    "known_metrics",
    "lacking",
    "pixel_metrics",
    "register",
    "signatures",
    "values_of",
]

CURVE_POINTS = 1000  # enough for any figure: the line moves by less than 0.002


def evaluate(
    maps, masks, scores, labels, name: str = "", ids: Sequence[str] | None = None
) -> dict[str, float]:
    """Every metric of one category: name -> value, most in [0, 1], or NaN where undefined.

    maps: (n, H, W) or n arrays (H, W), sizes may differ; higher is more anomalous
    masks: as maps; value > 0 is anomalous
    scores (n,): image scores; labels (n,): 0 normal, 1 anomalous
    name, ids (n,): the category and its images, as messages shall call them

    Missing classes give NaN and a warning; NaN or infinite scores and sizes that do not match
    raise ValueError.
    """
    return evaluate_with_curves(maps, masks, scores, labels, name, ids)[0]


def evaluate_with_curves(
    maps, masks, scores, labels, name: str = "", ids: Sequence[str] | None = None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """As evaluate, and the PRO curves from the same pass."""
    scored = Scored(scores, labels, maps, masks, name, ids)
    scored.check()
    return values_of(scored, known_metrics()), curves_of(scored)


def curves_of(scored: Scored) -> dict[str, np.ndarray]:
    """fpr_100, pro_100 (101,) of the 100-threshold form; fpr_exact, pro_exact (<= 1000,)"""
    fpr_100, pro_100 = scored.curve
    fpr_exact, pro_exact = scored.pixels.pro_curve_exact(CURVE_POINTS)
    return dict(fpr_100=fpr_100, pro_100=pro_100, fpr_exact=fpr_exact, pro_exact=pro_exact)


def image_metrics(scores, labels, name: str = "", ids=None) -> dict[str, float]:
    """Those of images alone."""
    scored = Scored(scores, labels, name=name, ids=ids)
    scored.check()
    return values_of(scored, [metric for metric in known_metrics() if metric.of_images])


def pixel_metrics(pixels: PixelScores, limits: Sequence[float] = LIMITS) -> dict[str, float]:
    """Those of pixels alone, AUPRO at these limits."""
    others = [m for m in known_metrics() if not m.of_images and not m.name.startswith("aupro_")]
    names = [f"aupro{form}_{limit:g}" for form in ("", "_exact") for limit in limits]
    return values_of(Scored.of_pixels(pixels), [*others, *map(get, names)])
