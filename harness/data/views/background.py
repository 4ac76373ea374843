"""The object alone: BTF's background removal, as M3DM, Shape-Guided and DAS3D use it, and others.

harness/data/README.md, section 4. The published script works in place on files; here nothing
is written, and a sample is never changed.
"""

from __future__ import annotations

import logging

import cv2
import numpy as np

from harness.data.samples import DataError, Sample
from harness.data.views import support
from harness.data.views.clusters import dbscan, largest_cluster
from harness.data.views.plane import border_plane
from harness.store.frames import Frame, Size
from methods.declaration import View
from methods.views import BtfView

ROWS = 32  # of the image at once: their distances stay in the cache
LITTLE = 0.01  # share of the image below which the object is worth a warning

log = logging.getLogger(__name__)


def cut(sample: Sample, view: BtfView, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> rgb (H, W, 3) uint8, xyz (H, W, 3) with 0 off the object, mask (H, W), all padded."""
    rgb, xyz, mask = sample.rgb, sample.xyz, sample.mask
    if view.background != "none":
        published = view.background == "plane"
        rest = object_pixels(sample, view, seed) if published else region(sample, view, seed)
        xyz = keep(xyz, rest)
        rgb = keep(rgb, rest) if view.mask_rgb else rgb
    if view.pad:
        rgb, xyz, mask = (pad_square(a) for a in (rgb, xyz, mask))
    return rgb, xyz, mask


def region(sample: Sample, view: View, seed: int) -> np.ndarray:
    """Pixels (H, W) of the object with background "support", "mask", "removed" or "none"."""
    name = f"{sample.category}/{sample.id}"
    if view.background in ("removed", "none"):
        return sample.valid
    if view.background == "mask":
        if sample.region is None:
            raise DataError(
                f"{name} has no mask of its object, and background=mask needs one",
                "put a black and white image of its name into mask/ beside rgb/, or set "
                "background=auto",
            )
        found = sample.region
    elif view.background == "support":
        on_plane = support.find(sample.xyz, seed)
        found = on_plane.region if on_plane else np.zeros_like(sample.valid)
    else:
        raise ValueError(f"background {view.background!r} does not say where the object is")
    if not (found & sample.valid).any():
        raise DataError(
            f"no point of an object is left in {name} with background={view.background}",
            "if the scene is all object set background=none; else crop it to the table and what "
            "is on it (max_depth=METRES), or give masks in mask/ beside rgb/",
        )
    return found


def object_pixels(sample: Sample, view: BtfView, seed: int) -> np.ndarray:
    """Pixels (H, W) that neither lie near the plane nor outside the largest cluster."""
    name = f"{sample.category}/{sample.id}"
    plane = border_plane(
        sample.xyz,
        view.plane_border_px,
        view.plane_inlier_m,
        view.plane_points,
        view.plane_iterations,
        seed,
        name,
    )
    axes = cv2.split(sample.xyz)  # three of (H, W): quicker to go through than (H, W, 3)
    rest = ~near_plane(axes, plane, view.plane_distance_m)
    points = np.flatnonzero(rest & (axes[0] != 0) & (axes[1] != 0) & (axes[2] != 0))
    if not points.size:
        raise DataError(
            f"background removal leaves no point in {name}: the whole image lies on one plane "
            f"(within {view.plane_distance_m * 1000:g} mm)",
            "if the scene has no supporting plane set background=none",
        )
    if view.dbscan:
        xyz = np.stack([axis.ravel()[points] for axis in axes], axis=1)
        largest = largest_cluster(dbscan(xyz, view.dbscan_eps_m, view.dbscan_min_points))
        rest.ravel()[points[~largest]] = False
        points = points[largest]
    share = len(points) / rest.size
    if share < LITTLE:
        log.info("little_object sample=%s share=%.4f", name, share)
    return rest


def near_plane(axes, plane: np.ndarray, distance_m: float) -> np.ndarray:
    """Pixels (H, W) nearer than `distance_m` to the plane; a missing point is |d| away from it.

    axes: x, y and z, each (H, W) float32
    """
    near = np.empty(axes[0].shape, bool)
    for start in range(0, len(near), ROWS):
        x, y, z = (axis[start : start + ROWS] for axis in axes)
        far = plane[0] * x + plane[1] * y + plane[2] * z + plane[3]  # in float64
        np.less(np.abs(far), distance_m, out=near[start : start + ROWS])
    return near


def keep(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """image (H, W) or (H, W, C), zero but for `pixels` (H, W)."""
    return cv2.copyTo(image, pixels.view(np.uint8))


def frame(view: BtfView, size: Size) -> Frame:
    """What `cut` leaves of a sensor's image of that size."""
    return Frame.square(size) if view.pad else Frame.whole(size)


def pad_square(image: np.ndarray) -> np.ndarray:
    """Zeros around, centred, to a square of a multiple of 100 px."""
    size = image.shape[:2]
    around = Frame.square(size).around(size)
    if not np.any(around):
        return image
    return np.pad(image, [*around, *[(0, 0)] * (image.ndim - 2)])
