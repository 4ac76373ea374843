"""What each test image does to each metric: the influences that intervals are made of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from harness.metrics.by_image import Totals
from harness.metrics.registry import Metric
from harness.metrics.scored import Scored
from methods import plugins


def influences(scored: Scored, metrics: Sequence[Metric]) -> dict[str, np.ndarray]:
    """Metric -> (n,) float32 in the order of the images (intervals.py: Influence).

    Those of which it can be told: metrics of pixels need the maps and `Metric.weighted`. NaN where
    nothing is left without the image.
    """
    labels = np.asarray(scored.labels) > 0
    others = np.where(labels, labels.sum(), (~labels).sum()) - 1
    found = {}
    for of_images in (True, False):
        wanted = [m for m in metrics if m.of_images == of_images]
        if not wanted or (scored.scores if of_images else scored.maps) is None:
            continue
        parts = scored.by_image(of_images)
        whole, without = parts.all(), parts.all_but_one()
        for metric in wanted:
            if metric.weighted is None and not of_images:
                continue
            try:
                if metric.influences:
                    found[metric.name] = metric.influences(parts, labels).astype(np.float32)
                    continue
                change = _change(scored, metric, whole, without)
            except (Exception, SystemExit) as error:  # whatever a metric from outside may raise
                plugins.pass_exit(error)
                where = scored.name or "category"
                why = f"it has no interval: {plugins.told(error)}"
                warnings.warn(f"{where}: {metric.name}: {why}", stacklevel=2)
                continue
            found[metric.name] = (others * change).astype(np.float32)
    return found


def _change(scored: Scored, metric: Metric, whole: Totals, without: Totals) -> np.ndarray:
    """The value less that without each image (n,)."""
    if metric.weighted is None:
        return _one_by_one(scored, metric)
    return metric.weighted(whole) - metric.weighted(without)


def _one_by_one(scored: Scored, metric: Metric) -> np.ndarray:
    """For a formula that knows nothing of weights."""
    scores, labels = np.asarray(scored.scores), np.asarray(scored.labels)

    def value(kept: np.ndarray) -> float:
        return float(metric.formula(Scored(scores[kept], labels[kept], name=scored.name)))

    every = np.arange(len(scores))
    return value(every) - np.array([value(np.delete(every, i)) for i in every])
