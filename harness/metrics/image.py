"""The images of a category: one score and one label each."""

from __future__ import annotations

import warnings

import numpy as np

from harness.metrics.ranking import Ranking


def image_ranking(scores, labels, name: str = "", ids=None) -> Ranking:
    """The scores of both classes; every image-level metric follows from them.

    scores (n,) higher is more anomalous; labels (n,) 0 normal, 1 anomalous; `name` and `ids`
    (n,) say in messages which category and which images are meant. Warns where only one class is
    present: then the metrics are NaN.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"{name or 'category'}: scores {scores.shape} and labels {labels.shape} must be two "
            "vectors of one length"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{name or 'category'}: labels are 0 or 1, got {np.unique(labels)}")
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        image = image_name(bad[0], name, ids)
        raise ValueError(f"{image}: its score is {scores[bad[0]]}, not finite ({bad.size} such)")

    ranking = Ranking(np.sort(scores[labels == 0]), np.sort(scores[labels == 1]))
    if ranking.is_degenerate:
        warnings.warn(
            f"{name or 'category'}: {ranking.normal.size} normal and {ranking.anomalous.size} "
            "anomalous images; without both classes the image metrics are NaN",
            stacklevel=2,
        )
    return ranking


def image_name(index: int, name: str = "", ids=None) -> str:
    """How messages call an image: "image 3 (hole/003) of bagel"."""
    known_as = "" if ids is None else f" ({ids[index]})"
    return f"image {index}{known_as} of {name or 'category'}"
