"""Scores of maps in a protocol: at which pixels, and against which ground truth.

paper: at the pixels of the method's view, against the mask cut and resized with it
common: brought back to the sensor's pixels, against the untouched ground truth; "common@512" is
    the same, both then shrunk so that the longer side has 512 px
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from harness import metrics
from harness.data.truth import SensorTruth, read_truth
from harness.metrics import Metric, Scored
from harness.metrics.images import Images
from harness.metrics.influence import influences
from harness.store import COMMON, PAPER, Record, Store
from harness.store.frames import Frame, frame_of
from methods.errors import UserError

_COMMON_AT = re.compile(rf"{COMMON}@([1-9]\d+)")


def longest_of(protocol: str) -> int | None:
    """Longer side at which maps of a common protocol are scored, px; None: the sensor's own.

    Raises UserError for what is no common protocol.
    """
    if protocol == COMMON:
        return None
    if (match := _COMMON_AT.fullmatch(protocol)) is None:
        raise UserError(f"unknown protocol {protocol!r}; known: {PAPER}, {COMMON}, {COMMON}@PIXELS")
    return int(match[1])


def common(
    maps,
    scores: np.ndarray,
    ids: Sequence[str],
    view: Record | None,
    truth: SensorTruth,
    name: str,
    protocol: str = COMMON,
    wanted: Sequence[Metric] | None = None,
) -> dict[str, Any]:
    """Metrics and signatures of a category's maps (n, h, w) and scores (n,), by protocol.

    view: that the maps were made in; None: they are the sensor's. wanted: default all.
    """
    longest = longest_of(protocol)
    wanted = metrics.known_metrics() if wanted is None else wanted
    places = places_in(truth, ids, name)
    found, masks = at_sensor(maps, view, truth, places), masks_of(truth, places)
    if longest is not None:
        found, masks = (shrunk(images, longest) for images in (found, masks))
    scored = Scored(scores, truth.labels[places], found, masks, name, ids)
    scored.check()
    resolution = "sensor" if longest is None else f"sensor@{longest}"
    return signed(scored, wanted, resolution)


def beside(
    store: Store,
    key: str,
    maps,
    scores: np.ndarray,
    ids: Sequence[str],
    view: Record,
    name: str,
) -> dict[str, Any]:
    """What a cell's record says of the common protocol; nothing if no ground truth is named."""
    if not key:
        return {}
    truth = read_truth(store.verified(key).folder)
    return {"protocols": {COMMON: common(maps, scores, ids, view, truth, name)}, "truth": key}


def signed(scored: Scored, wanted: Sequence[Metric], resolution: Any) -> dict[str, Any]:
    """Metrics and their signatures; why others failed; what those from outside are.

    "influences" of the images on those of pixels, which no record holds (store/influences.py).
    """
    values, failures = metrics.computed(scored, wanted)
    known = [metric for metric in wanted if metric.name in values]
    found = {"metrics": values, "signatures": metrics.signatures(resolution, metrics=known)}
    of_pixels = [metric for metric in known if not metric.of_images]
    beside = {"failures": failures, "outside": metrics.described(known)}
    beside |= {"influences": influences(scored, of_pixels)}
    return found | {name: part for name, part in beside.items() if part}


def resigned(found: dict[str, Any], resolution: Any) -> dict[str, Any]:
    """The same metrics under the signatures of another resolution, where pixels are the same."""
    known = [metrics.get(name) for name in found["metrics"]]
    return found | {"signatures": metrics.signatures(resolution, metrics=known)}


def places_in(truth: SensorTruth, ids: Sequence[str], name: str) -> list[int]:
    """Where the images are in the truth. Raises ValueError unless both have the same images."""
    if lacking := sorted(set(ids) ^ set(truth.ids)):
        raise ValueError(
            f"{name}: the ground truth and the maps differ in {', '.join(lacking[:3])}"
        )
    return [truth.at[id] for id in ids]


def at_sensor(maps, view: Record | None, truth: SensorTruth, places: Sequence[int]) -> Images:
    """A view's maps (n, h, w) at the pixels of the sensor."""
    sizes = [truth.sizes[place] for place in places]
    frames = [frame_of(view, size) if view else Frame.whole(size) for size in sizes]

    def make(i: int) -> np.ndarray:
        return frames[i].back(np.asarray(maps[i], np.float32), sizes[i])

    return Images(make, sizes, np.float32)


def masks_of(truth: SensorTruth, places: Sequence[int]) -> Images:
    return Images(lambda i: truth.mask(places[i]), [truth.sizes[p] for p in places], bool)


def shrunk(images: Images, longest: int) -> Images:
    """With so many pixels on the longer side: maps bilinear, masks the nearest."""
    factors = [longest / max(size) for size in images.sizes]
    sizes = [
        (max(1, round(f * height)), max(1, round(f * width)))
        for f, (height, width) in zip(factors, images.sizes)
    ]
    how = cv2.INTER_NEAREST if images.dtype == bool else cv2.INTER_LINEAR

    def make(i: int) -> np.ndarray:
        image = np.ascontiguousarray(images[i])
        plain = image.view(np.uint8) if images.dtype == bool else image
        return cv2.resize(plain, sizes[i][::-1], interpolation=how).view(images.dtype)

    return Images(make, sizes, images.dtype)
