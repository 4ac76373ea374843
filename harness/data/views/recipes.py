"""Every view's recipe, and what its arrays hold; no library here. registry.py has their makers."""

from __future__ import annotations

from dataclasses import dataclass

from methods import plugins
from methods.declaration import View
from methods.views import Das3dView, DbrnView, Dsr3dView, M3dmView, PlainView, ShapeGuidedView


@dataclass(frozen=True)
class Array:
    """What an array of a view holds. shape: of one sample, S the view's size in px."""

    name: str
    dtype: str
    shape: str
    unit: str  # and range
    content: str


RGB = Array("rgb", "uint8", "S, S, 3", "0 to 255", "colour, as the image has it")
OBJECT_RGB = Array("rgb", "uint8", "S, S, 3", "0 to 255", "colour; 0 where background was removed")
XYZ = Array("xyz", "float32", "S, S, 3", "m", "camera frame, z away; 0 where missing or removed")
FOREGROUND = Array("foreground", "bool", "S, S", "-", "the object")
BTF = (OBJECT_RGB, XYZ)
ARRAYS: dict[type[View], tuple[Array, ...]] = {
    Das3dView: (
        OBJECT_RGB,
        Array("depth", "float32", "S, S", "0 (near) to 1 (far)", "of the object; background 1"),
        FOREGROUND,
    ),
    M3dmView: BTF,
    ShapeGuidedView: BTF,
    DbrnView: (
        RGB,
        Array("depth", "float32", "S, S", "0.2 (near) to 0.8 (far)", "holes are filled"),
        FOREGROUND,
    ),
    Dsr3dView: (
        RGB,
        Array("depth", "float32", "S, S", "0.1 (near) to 0.9 (far)", "0 off the object"),
        FOREGROUND,
    ),
    PlainView: (
        RGB,
        Array("depth", "float32", "S, S", "m, 0 where not seen", "z, away from the camera"),
        Array("height", "float32", "S, S", "m, 0 where not seen", "above the plane"),
        Array("valid", "bool", "S, S", "-", "what the sensor saw"),
    ),
}
RECIPES: dict[str, type[View]] = {recipe.name: recipe for recipe in ARRAYS}


def offered(recipe: type[View]) -> plugins.Offer | None:
    """The plug-in that builds a view; None for our own."""
    return None if recipe in ARRAYS else plugins.find("views", recipe.name)
