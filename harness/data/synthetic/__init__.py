"""Synthetic RGB-D inspection data in the layout of MVTec 3D-AD or Eyecandies, made on the spot.

generate.write_category(Path("data/synthetic"), "cookie", PRESETS["tiny"])
"""

from .categories import CATEGORIES
from .spec import KINDS, PRESETS, VERSION, Spec

__all__ = [
    "CATEGORIES",
    "KINDS",
    "PRESETS",
    "VERSION",
    "Spec",
]
