"""The resizing conventions of the five methods' code, by name.

They do not agree: PIL samples nearest neighbours at pixel centres, torch and OpenCV at
floor(i * in / out), and PIL's bicubic has its own antialiasing (harness/metrics/README.md,
section 1).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image


def resize(image: np.ndarray, size: int | tuple[int, int], how: str) -> np.ndarray:
    """image (H, W) or (H, W, C) -> (h, w) or (h, w, C), same dtype.

    size: px, a side of a square or (height, width). how: pil_nearest and pil_bicubic (uint8
    only), torch_nearest, cv2_nearest, cv2_linear, cv2_area (means, of every pixel alike).
    """
    height, width = (size, size) if isinstance(size, int) else size
    if how in _PIL:
        return np.array(Image.fromarray(image).resize((width, height), _PIL[how]))
    if how in _CV2:
        return cv2.resize(image, (width, height), interpolation=_CV2[how])
    if how == "torch_nearest":
        planes = torch.from_numpy(np.ascontiguousarray(image.reshape(1, *image.shape[:2], -1)))
        planes = torch.nn.functional.interpolate(planes.permute(0, 3, 1, 2), size=(height, width))
        return planes[0].permute(1, 2, 0).numpy().reshape(height, width, *image.shape[2:])
    known = ", ".join([*_PIL, *_CV2, "torch_nearest"])
    raise ValueError(f"unknown resizing {how!r}; known: {known}")


def nearest(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """image (H, W) or (H, W, C) at source index floor(i * n / size), in integers."""
    sides = (size, size) if isinstance(size, int) else size
    rows, columns = (np.arange(s) * n // s for s, n in zip(sides, image.shape[:2]))
    return image[rows[:, None], columns]


_PIL = {"pil_nearest": Image.Resampling.NEAREST, "pil_bicubic": Image.Resampling.BICUBIC}
_CV2 = {
    "cv2_nearest": cv2.INTER_NEAREST,
    "cv2_linear": cv2.INTER_LINEAR,
    "cv2_area": cv2.INTER_AREA,
}
