"""Synthetic RGB-D inspection data in the layout of MVTec 3D-AD or Eyecandies, made on the spot.

write_category(Path("data/synthetic"), "cookie", PRESETS["tiny"])
"""

from .defects import KINDS
from .generate import VERSION, write_category
from .sample import make_sample
from .shapes import CATEGORIES
from .spec import PRESETS, Spec

__all__ = [
    "CATEGORIES",
    "KINDS",
    "PRESETS",
    "VERSION",
    "Spec",
    "make_sample",
    "write_category",
]
