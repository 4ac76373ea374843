"""Overrides that reach into lists: das3d.p_z[1]=0.8 changes the second value and leaves the first.

Until the list is known such a change is a mapping from "[1]" to the value; `filled` puts it in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from methods.errors import UserError

_ENTRY = re.compile(r"\[?(\d+)\]?")  # as a key: [1], or 1 in das3d.p_z.1


class EntryError(UserError):
    """An entry that a list does not have; the message names the list by `path`."""


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """ "loss.weights[2]", 4.0 -> {"loss": {"weights": {"[2]": 4.0}}}"""
    *groups, name = dotted.replace("[", ".[").split(".")
    made: dict[str, Any] = {name: value}
    for group in reversed(groups):
        made = {group: made}
    return made


def filled(base: Any, changes: Any, path: str = "") -> Any:
    """`base` with nested changes; a list takes single entries, everything else is replaced.

    Neither is changed. Raises EntryError.
    """
    if not isinstance(changes, Mapping):
        return changes
    if isinstance(base, list | tuple):
        return _with_entries(list(base), changes, path)
    if base is not None and not isinstance(base, Mapping) and of_list(changes):
        raise EntryError(f"{path} is a single value ({base!r}), it has no entries: give it as such")
    known = base if isinstance(base, Mapping) else {}
    parts = {k: filled(known.get(k), v, f"{path}.{k}".lstrip(".")) for k, v in changes.items()}
    return {**known, **parts}


def of_list(changes: Mapping[Any, Any]) -> bool:
    """Whether they are of entries of a list."""
    return any(str(key).startswith("[") for key in changes)


def unfit(defaults: Any, values: Any, path: str = "") -> tuple[str, str] | None:
    """Where an entry of a list of numbers is none, and what is wrong with it.

    OmegaConf refuses such a list, and says neither.
    """
    if isinstance(defaults, Mapping) and isinstance(values, Mapping):
        parts = ((defaults.get(k), v, f"{path}.{k}".lstrip(".")) for k, v in values.items())
        return next((found for part in parts if (found := unfit(*part))), None)
    if not isinstance(defaults, list | tuple) or not isinstance(values, list | tuple):
        return None
    kinds = {type(entry) for entry in defaults}
    if kinds not in ({int}, {float}):
        return None
    wanted = "whole number" if kinds == {int} else "number"
    for i, value in enumerate(values):
        if not _number(value, whole=kinds == {int}):
            return f"{path}[{i}]", f"{value!r} is no {wanted}"
    return None


def _number(value: Any, whole: bool) -> bool:
    try:
        return float(value).is_integer() or not whole
    except (TypeError, ValueError):
        return False


def _with_entries(values: list[Any], changes: Mapping[Any, Any], path: str) -> Any:
    for key, value in changes.items():
        if not (entry := _ENTRY.fullmatch(str(key))):
            raise EntryError(f"{path} is a list: give all of it, or entries such as {path}[0]")
        i = int(entry[1])
        if i >= len(values):
            there = f"its entries are [0] to [{len(values) - 1}]" if values else "it is empty"
            raise EntryError(f"{path} has no entry [{i}]: {there}")
        values[i] = filled(values[i], value, f"{path}[{i}]")
    return values
