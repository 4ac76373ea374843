"""One sample in the view of M3DM and of Shape-Guided: the object alone, in colour and points.

methods/m3dm/README.md, sections 1.1 and 1.2; methods/shape_guided/README.md, sections 1.1 and 1.2:
the same up to where the methods begin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.data.resize import resize
from harness.data.samples import Sample
from harness.data.views.background import cut
from methods.views import M3dmView


def prepare(sample: Sample, view: M3dmView, seed: int) -> dict[str, np.ndarray]:
    """The view's arrays of one sample, S = view.size, and its ground truth.

    rgb (S, S, 3) uint8; xyz (S, S, 3) float32, metres; mask (S, S) bool.
    """
    if view.background == "none":
        view = replace(view, pad=False)  # padding is a step of the published removal
    rgb, xyz, mask = cut(sample, view, seed)
    return {
        "rgb": resize(rgb, view.size, "pil_bicubic"),
        "xyz": resize(xyz, view.size, "torch_nearest"),
        "mask": resize(mask.view(np.uint8), view.size, "pil_nearest").view(bool),
    }
