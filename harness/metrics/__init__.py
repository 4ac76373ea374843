"""All metrics of a category in one pass: image level, pixel level and AUPRO at every limit.

Pure functions over NumPy arrays; labels and masks come in here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.metrics.image import image_metrics
from harness.metrics.pixel import LIMITS, THRESHOLDS, PixelScores
from harness.metrics.signatures import VERSION, signatures

__all__ = [
    "HEADLINE",
    "LIMITS",
    "THRESHOLDS",
    "VERSION",
    "PixelScores",
    "evaluate",
    "evaluate_with_curves",
    "image_metrics",
    "signatures",
]

HEADLINE = ("i_auroc", "aupro_0.3", "p_auroc")  # shown first, and where there is room for few
CURVE_POINTS = 1000  # enough for any figure: the line moves by less than 0.002


def evaluate(
    maps, masks, scores, labels, name: str = "", ids: Sequence[str] | None = None
) -> dict[str, float]:
    """Every metric of one category: name -> value in [0, 1], or NaN where undefined.

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
    """As evaluate, and the PRO curves from the same pass.

    curves: fpr_100, pro_100 (101,) of the 100-threshold form; fpr_exact, pro_exact (<= 1000,)
    """
    if not len(maps) == len(scores) == len(labels):
        raise ValueError(
            f"{name or 'category'}: {len(maps)} maps, {len(scores)} scores and {len(labels)} labels"
        )
    image_level = image_metrics(scores, labels, name, ids)
    pixels = PixelScores.of(maps, masks, name, ids)
    fpr_100, pro_100 = pixels.pro_curve()
    fpr_exact, pro_exact = pixels.pro_curve_exact(CURVE_POINTS)
    curves = dict(fpr_100=fpr_100, pro_100=pro_100, fpr_exact=fpr_exact, pro_exact=pro_exact)
    return image_level | pixels.metrics(name), curves
