"""A defective object beside its defect-free twin: where they differ, and where they must."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from methods.errors import UserError

from . import defects as kinds
from .defects import EXCLUDES, Defect, imprinted
from .render import ON_OBJECT_M, WHOLE, Camera, look_up
from .scene import Scene
from .sensor import REFERENCE_PX, encode
from .shapes import MM

MIN_MASK_PX = 12  # at the reference resolution
MIN_PIECE_PX = 6
MAX_DRAWS = 200
VISIBLE_M, VISIBLE_COLOUR = 0.15 * MM, 6 / 255
COARSE_PX = 64  # images this small must still show every mask


class Twin:
    """Noise-free looks in one window: clean, what the depth sensor sees, what the camera sees.

    The last two differ only by defects of the kind geometry_only.
    """

    def __init__(self, scene: Scene, defects: list[Defect], camera: Camera, window=WHOLE):
        self.scene, self.camera, self.window = scene, camera, window
        raster = scene.raster(camera)
        self.imprints = [d.imprint(raster) for d in defects]
        painted = [i for d, i in zip(defects, self.imprints) if EXCLUDES.get(d.kind) != "colour"]
        self.clean = self.depth = self.colour = scene.look(raster, camera, window)
        if defects:
            self.depth = scene.look(imprinted(raster, self.imprints), camera, window)
        if len(painted) == len(defects):
            self.colour = self.depth
        elif painted:
            self.colour = scene.look(imprinted(raster, painted), camera, window)

    def exposed(self, look) -> np.ndarray:
        return self.scene.exposed(look, self.camera, self.window)

    def masks(self) -> list[np.ndarray]:
        """One bool (h, w) per defect: defective surface seen in either twin, small bits dropped."""
        return [drop_pieces(self._mask(imprint), self.camera.width) for imprint in self.imprints]

    def _mask(self, imprint):
        raster = self.clean.raster
        axes = raster.s[imprint.box[1]], raster.t[imprint.box[0]]
        mask = np.zeros(self.clean.sight.z.shape, bool)
        for sight in (self.clean.sight, self.depth.sight):
            level = look_up(imprint.level, *axes, sight.s, sight.t, outside=-1.0)
            was_there = raster.look_up(raster.height, sight.s, sight.t) > ON_OBJECT_M
            mask |= (level > 0) & was_there
        return mask


def drop_pieces(mask, width_px: int) -> np.ndarray:
    """Drop connected pieces below 6 px of the reference and below a fifth of the largest."""
    if not mask.any():
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    least = max(MIN_PIECE_PX * (width_px / REFERENCE_PX) ** 2, 0.2 * sizes[1:].max())
    keep = sizes >= least
    keep[0] = False
    return keep[labels]


def shrink(mask, camera: Camera) -> np.ndarray:
    """A mask at a smaller resolution: pixels of which at least a quarter is anomalous.

    Taking the value at pixel centres would tear cracks apart or lose them.
    """
    size = camera.width, camera.height
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.25


def scaled(camera: Camera, width: int) -> Camera:
    """The same camera at another resolution."""
    return replace(camera, width=width, height=max(1, round(camera.height * width / camera.width)))


def draw_defects(scene: Scene, kind: str, parts, camera: Camera):
    """Draw until every part is big enough and visible -> defects, masks at the reference.

    The judge always looks at the reference resolution, whatever the output's, so that a sample
    shows the same defect at every resolution.
    """
    reference = scaled(camera, REFERENCE_PX)
    raster = scene.raster(reference)
    in_view = _in_view(scene, raster, reference)
    for _ in range(MAX_DRAWS):
        defects = kinds.draw(kind, scene.rng, raster, in_view, parts)
        window = _window(scene, defects, reference)
        if window is None:
            continue
        twin = Twin(scene, defects, reference, window)
        masks = twin.masks()
        if _visible(twin, defects, masks):
            masks = [_in_full(mask, window, reference) for mask in masks]
            coarse = scaled(camera, COARSE_PX)
            if all(shrink(mask, coarse).any() for mask in masks):
                return defects, masks
    raise UserError(f"no visible {kind!r} in {MAX_DRAWS} draws for sample key {scene.key}")


def _visible(twin: Twin, defects, masks) -> bool:
    """At least half of each mask shows in depth or colour, and none where its kind forbids it."""
    if min(mask.sum() for mask in masks) < MIN_MASK_PX:
        return False
    colours = (encode(twin.exposed(look)) for look in (twin.clean, twin.colour))
    differs = {
        "depth": np.abs(twin.depth.sight.z - twin.clean.sight.z) > VISIBLE_M,
        "colour": np.abs(np.subtract(*colours)).max(axis=-1) > VISIBLE_COLOUR,
    }
    for defect, mask in zip(defects, masks):
        excluded = EXCLUDES.get(defect.kind)
        if excluded and differs[excluded][mask].any():
            return False
        allowed = [d for name, d in differs.items() if name != excluded]
        if np.logical_or.reduce(allowed)[mask].mean() < 0.5:
            return False
    return True


def _in_view(scene, raster, camera) -> np.ndarray:
    """bool (T, S): cells of the raster that lie in the image, 2 mm from its border."""
    points = scene.pose.points(raster.s[None], raster.t[:, None], raster.height)
    u, v = _project(points, camera)
    margin = 2 * MM / camera.pitch_m
    inside = (u > margin) & (u < camera.width - margin)
    return inside & (v > margin) & (v < camera.height - margin)


def _window(scene, defects, camera):
    """The pixels that may see a defect in either twin; None if there are none."""
    raster = scene.raster(camera)
    seen = []
    for defect in defects:
        imprint = defect.imprint(raster)
        rows, columns = (np.flatnonzero((imprint.level > 0).any(axis)) for axis in (1, 0))
        if not rows.size:
            return None
        s = raster.s[imprint.box[1]][columns[[0, -1]]]
        t = raster.t[imprint.box[0]][rows[[0, -1]]]
        corners = scene.pose.points(*np.meshgrid(s, t, (0, raster.peak)))
        seen.append(np.stack(_project(corners, camera)).reshape(2, -1))
    if not seen:
        return None
    u, v = np.concatenate(seen, axis=1)
    rows, columns = _span(v, camera.height), _span(u, camera.width)
    return (rows, columns) if rows and columns else None


def _project(points, camera):
    scaled = camera.f * points[..., :2] / points[..., 2:]
    return scaled[..., 0] + camera.cx, scaled[..., 1] + camera.cy


def _span(positions, size: int, margin: int = 6):
    first = int(np.clip(positions.min() - margin, 0, size))
    last = int(np.clip(positions.max() + margin, 0, size))
    return slice(first, last) if last - first > 2 else None


def _in_full(mask, window, camera):
    full = np.zeros((camera.height, camera.width), bool)
    full[window] = mask
    return full
