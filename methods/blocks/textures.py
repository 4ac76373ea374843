"""Where anomalous colours come from (methods/das3d/README.md, section 7.2).

A texture source is called with a random generator and returns one RGB texture, uint8
(size, size, 3). `texture_source` makes one from its name; `augmented` changes its textures by
three of DRAEM's augmenters. What the sources are called and which files they take is in
texture_choice.py.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from methods.blocks import augmenters
from methods.blocks.decoded import Decoded
from methods.blocks.perlin import perlin_noise
from methods.blocks.texture_choice import Choice, images, texture_folder

Texture = Callable[[np.random.Generator], np.ndarray]


def texture_source(
    source: str, size: int, folder: str | None = None, category: str = "", setting: str = "texture"
) -> Texture:
    """The source called `source`, giving textures of `size` px.

    folder: the images of dtd, imagenet and folder; for other_categories, the root of the data set,
    of which `category` is left out. setting: what the settings of textures are called, for errors.
    """
    root = texture_folder(source, folder, setting)
    if source == "bundled":
        return bundled(size)
    if source == "procedural":
        return lambda rng: procedural(rng, size)
    if root is None:
        photographs = bundled(size)
        return lambda rng: photographs(rng) if rng.random() < 0.5 else procedural(rng, size)
    files = list(images(root, source))
    if source == "other_categories":
        files = [f for f in files if f.relative_to(root).parts[0] != category]
    if not files:
        raise FileNotFoundError(f"{root} holds no image of another category than {category}")
    return Images(sorted(files), size, crop=source == "other_categories")


def chosen_texture(choice: Choice, size: int, category: str, setting: str) -> Texture:
    """The source that settings choose, as `texture_source` makes it."""
    texture = texture_source(choice.source, size, choice.folder, category, setting)
    return augmented(texture) if choice.augment else texture


class Images:
    """One of the image files, uniformly: resized to a square, or a random square crop of it.

    cached: whole images that stay in memory. Squares of more files are kept on disk: so few of so
    many would hardly be drawn again.
    """

    def __init__(self, files: Sequence[Path], size: int, crop: bool = False, cached: int = 512):
        self.files, self.size, self.crop = files, size, crop
        if crop or len(files) <= cached:
            self._load = lru_cache(maxsize=cached)(self._read)
        else:
            self._load = Decoded(files, size, self._read)

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        image = self._load(int(rng.integers(len(self.files))))
        return random_crop(image, rng, self.size) if self.crop else image

    def _read(self, index):
        # imdecode of all its bytes: imread takes a tenth longer
        data = np.fromfile(self.files[index], np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if image is None:
            raise ValueError(f"{self.files[index]} is not an image OpenCV can read")
        image = image if self.crop else _resize(image, self.size)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def bundled(size: int) -> Images:
    """Random crops of the two photographs that scikit-learn ships."""
    # Found without importing scikit-learn, which takes seconds.
    folder = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "images"
    return Images([folder / "china.jpg", folder / "flower.jpg"], size, crop=True)


def random_crop(image: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """A square of a quarter to the whole of the shorter side, resized."""
    shorter = min(image.shape[:2])
    side = int(rng.integers(-(-shorter // 4), shorter + 1))
    top = rng.integers(image.shape[0] - side + 1)
    left = rng.integers(image.shape[1] - side + 1)
    return _resize(image[top : top + side, left : left + side], size)


def _resize(image, size):
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def augmented(texture: Texture, count: int = 3) -> Texture:
    """`texture`, changed by `count` different augmenters."""

    def draw(rng):
        image = texture(rng)
        for change in augmenters.draw(rng, count):
            image = change(image)
        return image

    return draw


def procedural(rng: np.random.Generator, size: int) -> np.ndarray:
    """One of five made-up textures, with equal probability."""
    return _PROCEDURES[rng.integers(len(_PROCEDURES))](rng, size)


def perlin_octaves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Three independent channels of noise with 2 to 32 cells, amplitudes halving."""
    grids = 2 ** np.arange(1, 6)
    u = torch.from_numpy(rng.random((15, 33, 33), np.float32))
    cells = torch.from_numpy(grids.repeat(3)[:, None].repeat(2, axis=1))
    noise = perlin_noise(u, cells, (size, size)).reshape(5, 3, size, size).numpy()
    return _stretch(np.einsum("o,ochw->hwc", 0.5 ** np.arange(5, dtype=np.float32), noise))


def grating(rng: np.random.Generator, size: int) -> np.ndarray:
    """Sine waves between two colours, period 4 to 64 px."""
    x, _ = _rotated_coordinates(rng, size)
    period_px, phase = rng.uniform(4, 64), rng.random()
    share = 0.5 + 0.5 * np.sin(2 * np.pi * (x / period_px + phase))
    first, second = rng.integers(0, 256, (2, 3))
    return (first + share[..., None] * (second - first)).astype(np.uint8)


def voronoi(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cells around 8 to 200 points, one colour each."""
    seeds = np.ones((size, size), np.uint8)
    seeds[tuple(rng.integers(0, size, (2, rng.integers(8, 201))))] = 0
    _, cell = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    return rng.integers(0, 256, (cell.max() + 1, 3), np.uint8)[cell]


def blurred_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """White noise, blurred with sigma 0.5 to 6 px."""
    noise = rng.random((size, size, 3), np.float32)
    return _stretch(cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 6)))


def checkerboard(rng: np.random.Generator, size: int) -> np.ndarray:
    """Squares of two colours, side 4 to 48 px, turned at random."""
    x, y = _rotated_coordinates(rng, size)
    side_px = rng.uniform(4, 48)
    odd = (np.floor(x / side_px) + np.floor(y / side_px)).astype(np.int64) % 2
    return rng.integers(0, 256, (2, 3), np.uint8)[odd]


_PROCEDURES = (perlin_octaves, grating, voronoi, blurred_noise, checkerboard)


def _rotated_coordinates(rng, size):
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _stretch(image):
    """Every channel (H, W, C) to 0..255."""
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    return ((image - low) / (high - low) * 255).astype(np.uint8)
