"""What the module of a plug-in has for Relief, and what of it cannot be used; no torch here."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

KINDS = ("methods", "views", "datasets", "metrics")
MARK = "registry"  # attribute of what is found in a file: one of KINDS


def found(module: ModuleType) -> dict[str, dict[str, Any]]:
    """kind -> name -> thing"""
    things: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for (kind, name), called in _called(module).items():
        if len(called) == 1:
            ((_, thing),) = called
            things[kind][name] = thing
    return things


def unusable(module: ModuleType) -> dict[str, str]:
    """Name -> why: classes that lack what their kind must have, and names that are there twice."""
    things, faults = list(_own(module)), {}
    classes = [thing for _, _, thing in things if inspect.isclass(thing)]
    for own, kind, thing in things:
        if any(thing in one.__mro__[1:] for one in classes):  # what it lacks others have
            continue
        if inspect.isabstract(thing):
            name = str(getattr(thing, "name", own))
            lacks = ", ".join(sorted(thing.__abstractmethods__))
            faults[name] = f"{name!r} of {kind} lacks {lacks}"
        elif _name(own, thing) is None:
            faults[own] = f'{own!r} of {kind} lacks a name: name = "..."'
    for (kind, name), called in _called(module).items():
        if len(called) > 1:
            places = " and ".join(own for own, _ in called)
            faults[name] = f"{name!r} of {kind} is there more than once, as {places}: rename"
    return faults


def is_empty(module: ModuleType) -> bool:
    return not any(_own(module))


def _called(module: ModuleType) -> dict[tuple[str, str], list[tuple[str, Any]]]:
    """(kind, name) -> (variable, thing) of each that has it, but what others only build on."""
    called: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for own, kind, thing in _own(module):
        name = _name(own, thing)
        if inspect.isabstract(thing) or name is None:
            continue
        same = called.setdefault((kind, str(name)), [])
        if not any(other is thing for _, other in same):
            same.append((own, thing))
    return called


def _name(own: str, thing: Any) -> Any:
    """What a thing is called; None of a class without a name, such as one that others build on."""
    return getattr(thing, "name", None if inspect.isclass(thing) else own)


def _own(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    """(variable, kind, thing) of what a module itself defines for Relief."""
    for own, thing in vars(module).items():
        kind = getattr(thing, MARK, None)
        if own.startswith("_") or not isinstance(kind, str) or kind not in KINDS:
            continue
        if inspect.isclass(thing):
            inside = (thing.__module__ + ".").startswith(module.__name__ + ".")
            if not inside:
                continue
        yield own, kind, thing
