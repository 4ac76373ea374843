"""The way from a view's pixels back to the sensor's: padding, crop and scale.

A view says with its record which part of the sensor's image its pixels cover, by the size of that
image: `summary["frames"]` holds rows of rows, columns, top, left, height, width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from harness.store.records import Record

Size = tuple[int, int]  # rows, columns, px
PAD_MULTIPLE = 100  # px; sides of the squares that BTF pads to (methods/views.py)


@dataclass(frozen=True)
class Frame:
    """The rectangle that a view's pixels cover, in pixels of the sensor's image.

    What of it lies beyond the image is padding; what of the image lies beyond it was cropped away.
    """

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def whole(cls, size: Size) -> Frame:
        """All of the image, at another scale."""
        return cls(0, 0, *size)

    @classmethod
    def square(cls, size: Size, multiple: int = PAD_MULTIPLE) -> Frame:
        """The image in the middle of a square of such a side, the smaller half of what is added
        first.
        """
        side = -(-max(size) // multiple) * multiple
        top, left = (-((side - n) // 2) for n in size)
        return cls(top, left, side, side)

    def around(self, size: Size) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows above and below, columns left and right of an image that it adds, px."""
        below, right = (self.top + self.height - size[0], self.left + self.width - size[1])
        return (-self.top, below), (-self.left, right)

    def back(self, values: np.ndarray, size: Size) -> np.ndarray:
        """A map (h, w) of the view at the sensor's pixels (H, W), bilinear.

        Padding goes; pixels that the view had cropped away have the map's least score, since
        nothing was found there.
        """
        import cv2

        values = np.asarray(values)
        if values.shape != (self.height, self.width):
            sides = (self.width, self.height)
            values = cv2.resize(values, sides, interpolation=cv2.INTER_LINEAR)
        (above, below), (left, right) = self.around(size)
        if min(above, below, left, right) >= 0:
            return np.ascontiguousarray(values[above : above + size[0], left : left + size[1]])
        seen = np.full(size, values.min(), values.dtype)
        rows = slice(max(self.top, 0), min(self.top + self.height, size[0]))
        columns = slice(max(self.left, 0), min(self.left + self.width, size[1]))
        seen[rows, columns] = values[
            rows.start - self.top : rows.stop - self.top,
            columns.start - self.left : columns.stop - self.left,
        ]
        return seen


def frames_told(frames: Iterable[tuple[Size, Frame]]) -> list[list[int]]:
    """As a view's record holds them."""
    rows = [(*size, f.top, f.left, f.height, f.width) for size, f in frames]
    return [list(row) for row in sorted(set(rows))]


def frame_of(view: Record, size: Size) -> Frame:
    """What the pixels of a view cover of a sensor's image of that size."""
    for rows, columns, *frame in view.summary.get("frames", ()):
        if (rows, columns) == size:
            return Frame(*frame)
    return _before(view, size)


def _before(view: Record, size: Size) -> Frame:
    """Of views of version 0.1.0, which do not say: there were two ways to pad."""
    recipe = view.spec.view
    padded = recipe.get("pad", False)
    if recipe.get("background") == "none" and recipe.get("name") in ("m3dm", "shape_guided"):
        padded = False  # padding was a step of their removal of the background
    return Frame.square(size) if padded else Frame.whole(size)
