"""One sample in 3DSR's view: the whole colour image, and depth of the object alone.

methods/dsr3d/README.md, section 1. Everything happens at the view's size. The published code goes
on with what degenerate scans give; what came of it is told by the quality of the view.
"""

from __future__ import annotations

import logging

import cv2
import numpy as np

from harness.data.resize import nearest, resize
from harness.data.samples import Sample
from harness.data.views.background import region
from harness.data.views.depth import around
from methods.views import Dsr3dView

EPS = 1e-12

log = logging.getLogger(__name__)


def prepare(sample: Sample, view: Dsr3dView, seed: int) -> dict[str, np.ndarray]:
    """The view's arrays of one sample, S = view.size, and its ground truth.

    rgb (S, S, 3) uint8; depth (S, S) float32; foreground (S, S) bool; mask (S, S) bool
    """
    name = f"{sample.category}/{sample.id}"
    xyz = nearest(sample.xyz, view.size)
    z = xyz[..., 2].astype(np.float64)
    kept = z != 0
    if view.background == "plane":
        kept = foreground(xyz, view, name)
        if not kept.any():
            log.info("no_object sample=%s farther than %g m", name, view.plane_distance_m)
    elif view.background != "none":
        kept &= nearest(region(sample, view, seed), view.size)
    z = np.where(kept, z, 0)
    depth = normalise(z, view.depth_low, view.depth_high, name)
    for _ in range(view.hole_passes):
        depth = fill_holes(depth)
    return {
        "rgb": resize(sample.rgb, view.size, "cv2_linear"),
        "depth": depth.astype(np.float32),
        "foreground": z != 0,
        "mask": resize_mask(sample.mask, view.size, view.mask_rule),
    }


def foreground(xyz: np.ndarray, view: Dsr3dView, name: str) -> np.ndarray:
    """Pixels (H, W) off the plane of an organised cloud (H, W, 3), small gaps closed."""
    points = PLANE_POINTS[view.plane](xyz)
    if not points.any(axis=1).all():
        log.info("plane_from_missing_points sample=%s plane=%s", name, view.plane)
    off = plane_distance(xyz, points) > view.plane_distance_m
    return close_gaps(off & (xyz[..., 2] != 0), view.closing)


def corners(xyz: np.ndarray) -> np.ndarray:
    """Mean valid points (3, 3) of three 3 x 3 corners: top left, top right, bottom left."""
    blocks = [xyz[:3, :3], xyz[:3, -3:], xyz[-3:, :3]]
    return np.stack(
        [
            block.sum(axis=(0, 1), dtype=np.float64) / (np.count_nonzero(block[..., 2]) + EPS)
            for block in blocks
        ]
    )


def border_pixels(xyz: np.ndarray) -> np.ndarray:
    """Points (3, 3) of three pixels: top centre, bottom left, bottom right."""
    return np.stack([xyz[0, xyz.shape[1] // 2], xyz[-1, 0], xyz[-1, -1]]).astype(np.float64)


PLANE_POINTS = {"corners": corners, "pixels": border_pixels}


def plane_distance(xyz: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance (H, W) to the plane through three points (3, 3); 0 if they lie on a line."""
    normal = np.cross(points[2] - points[0], points[1] - points[0])
    length = np.linalg.norm(normal)
    if length == 0:
        return np.zeros(xyz.shape[:2])
    return np.abs(xyz @ normal - points[0] @ normal) / length


def close_gaps(mask: np.ndarray, times: int) -> np.ndarray:
    """`times` dilations by a 3 x 3 square, then as many erosions; beyond the border is neutral."""
    square = np.ones((3, 3), np.uint8)
    # OpenCV's default border value does not take part in either.
    grown = cv2.dilate(mask.astype(np.uint8), square, iterations=times)
    return cv2.erode(grown, square, iterations=times) > 0


def normalise(z: np.ndarray, low: float, high: float, name: str) -> np.ndarray:
    """Non-zero depths to [low, high], by the extremes of this image; a constant one to low."""
    there = z != 0
    if not there.any():
        return np.zeros_like(z)
    nearest_z, farthest_z = z[there].min(), z[there].max()
    span = farthest_z - nearest_z
    if span == 0:
        log.info("constant_depth sample=%s z=%g", name, nearest_z)
        span = 1.0
    return np.where(there, (z - nearest_z) / span * (high - low) + low, 0)


def fill_holes(depth: np.ndarray) -> np.ndarray:
    """Pixels that are 0 take the mean of the positive ones of their 3 x 3 window, if any."""
    total, count = around(depth, depth > 0)
    return np.where((depth == 0) & (count > 0), total / (count + EPS), depth)


def resize_mask(mask: np.ndarray, size: int | tuple[int, int], rule: str) -> np.ndarray:
    if rule == "nearest":
        return nearest(mask, size)
    soft = resize(mask.astype(np.uint8) * 255, size, "cv2_linear")
    return soft > 0 if rule == "any" else soft == 255
