"""One sample as arrays: colour image, organised points, mask, and what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.samples import SPLITS
from methods.errors import UserError

from .defects import Defect
from .render import Camera
from .scene import Scene, generator, name_key
from .sensor import REFERENCE_PX, measure_depth, missing_points, photograph
from .spec import Spec, parts_of_combined, require_category
from .twin import Twin, draw_defects, shrink


@dataclass(frozen=True)
class Staged:
    """A sample before any sensor has seen it."""

    scene: Scene
    twin: Twin
    defects: list[Defect]
    masks: list[np.ndarray]  # (H, W) bool, one a defect
    drawn: dict  # plain values


def stage(category: str, split: str, defect: str, index: int, spec: Spec) -> Staged:
    """Draw a sample. `defect` is "good" or a kind.

    It depends on its own names, index and the seed only, never on how many others there are.
    """
    scene = _scene(category, split, defect, index, spec)
    defects, masks = [], []
    if defect != "good":
        parts = parts_of_combined(category)
        defects, masks = draw_defects(scene, defect, parts, spec.camera)
    twin = Twin(scene, defects, spec.camera)
    if spec.camera.width > REFERENCE_PX:
        masks = twin.masks()
    shape = spec.camera.height, spec.camera.width
    masks = [m if m.shape == shape else shrink(m, spec.camera) for m in masks]
    drawn = scene.drawn()
    drawn["defects"] = [{"kind": d.kind, "centre_m": list(d.centre), **d.drawn} for d in defects]
    return Staged(scene, twin, defects, masks, drawn)


def make_sample(category: str, split: str, defect: str, index: int, spec: Spec):
    """-> rgb (H, W, 3) uint8, xyz (H, W, 3) float32 metres, mask (H, W) uint8, drawn values."""
    staged = stage(category, split, defect, index, spec)
    rgb, xyz = _sense(staged.scene, staged.twin.colour, staged.twin.depth, spec.camera)
    return rgb, xyz, _class_mask(category, staged, spec), staged.drawn


def _scene(category, split, defect, index, spec) -> Scene:
    require_category(category)
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    known = ("good", *spec.kinds_of(category))
    if defect not in known:
        raise UserError(
            f"unknown defect {defect!r} of {category}; this spec has "
            f"{', '.join(known)}; other kinds: Spec(kinds=...)"
        )
    return Scene(category, split, defect, index, spec.seed, type(spec.camera))


def _sense(scene, colour, depth, camera: Camera):
    """What the two sensors deliver; their noise depends on the resolution, nothing else does."""
    rng = generator(*scene.key, name_key("sensor"), camera.height, camera.width)
    exposed = scene.exposed(colour, camera)
    rgb = photograph(exposed, rng)
    cos_view = depth.cos_view
    z = measure_depth(depth.sight, cos_view, rng)
    lost = missing_points(
        depth.sight,
        depth.raster,
        scene.pose,
        camera,
        cos_view,
        exposed,
        scene.category.salt,
        scene.salt_noise,
        rng,
    )
    xyz = (z[..., None] * depth.sight.rays).astype(np.float32)
    xyz[lost] = 0
    return rgb, xyz


def _class_mask(category, staged: Staged, spec) -> np.ndarray:
    values = {kind: value for value, kind in spec.class_ids(category).items()}
    out = np.zeros((spec.camera.height, spec.camera.width), np.uint8)
    for defect, mask in zip(staged.defects, staged.masks):
        out[mask] = 255 if spec.plain_masks else values[defect.kind]
    return out
