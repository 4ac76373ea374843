"""One sample in DAS3D's view: the object alone, its depth in [0, 1], its foreground mask.

methods/das3d/README.md, section 1. DAS3D published no code; background removal is that of BTF and
M3DM, to which the paper refers.
"""

from __future__ import annotations

import cv2
import numpy as np

from harness.data.samples import Sample
from harness.data.views import background
from methods.views import Das3dView

FILL_PASSES = 3  # AST's n_fills
FOREGROUND_EPS = 1e-6
OPTIONS = {
    "hole_fill": ("none", "ast3"),
    "depth_range": ("image", "category"),
    "depth_resize": ("nearest", "bilinear"),
}


def prepare(sample: Sample, view: Das3dView, seed: int) -> dict[str, np.ndarray]:
    """The view's arrays of one sample, S = view.size, and its ground truth.

    rgb (S, S, 3) uint8; depth (S, S) float32; foreground (S, S) bool; mask (S, S) bool.
    With `depth_range` "category" the depth is still in metres and the foreground is the pixels
    that have depth: `finish` needs the whole training split for the rest.
    """
    background.check(view, **OPTIONS)
    rgb, z, missing, mask = cut(sample, view, seed)
    if view.hole_fill == "ast3":
        z = fill_holes(z, missing, FILL_PASSES)
    kept = z != 0
    rgb, depth, kept, mask = resize(rgb, fill_background(z), kept, mask, view)
    if view.depth_range == "image":
        depth, kept = normalise(depth, kept, depth.min(), depth.max())
    return {"rgb": rgb, "depth": depth, "foreground": kept, "mask": mask}


def finish(splits: dict[str, dict[str, np.ndarray]], view: Das3dView) -> None:
    """Normalise the arrays of all splits in place, by the extremes of the training split."""
    if view.depth_range == "image":
        return
    train = splits["train"]["depth"]
    low, high = min(d.min() for d in train), max(d.max() for d in train)
    for arrays in splits.values():
        for i in range(len(arrays["depth"])):
            arrays["depth"][i], arrays["foreground"][i] = normalise(
                arrays["depth"][i], arrays["foreground"][i], low, high
            )


def cut(sample: Sample, view: Das3dView, seed: int):
    """Background removed at native resolution (section 1, steps 1 and 2).

    -> rgb (H, W, 3), z (H, W) metres with 0 off the object, missing (H, W), mask (H, W)
    """
    rgb, xyz, mask = background.cut(sample, view, seed)
    missing = background.pad_square(~sample.valid) if view.pad else ~sample.valid
    return rgb, xyz[..., 2], missing, mask


def fill_holes(z: np.ndarray, missing: np.ndarray, passes: int) -> np.ndarray:
    """AST's filling: a missing pixel takes the mean of the non-zero ones of its 3 x 3 window.

    Each pass reads the result of the one before. Row 0 and column 0 are never filled: the
    published code slices from -1 there, which is empty; kept for parity.
    """
    z = z.astype(np.float64)
    for _ in range(passes):
        total, count = (
            cv2.boxFilter(a, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
            for a in (z, (z != 0).astype(np.float64))
        )
        fill = missing & (z == 0) & (count > 0)
        fill[0] = fill[:, 0] = False
        z[fill] = total[fill] / count[fill]
    return z.astype(np.float32)


def fill_background(z: np.ndarray) -> np.ndarray:
    """Pixels without depth become as deep as the deepest that has one (section 1, step 3)."""
    return np.where(z == 0, z[z != 0].max(), z)


def resize(rgb, depth, kept, mask, view: Das3dView):
    """To S x S: colour bilinear without antialiasing, masks nearest, depth as the view says.

    How the ground truth is resized is not published; it goes with the depth, pixel for pixel.
    """
    size = (view.size, view.size)
    rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    if view.depth_resize == "bilinear":
        depth = cv2.resize(depth, size, interpolation=cv2.INTER_LINEAR)
    else:
        depth = nearest(depth, view.size)
    return rgb, depth, nearest(kept, view.size), nearest(mask, view.size)


def nearest(image: np.ndarray, size: int) -> np.ndarray:
    """Source index floor(i * n / size), in integers."""
    rows, columns = (np.arange(size) * n // size for n in image.shape[:2])
    return image[rows[:, None], columns]


def normalise(depth: np.ndarray, kept: np.ndarray, low: float, high: float):
    """Z = (z - low) / (high - low), and the foreground: pixels before the background (steps 5, 6).

    Without a background pixel everything is foreground. A constant depth becomes 1.
    """
    low, high = float(low), float(high)
    span = high - low if high > low else 1.0
    z = 1 - (high - depth.astype(np.float64)) / span
    foreground = z < z[~kept].mean() - FOREGROUND_EPS if not kept.all() else kept.copy()
    return z.astype(np.float32), foreground
