"""Maps or masks that are made when asked for: a category of large ones is never there at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np


class Images:
    """n arrays (H, W) of one type, whose sizes are known beforehand and may differ.

    make: place -> the array; sizes: (H, W) of each
    """

    def __init__(self, make: Callable[[int], np.ndarray], sizes: Sequence[tuple[int, int]], dtype):
        self.make, self.sizes, self.dtype = make, sizes, np.dtype(dtype)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i):
        return self.make(range(len(self))[i])

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.make, range(len(self)))


def known_of(images) -> tuple[int, set[np.dtype]]:
    """Pixels of all images, and their types."""
    if isinstance(images, Images):
        return sum(height * width for height, width in images.sizes), {images.dtype}
    return sum(image.size for image in images), {image.dtype for image in images}
