"""DRAEM's ten texture augmenters, as exact functions on uint8.

methods/das3d/README.md, section 7.2. Every function takes an RGB image (H, W, 3) uint8 and its
parameters, and returns a new one. The results are those of imgaug 0.4.0, which DRAEM calls;
`draw` holds the distributions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

SPACES = ("YCrCb", "HSV", "HLS", "Lab", "Luv", "YUV")
_LUMINANCE = {"HSV": 2, "HLS": 1}  # channel of the brightness; the others keep it in 0
_VALUES = np.arange(256)
_SMOOTH = np.float32([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's; never half a level


def gamma(image: np.ndarray, exponents: tuple[float, float, float]) -> np.ndarray:
    """Contrast curve of its own for each channel."""
    table = np.floor(255 * (_VALUES[:, None] / 255) ** np.asarray(exponents))
    return cv2.LUT(image, table[None].astype(np.uint8))


def brightness(
    image: np.ndarray, space: str, factor: float, offset: float, multiply_first: bool = True
) -> np.ndarray:
    """Scale and shift the luminance in one of SPACES."""

    def multiply(v):
        # In float32, as imgaug: 1.15 * 100 is 115 there, and 114.99... in float64.
        return np.floor(np.clip(np.float32(factor) * v.astype(np.float32), 0, 255))

    def add(v):
        return np.clip(v + round(offset), 0, 255)

    table = add(multiply(_VALUES)) if multiply_first else multiply(add(_VALUES))
    converted = cv2.cvtColor(image, getattr(cv2, f"COLOR_RGB2{space}"))
    channel = _LUMINANCE.get(space, 0)
    converted[..., channel] = table.astype(np.uint8)[converted[..., channel]]
    return cv2.cvtColor(converted, getattr(cv2, f"COLOR_{space}2RGB"))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """0 blurs, 1 keeps, 2 sharpens: Pillow's ImageEnhance.Sharpness, in a fifth of its time."""
    smooth = cv2.filter2D(image, -1, _SMOOTH)
    smooth[[0, -1]], smooth[:, [0, -1]] = image[[0, -1]], image[:, [0, -1]]  # as Pillow's border
    smooth = smooth.astype(np.float32)
    changed = (image - smooth) * np.float32(factor) + smooth
    return np.clip(changed, 0, 255).astype(np.uint8)


def hue_saturation(image: np.ndarray, hue: int, saturation: int) -> np.ndarray:
    """Turn the hue (a full turn is 255) and shift the saturation."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hues = (_VALUES + int(hue * 180 / 255)) % 180
    table = np.stack([hues, np.clip(_VALUES + saturation, 0, 255), _VALUES], axis=1)
    return cv2.cvtColor(cv2.LUT(hsv, table[None].astype(np.uint8)), cv2.COLOR_HSV2RGB)


def solarise(image: np.ndarray, threshold: float) -> np.ndarray:
    """Invert what is at least as bright as `threshold`."""
    table = np.where(np.floor(threshold) <= _VALUES, 255 - _VALUES, _VALUES)
    return cv2.LUT(image, table.astype(np.uint8))


def posterise(image: np.ndarray, bits: int) -> np.ndarray:
    """Keep the highest `bits` bits."""
    step = 256 // 2**bits
    return cv2.LUT(image, (_VALUES // step * step).astype(np.uint8))


def invert(image: np.ndarray) -> np.ndarray:
    return 255 - image


def autocontrast(image: np.ndarray, cutoff_percent: int) -> np.ndarray:
    """Stretch every channel, ignoring `cutoff_percent` of its pixels at either end."""
    from PIL import ImageOps

    return np.asarray(ImageOps.autocontrast(_pillow(image), cutoff_percent))


def equalise(image: np.ndarray) -> np.ndarray:
    """Equalise the histogram of every channel."""
    from PIL import ImageOps

    return np.asarray(ImageOps.equalize(_pillow(image)))


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn clockwise about the centre, bilinearly, black outside."""
    H, W = image.shape[:2]
    row, col = (H - 1) / 2, (W - 1) / 2
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    to_source = np.array(
        [
            [cos, sin, col - cos * col - sin * row],
            [-sin, cos, row + sin * col - cos * row],
        ]
    )
    return cv2.warpAffine(image, to_source, (W, H), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _pillow(image):
    # Pillow is imported where it is used: speed can be measured on machines without it.
    from PIL import Image

    return Image.fromarray(image)


def draw(rng: np.random.Generator, count: int = 3) -> list[Callable[[np.ndarray], np.ndarray]]:
    """`count` different augmenters out of the ten, in drawn order, their parameters drawn too."""
    return [_DRAWERS[i](rng) for i in rng.choice(len(_DRAWERS), count, replace=False)]


def _draw_solarise(rng):
    inverted = rng.random() < 0.5
    return partial(solarise, threshold=rng.uniform(32, 128) if inverted else 256)  # 256: none


_DRAWERS = (
    lambda rng: partial(gamma, exponents=tuple(rng.uniform(0.5, 2, 3))),
    lambda rng: partial(
        brightness,
        space=SPACES[rng.integers(len(SPACES))],
        factor=rng.uniform(0.8, 1.2),
        offset=rng.uniform(-30, 30),
        multiply_first=rng.random() < 0.5,
    ),
    lambda rng: partial(sharpness, factor=rng.uniform(0, 2)),
    lambda rng: partial(
        hue_saturation, hue=int(rng.integers(-50, 51)), saturation=int(rng.integers(-50, 51))
    ),
    _draw_solarise,
    lambda rng: partial(posterise, bits=int(rng.integers(1, 9))),
    lambda rng: invert,
    lambda rng: partial(autocontrast, cutoff_percent=int(rng.integers(0, 21))),
    lambda rng: equalise,
    lambda rng: partial(rotate, degrees=rng.uniform(-45, 45)),
)
