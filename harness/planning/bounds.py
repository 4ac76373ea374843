"""Values that no method can mean, whatever it does with them: no numbers, and sizes below nothing.

What a method means by a number it checks itself, when its Settings are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeGuard

ABOVE = ("batch", "size", "plane_iterations", "plane_points")  # 0 of which is nothing to compute by
RATE = "lr"  # how the names of learning rates begin: without a step there is 0 of steps
LENGTHS = ("steps", "epochs")  # of a training
SEED_BITS = 63  # of a seed, as tables hold it


def endless(value: Any, name: str = "") -> Iterator[str]:
    """Each number in plain values or a dataclass that is none, by its dotted name."""
    if is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, list | tuple):
        value = {f"[{i}]": entry for i, entry in enumerate(value)}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from endless(inner, f"{name}.{key}".lstrip(".").replace(".[", "["))
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name} is {value}: give a number"


def below(settings: Any, usual: Any, name: str) -> Iterator[str]:
    """Each setting below what it can be, judged by those of the method that are above 0.

    usual: the same with the defaults
    """
    for f in fields(settings):
        value, default = getattr(settings, f.name), getattr(usual, f.name, None)
        key = f"{name}.{f.name}"
        if is_dataclass(value) and is_dataclass(default):
            yield from below(value, default, key)
        elif _number(value) and _number(default) and default > 0:
            if value <= 0 and (f.name in ABOVE or f.name.startswith(RATE)):
                yield f"{key} is {value:g}: give more than 0"
            elif value < 0:
                yield f"{key} is {value:g}: give 0 or more"


def untrained(settings: Any, usual: Any, name: str = "") -> Iterator[str]:
    """The dotted name of each length of a training that is 0 and usually not."""
    for f in fields(settings):
        value, default = getattr(settings, f.name), getattr(usual, f.name, None)
        key = f"{name}.{f.name}".lstrip(".")
        if is_dataclass(value) and is_dataclass(default):
            yield from untrained(value, default, key)
        elif f.name in LENGTHS and value == 0 and default:
            yield key


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
