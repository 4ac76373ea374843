"""Intrinsics as RealSense, Azure Kinect, ROS and Open3D write them, to those of our layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.data.files import read_json, read_yaml
from harness.data.samples import DataError

NAMES = {  # ours -> theirs, at any depth of the file
    "fx": ("fx", "f", "focal_x"),
    "fy": ("fy", "f", "focal_y"),
    "cx": ("cx", "ppx", "principal_point_x"),
    "cy": ("cy", "ppy", "principal_point_y"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
    "depth_scale": ("depth_scale", "depth_units", "depth_unit"),
}
NEEDED = ("fx", "fy", "cx", "cy")
MATRICES = ("K", "k", "intrinsic_matrix", "camera_matrix", "data")
BENT = (
    "coeffs",
    "d",
    "distortion_coefficients",
    "dist_coeffs",
    "distortion",
    "k1",
    "k2",
    "p1",
    "p2",
)
COLOUR = ("color", "colour", "rgb")  # depth frames are aligned to the colour camera


def read_camera(path: Path) -> dict[str, float]:
    """fx, fy, cx, cy, and what else of NAMES is there. DataError if one of the four lacks."""
    found = intrinsics(parsed(path))
    if lacking := [name for name in NEEDED if name not in found]:
        raise DataError(
            f"{path} has no {', '.join(lacking)}",
            "give a camera file with --camera: fx, fy, cx, cy (or ppx, ppy; or a 3 x 3 matrix K)",
            path,
        )
    return found


def parsed(path: Path) -> dict[str, Any]:
    """What a camera's file holds. Raises DataError."""
    return (read_yaml if path.suffix.lower() in (".yaml", ".yml") else read_json)(path)


def intrinsics(given: Mapping[str, Any]) -> dict[str, float]:
    """What a file says of its colour camera, or of the only one."""
    found: dict[str, float] = {}
    for level in _levels(given):
        for name, theirs in NAMES.items():
            value = next((level[t] for t in theirs if _number(level.get(t))), None)
            if value is not None:
                found.setdefault(name, _metres(value) if name == "depth_scale" else float(value))
        for name in MATRICES:
            if (matrix := _matrix(level.get(name))) is not None:
                for own, value in zip(("fx", "fy", "cx", "cy"), matrix):
                    found.setdefault(own, value)
    return found


def _metres(scale: float) -> float:
    """A unit of depth; Open3D and TUM give how many of them make a metre, e.g. 1000."""
    return 1 / scale if scale > 1 else float(scale)


def bends(given: Mapping[str, Any]) -> bool:
    """Whether the lens has a distortion, which a pinhole's fx, fy, cx and cy leave out."""
    values = [v for level in _levels(given) for k, v in level.items() if k.lower() in BENT]
    return any(_number(v) and v for value in values for v in _flat(value))


def find_camera(paths: Iterable[Path]) -> Path | None:
    """The first of the JSON files that holds intrinsics, those for colour before others."""
    fitting = []
    for path in paths:
        try:
            if set(NEEDED) <= set(intrinsics(read_json(path))):
                fitting.append(path)
        except DataError:
            continue
    fitting.sort(key=lambda p: (not any(word in p.name.lower() for word in COLOUR), str(p)))
    return fitting[0] if fitting else None


def _levels(given: Any) -> Iterable[Mapping[str, Any]]:
    """The mapping and those in it, those of the colour camera before others."""
    if isinstance(given, list):
        for item in given:
            yield from _levels(item)
    if isinstance(given, Mapping):
        yield given
        names = sorted(given, key=lambda n: not any(w in str(n).lower() for w in COLOUR))
        for name in names:
            yield from _levels(given[name])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(value: Any) -> list:
    """What lists and mappings hold, however deep."""
    if isinstance(value, Mapping):
        value = list(value.get("data", ()))  # OpenCV's matrices have rows and cols beside it
    return [v for item in value for v in _flat(item)] if isinstance(value, list) else [value]


def _matrix(value: Any) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy of 9 numbers, by rows (ROS, OpenCV) or by columns (Open3D)."""
    if not isinstance(value, list):
        return None
    flat = _flat(value)
    if len(flat) != 9 or not all(map(_number, flat)):
        return None
    by_columns = flat[2] == 0 and flat[6] != 0
    cx, cy = (flat[6], flat[7]) if by_columns else (flat[2], flat[5])
    return float(flat[0]), float(flat[4]), float(cx), float(cy)
