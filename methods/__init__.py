"""The published methods, our baselines, and methods of plug-ins.

`get("das3d")` imports one; `declared("das3d")` only what a plan needs of it, without torch.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from methods import plugins
from methods.errors import UserError

METHODS = {
    "dbrn": "methods.dbrn.method:Dbrn",
    "3dsr": "methods.dsr3d.method:Dsr3d",
    "das3d": "methods.das3d.method:Das3d",
    "m3dm": "methods.m3dm.method:M3dm",
    "shape_guided": "methods.shape_guided.method:ShapeGuided",
    "baseline": "methods.baseline.method:Baseline",
}


def get(name: str) -> Any:
    """The Method class called `name`; UserError with the known names otherwise.

    Raises PluginError if it is that of a plug-in which is broken.
    """
    if name in METHODS:
        return _imported(*METHODS[name].split(":"))
    if offer := plugins.find("methods", name):
        return _checked(offer)
    near = difflib.get_close_matches(name, known(), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    broken = [f"{one.source} ({one.why})" for one in plugins.broken()]
    perhaps = f"; it may be in what cannot be loaded: {', '.join(broken)}" if broken else ""
    raise UserError(f"unknown method {name!r}; known: {', '.join(known())}{hint}{perhaps}")


def declared(name: str) -> Any:
    """What a plan needs of it: its declaration (methods/declaration.py), or the class as it is.

    A declaration is the class of that name in `declaration.py` beside the method's module; those of
    plug-ins need none. Raises as `get`.
    """
    module, _, attribute = METHODS.get(name, "").partition(":")
    beside = f"{module.rpartition('.')[0]}.declaration"
    return _imported(beside, attribute) if module and find_spec(beside) else get(name)


def _imported(module: str, attribute: str) -> Any:
    return getattr(import_module(module), attribute)


def known() -> tuple[str, ...]:
    """Our own, then those of plug-ins that can be loaded."""
    return (*METHODS, *(name for name in plugins.names("methods") if name not in METHODS))


def offered(name: str) -> plugins.Offer | None:
    """The plug-in that has a method; None for our own."""
    return None if name in METHODS else plugins.find("methods", name)


def shadowed() -> list[plugins.Broken]:
    """Methods of plug-ins that are not used, since one of ours has the name."""
    return [
        plugins.Broken(
            str(offer),
            f"its method {offer.name!r} is not used: one of Relief's has this name, rename it",
            part=offer.name,
        )
        for offer in plugins.offers("methods")
        if offer.name in METHODS
    ]


def _checked(offer: plugins.Offer) -> Any:
    """A plug-in's class, if it is what the contract asks for."""
    from methods.contract import Method
    from methods.fitness import unfit

    found = offer.load()
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise _unfit(offer, f"it is {found!r:.100}, no subclass of methods.contract.Method")
    if why := unfit(found, offer.name):
        raise _unfit(offer, why)
    return found


def _unfit(offer: plugins.Offer, why: str) -> plugins.PluginError:
    return plugins.PluginError(f"method {offer.name!r} of plug-in {offer}: {why}")
