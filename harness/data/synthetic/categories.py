"""The eight categories: what is wrong with their samples, and how these lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """What besides its shape (shapes.py) tells a category from the others."""

    defects: tuple[str, ...]  # default defect folders
    salt: float  # rate of isolated missing points on the plane
    rigid: bool = False  # same size and about the same orientation in every sample
    turns: bool = True  # any rotation; otherwise +-12 degrees
    specular: float = 0.03


CATEGORIES: dict[str, Category] = {
    "cookie": Category(("hole", "crack", "contamination", "combined"), 0.012),
    "bagel": Category(("dent", "hole", "contamination", "missing"), 0.05),
    "dome": Category(("cut", "color", "bump", "combined"), 0.05),
    "plate": Category(
        ("dent", "crack", "contamination", "missing"),
        0.06,
        rigid=True,
        turns=False,
        specular=0.18,
    ),
    "rod": Category(("dent", "cut", "color", "geometry_only"), 0.004, rigid=True, turns=False),
    "rope": Category(("cut", "contamination", "bump", "missing"), 0.003, turns=False),
    "foam": Category(("color", "geometry_only", "cut", "hole"), 0.008),
    "tread": Category(
        ("hole", "cut", "contamination", "geometry_only"),
        0.006,
        rigid=True,
        turns=False,
        specular=0.18,
    ),
}
