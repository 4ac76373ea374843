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
from harness.data.samples import Sample

if TYPE_CHECKING:
    from harness.data.mvtec3d import FolderRef, Options

MANY = 32  # different values of a depth image, of which a rule can be told


def load(ref: FolderRef) -> Sample:
    rgb = read_rgb(ref.rgb, ref.options.colour_bits)
    xyz = _from_depth(ref, ref.camera) if ref.camera else _from_cloud(ref, rgb.shape[:2])
    if ref.options.max_depth:
        xyz[_beyond(xyz[..., 2], ref.options)] = 0
    region = (ref.region, read_mask(ref.region)) if ref.region else None
    return ref.assemble(rgb, xyz, read_mask(ref.gt) if ref.gt else None, region)


def oddities(ref: FolderRef, sample: Sample) -> list[Oddity]:
    """Those of depth images alone."""
    if not ref.camera:
        return []
    z = sample.xyz[..., 2][sample.valid]
    units = np.unique(np.round(z / Intrinsics.read(ref.camera).depth_scale).astype(int))
    if len(units) < MANY or (units % 8).any():
        return []
    problem = "all its values are multiples of 8: rotated by 3 bits, as SUN RGB-D's?"
    todo = "then write (depth >> 3) | (depth << 13), else ignore this"
    return [Oddity("depth_times_8", ref.xyz, problem, todo)]


def _from_cloud(ref: FolderRef, size: tuple[int, int]) -> np.ndarray:
    xyz = read_cloud(ref.xyz, ref.options.nonfinite, size)
    if ref.options.scale != 1:
        xyz = xyz * np.float32(ref.options.scale)
    setting = "datasets.NAME.scale="
    check_unit(_within(xyz[..., 2], ref.options), ref.xyz, setting, ref.options.scale)
    return xyz if xyz.flags.writeable else xyz.copy()


def _from_depth(ref: FolderRef, file: Path) -> np.ndarray:
    camera = Intrinsics.read(file)
    raw = read_depth(ref.xyz)
    if raw.dtype == np.uint16:
        raw = np.where(raw == MISSING_16, 0, raw)
    depth = raw.astype(np.float32) * np.float32(camera.depth_scale)
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
