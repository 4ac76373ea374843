"""One sample in DAS3D's view: the object alone, its depth in [0, 1], its foreground mask.

methods/das3d/README.md, section 1. DAS3D published no code; background removal is that of BTF and
M3DM, to which the paper refers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.data.resize import nearest, resize
from harness.data.samples import Sample
from harness.data.views import background
from harness.data.views.depth import extremes, fill_holes, place
from methods.views import Das3dView

FILL_PASSES = 3  # AST's n_fills
FOREGROUND_EPS = 1e-6


def prepare(sample: Sample, view: Das3dView, seed: int) -> dict[str, np.ndarray]:
    """The view's arrays of one sample, S = view.size, and its ground truth.

    rgb (S, S, 3) uint8; depth (S, S) float32; foreground (S, S) bool; mask (S, S) bool.
    With `depth_range` "category" the depth is still in metres and the foreground is the pixels
    that have depth: `learn` needs the whole training split for the rest.
    """
    rgb, z, missing, mask = cut(sample, view, seed)
    if view.hole_fill == "ast3":
        z = fill_holes(z, missing, FILL_PASSES)
    kept = z != 0
    rgb, depth, kept, mask = to_square(rgb, fill_background(z), kept, mask, view)
    if view.depth_range == "image":
        depth, kept = normalise(depth, kept, depth.min(), depth.max())
    return {"rgb": rgb, "depth": depth, "foreground": kept, "mask": mask}


def learn(train: Mapping[str, np.ndarray], view: Das3dView) -> dict[str, float]:
    """The range of depth of the training split, where that is to be the category's."""
    if view.depth_range == "image":
        return {}
    low, high = extremes(train["depth"])
    return {"low_m": float(low), "high_m": float(high)}


def finish(arrays: dict[str, np.ndarray], view: Das3dView, learnt: Mapping[str, float]) -> None:
    """Normalise the arrays of a split in place, by the extremes of the training split."""
    if view.depth_range == "image":
        return
    for i in range(len(arrays["depth"])):
        arrays["depth"][i], arrays["foreground"][i] = normalise(
            arrays["depth"][i], arrays["foreground"][i], learnt["low_m"], learnt["high_m"]
        )


def cut(sample: Sample, view: Das3dView, seed: int):
    """Background removed at native resolution (section 1, steps 1 and 2).

    -> rgb (H, W, 3), z (H, W) metres with 0 off the object, missing (H, W), mask (H, W)
    """
    rgb, xyz, mask = background.cut(sample, view, seed)
    missing = background.pad_square(~sample.valid) if view.pad else ~sample.valid
    return rgb, xyz[..., 2], missing, mask


def fill_background(z: np.ndarray) -> np.ndarray:
    """Pixels without depth become as deep as the deepest that has one (section 1, step 3)."""
    return np.where(z == 0, z[z != 0].max(), z)


def to_square(rgb, depth, kept, mask, view: Das3dView):
    """To S x S: colour bilinear without antialiasing, masks nearest, depth as the view says.

    How the ground truth is resized is not published; it goes with the depth, pixel for pixel.
    """
    rgb = resize(rgb, view.size, "cv2_linear")
    if view.depth_resize == "bilinear":
        depth = resize(depth, view.size, "cv2_linear")
    else:
        depth = nearest(depth, view.size)
    return rgb, depth, nearest(kept, view.size), nearest(mask, view.size)


def normalise(depth: np.ndarray, kept: np.ndarray, low: float, high: float):
    """Z = (z - low) / (high - low), and the foreground: pixels before the background (steps 5, 6).

    Without a background pixel everything is foreground. A constant depth becomes 1.
    """
    z = place(depth, low, high)
    foreground = z < z[~kept].mean() - FOREGROUND_EPS if not kept.all() else kept.copy()
    return z.astype(np.float32), foreground
