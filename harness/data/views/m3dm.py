"""One sample in the view of M3DM and of Shape-Guided: the object alone, in colour and points.

methods/m3dm/README.md, sections 1.1 and 1.2; methods/shape_guided/README.md, sections 1.1 and 1.2:
the same up to where the methods begin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.data.resize import resize
from harness.data.samples import Sample
from harness.data.views import background
from harness.data.views.background import cut
from harness.store.frames import Frame, Size
from methods.views import M3dmView


def prepare(sample: Sample, view: M3dmView, seed: int) -> dict[str, np.ndarray]:
    """The view's arrays of one sample, S = view.size, and its ground truth.

    rgb (S, S, 3) uint8; xyz (S, S, 3) float32, metres; mask (S, S) bool.
    """
    rgb, xyz, mask = cut(sample, _padding(view), seed)
    return {
        "rgb": resize(rgb, view.size, "pil_bicubic"),
        "xyz": resize(xyz, view.size, "torch_nearest"),
        "mask": resize(mask.view(np.uint8), view.size, "pil_nearest").view(bool),
    }


def frame(view: M3dmView, size: Size) -> Frame:
    return background.frame(_padding(view), size)


def _padding(view: M3dmView) -> M3dmView:
    """Padding is a step of the published removal of the background."""
    return replace(view, pad=False) if view.background == "none" else view
