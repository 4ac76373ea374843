"""What a plug-in's method must say of itself before anything is planned with it; no torch here."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from methods.declaration import View
from methods.errors import UserError

NAME = re.compile(r"[^\W_][\w.-]*")  # of methods and variants, as entries of a table and folders
_VALUES = (bool, int, float, str, Path, type(None))


def unfit(cls: type, name: str) -> str:
    """Why a class cannot be the method called `name`; "" if it can."""
    return next(_faults(cls, name), "")


def check_view(cls: type, found: Any) -> None:
    """Raise UserError if what a method or stage gave as its view is none."""
    if not isinstance(found, View):
        raise UserError(
            f"{getattr(cls, 'name', cls.__name__)}: view() returned {found!r:.100}; it must be a "
            "recipe, a methods.contract.View (`relief list views`)"
        )


def _faults(cls: Any, name: str) -> Iterator[str]:
    if (own := getattr(cls, "name", None)) != name:
        yield f"its class is called {own!r}: name both alike"
    if not NAME.fullmatch(name):
        yield f"{name!r} is no name: it begins with a letter or digit; letters, digits, _ . - only"
    if not isinstance(cls.version, int) or isinstance(cls.version, bool):
        yield f"its version is {cls.version!r:.100}; it must be a whole number"
    yield from _of_settings(getattr(cls, "Settings", None))
    yield from _of_variants(cls.variants, cls.Settings)


def _of_settings(cls: Any) -> Iterator[str]:
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        yield f"its Settings is {cls!r:.100}; it must be a frozen dataclass"
        return
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        yield "its Settings is not frozen: @dataclass(frozen=True)"
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        yield f"its Settings has no default for {', '.join(missing)}"
        return
    try:
        made = cls()
    except Exception as error:  # whatever its own checks raise
        yield f"its Settings do not take their own defaults: {type(error).__name__}: {error}"
        return
    yield from _of_values(made, "")


def _of_values(settings: Any, above: str) -> Iterator[str]:
    """Settings must come out of JSON as they went in: they are in keys and records."""
    try:
        typing.get_type_hints(type(settings))
    except Exception as error:  # of names that are nowhere, mostly
        yield f"types of {type(settings).__name__} cannot be read: {type(error).__name__}: {error}"
        return
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{above}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _of_values(value, f"{key}.")
        elif not _plain(value):
            yield (
                f"its Settings.{key} is a {type(value).__name__}; settings are numbers, texts, "
                "paths, lists of them, and frozen dataclasses"
            )


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return isinstance(value, _VALUES) or dataclasses.is_dataclass(value)


def _of_variants(variants: Any, settings: type) -> Iterator[str]:
    wanted = 'it must be like {"name": {"setting.of.it": value}}'
    if not isinstance(variants, Mapping):
        yield f"its variants are {variants!r:.100}; {wanted}"
        return
    for name, changes in variants.items():
        if not isinstance(changes, Mapping) or not isinstance(name, str):
            yield f"its variant {name!r} is {changes!r:.100}; {wanted}"
        elif not NAME.fullmatch(name):
            yield f"its variant {name!r} is no name: letters, digits, _ . - only"
        else:
            lacking = (key for key in changes if not _has(settings(), str(key)))
            yield from (f"its variant {name!r} changes {key}, and there is none" for key in lacking)


def _has(settings: Any, dotted: str) -> bool:
    for part in dotted.partition("[")[0].split("."):
        if isinstance(settings, Mapping):
            settings = settings.get(part)
        elif not hasattr(settings, part):
            return False
        else:
            settings = getattr(settings, part)
    return True
