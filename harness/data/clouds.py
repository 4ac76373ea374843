"""Organised clouds: from files (TIFF, NPY, PLY and PCD), from depth, and in which unit they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.files import printable, reading
from harness.data.images import read_tiff
from harness.data.samples import MIN_VALID_SHARE, DataError

PLAUSIBLE_M = (0.02, 20.0)  # median depth of an inspection scene, in metres
ON_AXIS = 1e-9  # slope given to rays along the optical axis
NAN_IS_MISSING = (".ply", ".pcd")  # formats in which an organised cloud marks missing points so


def read_cloud(path: Path, nonfinite: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Organised points (H, W, 3) float32.

    nonfinite: what NaN and infinite points are, an "error" or "missing" ones; size: (H, W) of the
    image, for the lists of points of PLY and PCD
    """
    suffix = path.suffix.lower()
    read = {".npy": _npy, ".ply": _ply, ".pcd": _pcd}.get(suffix, read_tiff)
    xyz = reading(path, lambda: read(path))
    if suffix in NAN_IS_MISSING and xyz.ndim == 2 and size and len(xyz) == size[0] * size[1]:
        xyz = xyz.reshape(*size, 3)
    if xyz.ndim == 2 and xyz.shape[1] == 3 and xyz.dtype.kind == "f":
        want = f", and its image has {size[0]} x {size[1]} pixels" if size else ""
        raise DataError(
            f"{printable(path)} is {xyz.dtype} of shape {xyz.shape}: an unorganised list of "
            f"points{want}",
            "an organised cloud has the image's rows and columns: if the points are in the order "
            "of its pixels write cloud.reshape(rows, columns, 3), else project them first",
            path,
        )
    if xyz.ndim != 3 or xyz.shape[2] != 3 or xyz.dtype.kind != "f":
        raise DataError(
            f"{printable(path)} is {xyz.dtype} of shape {xyz.shape}; expected float32 (rows, "
            "columns, 3), x, y, z in metres",
            "write it so",
            path,
        )
    xyz = xyz.astype(np.float32, copy=False)
    if not np.isfinite(xyz).all():
        bad = ~np.isfinite(xyz).all(axis=2)
        if nonfinite == "error" and suffix not in NAN_IS_MISSING:
            raise DataError(
                f"{printable(path)} has {bad.sum()} points that are NaN or infinite, of {bad.size}",
                'open the dataset with nonfinite="missing" if they mark missing points: '
                "datasets.NAME.nonfinite=missing, of `relief data` --option nonfinite=missing",
                path,
            )
        xyz = xyz.copy() if not xyz.flags.writeable else xyz
        xyz[bad] = 0
    return xyz


def backproject(depth: np.ndarray, fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """Depth (H, W) in metres -> camera-frame points (H, W, 3), same dtype; zero depth stays zero.

    Pixel centres lie at integers; x points right, y down, z away from the camera. The row and
    the column through the principal point get 1e-9 of their depth instead of 0: published code
    takes points with any zero coordinate as missing.
    """
    height, width = depth.shape
    x, y = (np.arange(width) - cx) / fx, (np.arange(height) - cy) / fy
    x[x == 0] = y[y == 0] = ON_AXIS
    x, y = x.astype(depth.dtype), y.astype(depth.dtype)
    return np.stack([x * depth, y[:, None] * depth, depth], axis=2)


def check_unit(depth: np.ndarray, file: Path, setting: str, scale: float) -> None:
    """DataError if the median of `depth` (H, W), zero where missing, cannot be in metres.

    setting: where the user sets the factor to metres, e.g. "scale="; scale: its present value.
    """
    part = depth[::4, ::4]
    known = part[part != 0]
    if not known.size:
        return
    median = float(np.median(np.abs(known)))
    low, high = PLAUSIBLE_M
    if low <= median <= high or not np.isfinite(median):
        return
    values, counts = np.unique(known, return_counts=True)
    others = np.abs(known[known != values[counts.argmax()]])
    if others.size >= MIN_VALID_SHARE * part.size and low <= np.median(others) <= high:
        return  # most pixels hold a number for no depth, which is told as such
    unit, factor = next(
        (unit, factor)
        for above, unit, factor in (
            (1e5, "micrometres", 1e6),
            (100, "millimetres", 1000),
            (high, "centimetres", 100),
            (0, "metres divided by 1000", 0.001),
        )
        if median > above
    )
    raise DataError(
        f"{file} has a median depth of {median:.3g}, not between {low:g} and {high:g} m: looks "
        f"like {unit}, factor {factor:g}",
        f"set {setting}{scale / factor:g}, or write metres",
        file,
    )


def _npy(path: Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)


def _ply(path: Path) -> np.ndarray:
    from trimesh.exchange.ply import load_ply  # half a second, and few clouds are PLY

    with path.open("rb") as file:
        return np.asarray(load_ply(file)["vertices"], np.float32)


def _pcd(path: Path) -> np.ndarray:
    from pypcd4 import PointCloud

    cloud = PointCloud.from_path(path)
    xyz = np.asarray(cloud.numpy(("x", "y", "z")), np.float32)
    height = cloud.metadata.height
    return xyz.reshape(height, -1, 3) if height > 1 else xyz
