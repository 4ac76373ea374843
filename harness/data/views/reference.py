"""What any scan shows of plane and object, seen coarsely: to judge what a recipe makes of it.

Independent of the recipe, so that the published ones are judged, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.data.points import digest
from harness.data.samples import Sample
from harness.data.views import support
from harness.store.frames import Frame
from methods.seeds import seed_for

SIDE_PX = 240  # longer side of the cloud that is looked at
GRID = 64  # points a side at which object and foreground are compared


@dataclass(frozen=True)
class Reference:
    """What of a scan is kept until all samples of its category are known."""

    size: tuple[int, int]  # of the scan, px
    valid: float  # share of the pixels with depth
    odd: tuple[str, ...] = ()  # what of the sample is odd (harness/data/oddities.py)
    digest: bytes = b""  # of its points
    normal: np.ndarray | None = None  # (3,) of the supporting plane; None: there is none
    inliers: float = 0.0  # share of the valid points that lie on it
    error_deg: float = 90.0  # standard error of its angle
    object: float = 0.0  # share of the image that stands on it
    on_object: np.ndarray | None = None  # (GRID, GRID) bool, at even distances over the view
    doubts: tuple[str, ...] = ("no plane can be found",)


def measure(sample: Sample, frame: Frame | None = None) -> Reference:
    """frame: what the view shows of the scan; None: all of it"""
    size = sample.valid.shape
    seen = Reference(size, float(sample.valid.mean()), sample.odd, digest(sample.xyz))
    step = -(-max(size) // SIDE_PX)
    found = support.find(
        np.ascontiguousarray(sample.xyz[::step, ::step]),
        seed_for("support", sample.category, sample.id),
    )
    if found is None:
        return seen
    return replace(
        seen,
        normal=found.plane[:3],
        inliers=found.inliers,
        error_deg=found.error_deg,
        object=found.object,
        on_object=_grid(found.region, size, step, frame or Frame.whole(size)),
        doubts=tuple(found.doubts),
    )


def _grid(region: np.ndarray, size: tuple[int, int], step: int, frame: Frame) -> np.ndarray:
    """A region (H / step, W / step) at GRID x GRID points of what the view shows."""
    places = []
    for n, start, of in zip(size, (frame.top, frame.left), (frame.height, frame.width)):
        place = start + np.arange(GRID) * of // GRID
        places.append(np.where((place >= 0) & (place < n), place // step, -1))
    rows, columns = places
    there = (rows[:, None] >= 0) & (columns >= 0)
    return region[rows[:, None], columns] & there
