"""Files to arrays. Whatever cannot be read is a DataError that names the file."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
import yaml
from PIL import Image

from harness.data.samples import DataError

NONFINITE = ("error", "missing")

# What the readers raise for damaged files: a wrong length may ask for terabytes (MemoryError).
_READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    SyntaxError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
    yaml.YAMLError,
)
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, several times faster


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8"""
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA", "L", "P"):
                raise DataError(
                    f"{path} has mode {image.mode}; expected an 8-bit RGB image",
                    "write it as 8-bit RGB PNG",
                    path,
                )
            return np.array(image.convert("RGB"))
    except _READ_ERRORS as error:
        raise unreadable(path, error) from error


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool: True where any channel is above 0, since masks may hold class ids."""
    try:
        with Image.open(path) as image:
            ids = np.array(image)
    except _READ_ERRORS as error:
        raise unreadable(path, error) from error
    return (ids if ids.ndim == 2 else ids[..., :3].max(axis=2)) > 0


def read_depth(path: Path) -> np.ndarray:
    """(H, W) uint16"""
    try:
        with Image.open(path) as image:
            mode, depth = image.mode, np.array(image)
    except _READ_ERRORS as error:
        raise unreadable(path, error) from error
    if not mode.startswith("I") or depth.min() < 0 or depth.max() > 65535:
        raise DataError(
            f"{path} has mode {mode}, values {depth.min()} to {depth.max()}; expected a 16-bit "
            "grey PNG",
            "write the depth as uint16, one channel",
            path,
        )
    return depth.astype(np.uint16)


def read_cloud(path: Path, nonfinite: str) -> np.ndarray:
    """Organised points (H, W, 3) float32 of a TIFF or .npy file.

    nonfinite: what NaN and infinite points are, an "error" or "missing" ones.
    """
    try:
        npy = path.suffix.lower() == ".npy"
        xyz = np.load(path, allow_pickle=False) if npy else tifffile.imread(path)
    except _READ_ERRORS as error:
        raise unreadable(path, error) from error
    if xyz.ndim == 2 and xyz.shape[1] == 3 and xyz.dtype.kind == "f":
        raise DataError(
            f"{path} is {xyz.dtype} of shape {xyz.shape}: an unorganised list of points",
            "an organised cloud has the image's rows and columns: if the points are in the order "
            "of its pixels write cloud.reshape(rows, columns, 3), else project them first",
            path,
        )
    if xyz.ndim != 3 or xyz.shape[2] != 3 or xyz.dtype.kind != "f":
        raise DataError(
            f"{path} is {xyz.dtype} of shape {xyz.shape}; expected float32 (rows, columns, 3), "
            "x, y, z in metres",
            "write it so",
            path,
        )
    xyz = xyz.astype(np.float32, copy=False)
    if not np.isfinite(xyz).all():
        bad = ~np.isfinite(xyz).all(axis=2)
        if nonfinite == "error":
            raise DataError(
                f"{path} has {bad.sum()} points that are NaN or infinite, of {bad.size}",
                'open the dataset with nonfinite="missing" if they mark missing points',
                path,
            )
        xyz[bad] = 0
    return xyz


def read_yaml(path: Path) -> dict:
    return _mapping(path, lambda: yaml.load(path.read_text(encoding="utf-8"), _YAML))


def read_json(path: Path) -> dict:
    return _mapping(path, lambda: json.loads(path.read_text(encoding="utf-8")))


def read_matrix(path: Path) -> np.ndarray:
    """(4, 4) float64 from numbers in a text file"""
    try:
        matrix = np.loadtxt(path)
    except _READ_ERRORS as error:
        raise unreadable(path, error) from error
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise DataError(
            f"{path} holds {matrix.shape} numbers, some maybe not finite; expected a 4 x 4 matrix",
            "restore it",
            path,
        )
    return matrix


def unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    size = path.stat().st_size if path.exists() else 0
    todo = "truncated or damaged, so restore it"
    if "imagecodecs" in str(error):  # tifffile reads LZW only with that package
        todo = "write the TIFF uncompressed or with deflate"
    return DataError(
        f"cannot read {path} ({size} bytes): {error or type(error).__name__}", todo, path
    )


def folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _mapping(path: Path, load) -> dict:
    try:
        content = load()
    except _READ_ERRORS as error:
        raise unreadable(path, error) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no names with values", "restore it", path)
    return content
