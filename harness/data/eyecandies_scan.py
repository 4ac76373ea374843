"""A sample of Eyecandies, opened: one of its lights, depth as points, the mask.

eyecandies.py knows which files these are, and is imported without any library for arrays. Formulas:
harness/data/README.md, section 3.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.data.clouds import backproject, check_unit
from harness.data.eyecandies import LIGHTS, SIZE_PX
from harness.data.files import read_yaml, reading
from harness.data.images import read_depth, read_mask, read_rgb
from harness.data.oddities import Oddity
from harness.data.samples import DataError, Sample

if TYPE_CHECKING:
    from harness.data.eyecandies import EyecandiesRef

OF_CAMERA_FRAME = ("z_not_positive", "stand_in_depth", "crossed_axes")  # oddities
FLOOR_M = 0.02  # M3DM keeps what is higher above the conveyor than this,
REACH_M = 1.8  # nearer along it than this,
SIDE_M = 1.0  # and not farther to either side (M3DM's preprocessing code)


def load(ref: EyecandiesRef) -> Sample:
    rgb, depth = read_rgb(ref.rgb), depth_m(ref)
    scale, f = ref.options.scale, ref.options.focal_px * depth.shape[1] / SIZE_PX
    check_unit(depth * scale, ref.xyz, "datasets.NAME.eyecandies.scale=", scale)
    if ref.options.geometry == "camera":
        xyz = camera_cloud(depth, f) * np.float32(scale)
    else:
        assert ref.pose is not None, "Options.items asks for it"
        xyz = m3dm_cloud(depth, read_matrix(ref.pose), f, scale)
        # What M3DM removed keeps y and z; its loader drops a point with any zero coordinate.
        xyz = np.where((xyz != 0).all(axis=2, keepdims=True), xyz, 0).astype(np.float32)
    return ref.assemble(rgb, xyz, read_mask(ref.gt) if ref.gt else None)


def oddities(ref: EyecandiesRef, found: list[Oddity]) -> list[Oddity]:
    """Of those of any sample what applies here, and the label's."""
    if ref.options.geometry == "m3dm":  # its third axis is no depth
        found = [odd for odd in found if odd.code not in OF_CAMERA_FRAME]
    if ref.by_mask:
        found.append(
            Oddity(
                "label_from_mask",
                ref.metadata or ref.gt or ref.rgb,
                f"no `anomalous` in the metadata; by its mask the sample is {ref.defect}",
                "restore the metadata",
            )
        )
    return found


def of_other_lights(ref: EyecandiesRef, size: tuple[int, int]) -> list[Oddity]:
    """Images that are not read, and would be under another `light`. size: rows, columns"""
    found = []
    for i, light in enumerate(LIGHTS):
        path = ref.rgb.with_name(f"{ref.name}_image_{i}{ref.rgb.suffix}")
        if i == ref.options.light:
            continue
        try:
            if (other := read_rgb(path).shape[:2]) != size:
                problem = f"{other[0]} x {other[1]} px, its sample {size[0]} x {size[1]}"
                found.append(Oddity("light_of_other_size", path, problem, "restore it"))
        except DataError:
            state = "not readable" if path.exists() else "missing"
            problem = f"the image under light {i} ({light}) is {state}"
            todo = f"restore it, or never set light={i}"
            found.append(Oddity("light_missing", path, problem, todo))
    return found


def read_matrix(path: Path) -> np.ndarray:
    """(4, 4) float64 from numbers in a text file"""
    matrix = reading(path, lambda: np.loadtxt(path))
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise DataError(
            f"{path} holds {matrix.shape} numbers, some maybe not finite; expected a 4 x 4 matrix",
            "restore it",
            path,
        )
    return matrix


def depth_m(ref: EyecandiesRef) -> np.ndarray:
    """(H, W) float32, the dataset's own metres"""
    given = read_yaml(ref.info).get("normalization") or {}
    try:
        low, high = float(given["min"]), float(given["max"])
    except (TypeError, KeyError, ValueError):
        raise DataError(
            f"{ref.info} has no normalization with min and max; the depth needs both",
            "restore it",
            ref.info,
        ) from None
    if not (math.isfinite(low) and low <= high < math.inf):
        problem = f"{ref.info}: min {low}, max {high} is no range"
        raise DataError(problem, "restore it", ref.info)
    return metric_depth(read_depth(ref.xyz), low, high)


def metric_depth(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint16 (H, W) to float32 metres between the sample's own `low` and `high`."""
    return raw.astype(np.float32) / 65535 * (high - low) + low


def camera_cloud(depth: np.ndarray, f: float) -> np.ndarray:
    """Camera-frame points (H, W, 3); the principal point is (W / 2, H / 2)."""
    height, width = depth.shape
    return backproject(depth, f, f, width / 2, height / 2)


def inverse_pose_cloud(depth: np.ndarray, pose: np.ndarray, f: float) -> np.ndarray:
    """Camera-frame points moved by the inverse of pose (4, 4) -> (H, W, 3) float64.

    pose maps camera to world; the dataset's page, M3DM and 3DSR invert it, a rigid motion
    all the same.
    """
    back = np.linalg.inv(pose)
    return camera_cloud(depth.astype(np.float64), f) @ back[:3, :3].T + back[:3, 3]


def without_conveyor(points: np.ndarray) -> np.ndarray:
    """M3DM's removal of the background from points (H, W, 3) with y down.

    The middle pixels of the first and last row lie on the conveyor. The scene is turned about x
    until the line between them is the z axis; what is then not above the floor, in reach and
    between the sides becomes the line's near end turned forth and back: x is 0, y and z are not.
    """
    middle = points.shape[1] // 2
    far, near = points[0, middle], points[-1, middle]
    along = (far - near)[1:]
    sin, cos = along / np.linalg.norm(along)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    start = np.array([0, near[1], near[2]])
    turned = (points - start) @ turn.T
    x, y, z = np.moveaxis(turned, -1, 0)
    turned[(y > -FLOOR_M) | (z > REACH_M) | (np.abs(x) > SIDE_M)] = -start
    return turned @ turn + start


def m3dm_cloud(depth: np.ndarray, pose: np.ndarray, f: float, scale: float) -> np.ndarray:
    """M3DM's cloud (H, W, 3) float64, as its converter saves it."""
    points = without_conveyor(inverse_pose_cloud(depth, pose, f))
    return points[..., [0, 2, 1]] * (scale, -scale, scale)
