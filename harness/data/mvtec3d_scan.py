"""A sample in the layout of MVTec 3D-AD, opened: colour, a cloud or depth, masks.

mvtec3d.py knows which files these are, and is imported without any library for arrays.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.data.camera import Intrinsics
from harness.data.clouds import backproject, check_unit, read_cloud
from harness.data.images import MISSING_16, read_depth, read_mask, read_rgb
from harness.data.oddities import Oddity
from harness.data.samples import DataError, Sample

if TYPE_CHECKING:
    from harness.data.mvtec3d import FolderRef, Options

MANY = 32  # different values of a depth image, of which a rule can be told


def load(ref: FolderRef) -> Sample:
    rgb = read_rgb(ref.rgb, ref.options.colour_bits)
    size = rgb.shape[:2]
    xyz = _from_depth(ref, ref.camera, size) if ref.camera else _from_cloud(ref, size)
    if ref.options.max_depth:
        _limit(xyz, ref)
    region = (ref.region, read_mask(ref.region)) if ref.region else None
    return ref.assemble(rgb, xyz, read_mask(ref.gt) if ref.gt else None, region)


def _limit(xyz: np.ndarray, ref: FolderRef) -> None:
    """Take what lies beyond `max_depth` as missing. DataError where that is everything."""
    z, limit = xyz[..., 2], ref.options.max_depth
    beyond = _beyond(z, ref.options)
    if beyond.all() and (z > 0).any():
        raise DataError(
            f"{ref.xyz} has no point within max_depth={limit:g} m: the nearest is "
            f"{z[z > 0].min():.3g} m away",
            "raise datasets.NAME.max_depth (--option max_depth=METRES), or 0 for no limit",
            ref.xyz,
        )
    xyz[beyond] = 0


def oddities(ref: FolderRef, sample: Sample) -> list[Oddity]:
    """Those of depth images alone."""
    if not ref.camera:
        return []
    found, camera, size = [], Intrinsics.read(ref.camera), sample.valid.shape
    if camera.off_centre(size):
        problem = (
            f"cx {camera.cx:g} and cy {camera.cy:g} lie far from the middle of images of "
            f"{size[0]} x {size[1]} px"
        )
        todo = (
            "scale f, cx and cy if they are of another resolution; if the images are cut out of "
            'larger ones give their size too: "height" and "width"'
        )
        found.append(Oddity("camera_off_centre", ref.camera, problem, todo))
    if camera.bent:
        problem = "the lens has a distortion, and nothing here straightens its images"
        todo = "undistort colour and depth before, or set its coefficients to 0 if that was done"
        found.append(Oddity("camera_bends", ref.camera, problem, todo))
    z = sample.xyz[..., 2][sample.valid]
    units = np.unique(np.round(z / camera.depth_scale).astype(int))
    if len(units) < MANY or (units % 8).any():
        return found
    problem = "all its values are multiples of 8: rotated by 3 bits, as SUN RGB-D's?"
    todo = "then write (depth >> 3) | (depth << 13), else ignore this"
    return [*found, Oddity("depth_times_8", ref.xyz, problem, todo)]


def _from_cloud(ref: FolderRef, size: tuple[int, int]) -> np.ndarray:
    xyz = read_cloud(ref.xyz, ref.options.nonfinite, size)
    if ref.options.scale != 1:
        xyz = xyz * np.float32(ref.options.scale)
    setting = "datasets.NAME.scale="
    check_unit(_within(xyz[..., 2], ref.options), ref.xyz, setting, ref.options.scale)
    return xyz if xyz.flags.writeable else xyz.copy()


def _from_depth(ref: FolderRef, file: Path, size: tuple[int, int]) -> np.ndarray:
    """size: of the colour image, rows and columns; depth of another is told when all are there"""
    camera = Intrinsics.read(file)
    raw = read_depth(ref.xyz)
    if raw.dtype == np.uint16:
        raw = np.where(raw == MISSING_16, 0, raw)
    depth = raw.astype(np.float32) * np.float32(camera.depth_scale)
    if depth.shape == size:
        camera.check(depth.shape, file)
    setting = f"depth_scale in {file} to "
    check_unit(_within(depth, ref.options), ref.xyz, setting, camera.depth_scale)
    depth[depth < 0] = 0
    return backproject(depth, camera.fx, camera.fy, camera.cx, camera.cy)


def _beyond(z: np.ndarray, options: Options) -> np.ndarray:
    return (z <= 0) | (z > options.max_depth)


def _within(z: np.ndarray, options: Options) -> np.ndarray:
    """Depths without what `max_depth` takes as missing, if anything is left then."""
    if not options.max_depth or (beyond := _beyond(z, options)).all():
        return z
    return np.where(beyond, 0, z)
