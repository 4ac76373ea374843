"""Small scans in MVTec 3D-AD layout for the tests: a dome on a tilted plane."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from harness.data.datasets import open_dataset
from harness.data.samples import Category, Sample


def scan(height=48, width=64, seed=0):
    """-> rgb, xyz, mask of one scene 0.13 m wide, with noise and missing points."""
    rng = np.random.default_rng(seed)
    pitch = 0.13 / max(height, width)
    y, x = (np.mgrid[:height, :width] - np.array([height, width])[:, None, None] / 2) * pitch
    x, y = x + pitch / 3, y + pitch / 3  # no coordinate is exactly zero
    radius = np.hypot(x, y) / (0.3 * min(height, width) * pitch)
    dome = 0.03 * np.sqrt(np.clip(1 - radius**2, 0, None))
    xyz = np.stack([x, y, 0.6 + 0.1 * x - 0.05 * y - dome], axis=2)
    xyz[..., 2] += rng.normal(0, 5e-5, x.shape)
    xyz[rng.random(x.shape) < 0.02] = 0
    rgb = rng.integers(1, 256, (height, width, 3), np.uint8)
    mask = np.zeros(x.shape, np.uint8)
    mask[height // 2 - 3 : height // 2 + 3, width // 2 - 2 : width // 2 + 4] = 254
    return rgb, xyz.astype(np.float32), mask


def sample(rgb, xyz, mask) -> Sample:
    """A sample as it is after reading."""
    return Sample(
        "test/hole/000", "dome", "test", "hole", 1, rgb, xyz, (xyz != 0).any(axis=2), mask > 0
    )


def kinds(arrays) -> dict:
    """Name -> dtype and shape of a view's arrays."""
    return {name: (array.dtype.name, array.shape) for name, array in arrays.items()}


DEPTH_KINDS = {  # of the views with depth, at 64 px
    "rgb": ("uint8", (64, 64, 3)),
    "depth": ("float32", (64, 64)),
    "foreground": ("bool", (64, 64)),
    "mask": ("bool", (64, 64)),
}


def write_scan(folder: Path, name: str, rgb, xyz, mask=None) -> None:
    parts = {"rgb": (rgb, ".png"), "xyz": (xyz, ".tiff"), "gt": (mask, ".png")}
    for part, (array, suffix) in parts.items():
        if array is None:
            continue
        (folder / part).mkdir(parents=True, exist_ok=True)
        path = folder / part / f"{name}{suffix}"
        if part == "xyz":
            write_cloud(path, array)
        else:
            Image.fromarray(array).save(path)


def write_cloud(path: Path, xyz) -> None:
    tifffile.imwrite(path, xyz, photometric="rgb", planarconfig="contig")


def write_category(root: Path, name="dome", height=48, width=64, validation=1) -> Category:
    """train 3, validation, test good 1 (no gt) and hole 2 scans."""
    seed = 0
    for folder, count in {
        "train/good": 3,
        "validation/good": validation,
        "test/good": 1,
        "test/hole": 2,
    }.items():
        for i in range(count):
            seed += 1
            rgb, xyz, mask = scan(height, width, seed)
            gt = mask if "hole" in folder else None
            write_scan(root / name / folder, f"{i:03}", rgb, xyz, gt)
    return open_dataset("auto", root).category(name)
