"""One sample in the plain view: the whole scan, smaller, and its height above a plane.

No published preprocessing: where methods/baseline starts, and methods that want to see everything.
"""

from __future__ import annotations

import numpy as np

from harness.data.resize import nearest, resize
from harness.data.samples import DataError, Sample
from harness.data.views import support
from harness.data.views.plane import border_points
from methods.views import PlainView

PASSES = 30  # of reweighting: what is left to go is below 0.01 mm on the slowest of real scans
LEAST_M = 1e-4  # least scale of the weights: what such sensors cannot tell
FEWEST = 50  # points that a plane is trusted to, as many as BTF's hypotheses have


def prepare(sample: Sample, view: PlainView, seed: int) -> dict[str, np.ndarray]:
    """The view's arrays of one sample, S = view.size, and its ground truth.

    rgb (S, S, 3) uint8; depth, height (S, S) float32, metres; valid, mask (S, S) bool. Nothing is
    drawn, but for background "support".
    """
    xyz, valid = nearest(sample.xyz, view.size), nearest(sample.valid, view.size)
    if view.background == "plane":
        points = border_points(xyz, view.border_px)
    else:
        points = xyz[valid].astype(np.float64)
    if len(points) < FEWEST:
        raise DataError(
            f"{sample.category}/{sample.id} has {len(points)} valid points where its plane is "
            f"looked for, and finding it takes {FEWEST}: was its background removed before? If so "
            "set background=none"
        )
    normal, centre = middle_plane(points)
    if view.background == "support" and (found := support.find(sample.xyz, seed)):
        normal, centre = -found.plane[:3], -found.plane[3] * found.plane[:3]
    height = np.where(valid, -(xyz.astype(np.float64) - centre) @ normal, 0)
    return {
        "rgb": resize(sample.rgb, view.size, "cv2_area"),
        "depth": np.where(valid, xyz[..., 2], np.float32(0)),
        "height": height.astype(np.float32),
        "valid": valid,
        "mask": nearest(sample.mask, view.size),
    }


def middle_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plane that most of the points (M, 3) lie about: its normal, z >= 0, and a point of it.

    Least squares, again and again with Cauchy's weights on the scale of the median distance, so
    what lies far off hardly counts, wherever it is. Nothing is drawn.
    """
    normal, centre = _weighted_plane(points, np.ones(len(points)))
    for _ in range(PASSES):
        distance = np.abs((points - centre) @ normal)
        weights = 1 / (1 + (distance / max(np.median(distance), LEAST_M)) ** 2)
        normal, centre = _weighted_plane(points, weights)
    return normal, centre


def _weighted_plane(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre = weights @ points / weights.sum()
    offset = points - centre
    _, axes = np.linalg.eigh((offset * weights[:, None]).T @ offset)
    normal = axes[:, 0]  # eigenvalues rise: the axis of least spread
    return (-normal if normal[2] < 0 else normal), centre
