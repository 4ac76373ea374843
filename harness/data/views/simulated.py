"""Defects made into normal validation samples, to choose settings by without test data.

They are made at the sensor's resolution, before any view, so that every method is judged by the
same ones; and neither with the masks nor with the seeds of what methods train on. Each sample
gets one patch on the object: another colour, another shape, or both, in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

from harness.data.samples import DataError, Ref, Sample
from harness.data.views.background import object_pixels, region
from methods.blocks.textures import texture_source
from methods.declaration import View
from methods.seeds import seed_for
from methods.views import BtfView

SPLIT = "simulated"
KINDS = ("colour", "shape", "both")
RADIUS = (0.07, 0.2)  # of the patch, in lengths of the square as large as the object
RAGGED = 0.4  # how far its outline leaves the circle, in radii
OPACITY = (0.3, 0.9)  # of the other colour
HEIGHT = (0.02, 0.06)  # of the bump or dent, in lengths of the object's largest extent
SHOWN = 0.1  # share of the height from which a pixel counts as defective
TEXTURE_PX = 256


@dataclass(frozen=True)
class Simulated:
    """A normal sample and the kind of defect that `read` makes into it."""

    base: Ref
    kind: str
    background: str  # of the view, which tells where the object is

    @property
    def id(self) -> str:
        return f"{SPLIT}/{self.kind}/{self.base.name}"

    @property
    def defect(self) -> str:
        return self.kind

    label = 1

    def read(self) -> Sample:
        sample = self.base.read()
        rng = np.random.default_rng(seed_for(SPLIT, sample.category, self.base.id))
        on_object = _object(sample, self.background)
        rgb, xyz, mask = spoil(sample, on_object, self.kind, rng)
        return replace(
            sample, id=self.id, split=SPLIT, defect=self.kind, label=1, rgb=rgb, xyz=xyz, mask=mask
        )


def simulate(refs: list[Ref], background: str) -> list[Simulated]:
    """One defective twin for each normal sample."""
    return [Simulated(ref, KINDS[i % len(KINDS)], background) for i, ref in enumerate(refs)]


def spoil(
    sample: Sample, on_object: np.ndarray, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> rgb (H, W, 3) uint8, xyz (H, W, 3) float32 and mask (H, W) with one defect of a kind.

    on_object (H, W) bool: where the defect may be
    """
    weight = patch(on_object, rng)  # (H, W), 1 at its centre
    mask = weight > SHOWN
    rgb, xyz = sample.rgb, sample.xyz
    if kind != "shape":
        opacity = rng.uniform(*OPACITY)
        side = int(np.ceil(np.sqrt(2 * mask.sum()))) + 1
        texture = cv2.resize(_textures()(rng), (side, side))
        rows, columns = np.nonzero(mask)
        other = texture[(rows - rows.min()) % side, (columns - columns.min()) % side]
        rgb = rgb.copy()
        rgb[mask] = np.round((1 - opacity) * rgb[mask] + opacity * other).astype(np.uint8)
    if kind != "colour":
        points = xyz[on_object & sample.valid]
        extent = np.ptp(np.percentile(points, [1, 99], axis=0), axis=0).max()
        height = rng.uniform(*HEIGHT) * extent * rng.choice([-1.0, 1.0])
        depth = xyz[..., 2]
        # along the ray of each pixel, so that it stays in its pixel
        scale = np.where(sample.valid & mask, 1 + height * weight / np.where(depth, depth, 1), 1)
        xyz = (xyz * scale[..., None]).astype(np.float32)
    return rgb, xyz, mask


def patch(on_object: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float: a ragged disc somewhere on the object, 1 inside, falling to 0 at its edge."""
    rows, columns = np.nonzero(on_object)
    if not len(rows):
        raise DataError("the object has no pixel, so no defect can be made on it")
    at = rng.integers(len(rows))
    radius = max(2.0, rng.uniform(*RADIUS) * np.sqrt(len(rows)))
    y, x = np.indices(on_object.shape, np.float32)
    y, x = y - rows[at], x - columns[at]
    angle, outline = np.arctan2(y, x), np.ones(on_object.shape, np.float32)
    for order in range(2, 6):
        strength, phase = rng.uniform(-RAGGED, RAGGED) / order, rng.uniform(0, 2 * np.pi)
        outline += strength * np.cos(order * angle + phase)
    distance = np.hypot(y, x) / (radius * outline)
    return np.where(on_object, np.clip(2 * (1 - distance), 0, 1), 0)


def _object(sample: Sample, background: str) -> np.ndarray:
    seed = seed_for("plane", sample.category, sample.id)
    if background == "plane":
        return object_pixels(sample, BtfView(), seed) & sample.valid
    return region(sample, View(background), seed) & sample.valid


@cache
def _textures():
    return texture_source("auto", TEXTURE_PX)
