"""What a fitted method says of samples, and its scores on data for choosing settings."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import numpy as np
import torch

from harness import metrics
from harness.data.blind import Blind, blind
from harness.data.cache import open_truth
from harness.data.views import simulated
from harness.engine.allocation import ONE
from harness.engine.early import check_prediction
from harness.store import Record
from methods.contract import Method, Prediction, Progress, Samples

log = logging.getLogger(__name__)


def predict_all(
    method: Method,
    split: Blind,
    size: int,
    device: torch.device,
    report: Callable[[Progress], None],
    mask: tuple[int, ...] | None = None,
) -> Prediction:
    """Maps (N, H, W) and scores (N,) of a split, float32 on the CPU, in the order of its names.

    mask: (H, W) that maps must have, px. Each batch is checked as it comes, so a method that
    predicts something else fails at the first and not after the last. Batches are of `size`; of
    half as many from where a card has no room for them.
    """
    maps, scores = torch.empty(0), torch.empty(len(split))
    start = 0
    while start < len(split):
        rows = split.rows[start : start + size]
        try:
            found = method.predict(split.samples.batch(range(start, start + len(rows)), device))
        except torch.OutOfMemoryError as error:  # it has given back what was begun
            if len(rows) == 1:
                error.add_note(ONE)
                raise
            size = len(rows) // 2
            log.warning(
                "predictions of %d samples do not fit the card: %d at once", len(rows), size
            )
            continue
        check_prediction(method.name, found, [split.names[i] for i in rows], mask)
        if not len(maps):
            maps = torch.empty(len(split), *found.maps.shape[1:])
        maps[rows], scores[rows] = found.maps.float().cpu(), found.scores.float().cpu()
        start += len(rows)
        report(Progress("predict", start, len(split)))
    return Prediction(maps, scores)


def validate(
    method: Method, view: Record, normal: Samples, size: int, device: torch.device
) -> dict[str, float] | None:
    """Metrics over normal validation samples and those with simulated defects; None without any.

    For choosing settings: no test sample has a part in them.
    """
    if not len(normal):
        return None
    defective, truth = open_truth(view.folder, simulated.SPLIT)
    category, salt = view.spec.category, view.spec.data
    quiet = functools.partial(predict_all, method, size=size, device=device, report=lambda _: None)
    found = [quiet(blind(split, category, salt)) for split in (normal, defective)]
    maps = torch.cat([part.maps for part in found]).numpy()
    scores = torch.cat([part.scores for part in found]).numpy()
    masks = np.concatenate([np.zeros((len(normal), *truth.masks.shape[1:]), bool), truth.masks])
    labels = np.concatenate([np.zeros(len(normal), np.int64), truth.labels])
    ids = (*normal.ids, *defective.ids)
    return metrics.evaluate(maps, masks, scores, labels, f"{category} validation", ids)
