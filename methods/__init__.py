"""The published methods, by the papers' names, and our baselines. `get("das3d")` imports one."""

from __future__ import annotations

import difflib
from importlib import import_module

from methods.errors import UserError

METHODS = {
    "dbrn": "methods.dbrn.method:Dbrn",
    "3dsr": "methods.dsr3d.method:Dsr3d",
    "das3d": "methods.das3d.method:Das3d",
    "m3dm": "methods.m3dm.method:M3dm",
    "shape_guided": "methods.shape_guided.method:ShapeGuided",
    "baseline": "methods.baseline.method:Baseline",
}


def get(name: str):
    """The Method class called `name`; ValueError with the known names otherwise."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"unknown method {name!r}; known: {', '.join(METHODS)}{hint}")
    module, attribute = METHODS[name].split(":")
    return getattr(import_module(module), attribute)
