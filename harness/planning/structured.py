"""Plain values as typed objects, every key and type checked, by OmegaConf's rules.

OmegaConf is imported where values are not already what their fields want (fitting.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from harness.planning.bounds import endless
from harness.planning.entries import EntryError, filled, of_list, unfit
from harness.planning.fitting import Unfit, as_it_stands, fitted
from methods import plugins
from methods.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be run; the message says what to change."""


def structured(
    schema: Any, values: Any, prefix: str = "", others: Callable[[], Iterable[str]] = tuple
) -> Any:
    """`values` merged into the dataclass, every key and type checked; ConfigError otherwise.

    prefix: the name that all of it has; others: keys that may be meant at the top, too
    """
    try:
        found = fitted(schema, values)
    except (Unfit, ValueError, TypeError):  # it is said below what is wrong, and where
        found = _merged(schema, values, prefix, others)
    if wrong := next(endless(found, prefix), None):
        raise ConfigError(wrong)
    return found


def resolved(given: dict[str, Any]) -> dict[str, Any]:
    """With references to other values (${name}) replaced by them. Raises ConfigError."""
    if as_it_stands(given):
        return given
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values: Any = OmegaConf.to_container(OmegaConf.create(given), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    return values


def _merged(schema: Any, values: Any, prefix: str, others: Callable[[], Iterable[str]]) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    if found := misshapen(schema, values):
        raise ConfigError(f"{'.'.join(filter(None, (prefix, found[0])))}: {found[1]}")
    node = OmegaConf.structured(schema)
    defaults = OmegaConf.to_container(node, throw_on_missing=False)
    try:
        values = entries_filled(defaults, values)
        return OmegaConf.to_object(OmegaConf.unsafe_merge(node, values))
    except OmegaConfBaseException as error:
        key = ".".join(filter(None, (prefix, error.full_key)))
        text = str(error).splitlines()[0]
        if not error.full_key and (found := unfit(defaults, values)):
            key, text = ".".join(filter(None, (prefix, found[0]))), found[1]
        if isinstance(error, ConfigKeyError):
            holder = error.object_type
            known = [f.name for f in fields(holder)] if is_dataclass(holder) else []
            known += others() if holder is schema else []
            near = difflib.get_close_matches(str(error.key), known, 3, 0.6)
            hint = f"did you mean {', '.join(near)}?" if near else f"known here: {', '.join(known)}"
            text = f"unknown key; {hint}"
        raise ConfigError(f"{key}: {text}" if key else text) from error
    except EntryError as error:
        raise ConfigError(".".join(filter(None, (prefix, str(error))))) from error
    except (ValueError, TypeError) as error:  # a Settings class refused a value
        whose = plugins.blamed(error)
        note = f" ({type(error).__name__} in the plug-in {whose})" if whose else ""
        named = prefix and str(error).startswith(f"{prefix}.")  # it names the key itself
        lead = "" if named else f"{prefix or 'configuration'}: "
        raise ConfigError(f"{lead}{error}{note}") from error


def misshapen(hint: Any, values: Any, path: str = "") -> tuple[str, str] | None:
    """Where one value stands for several or the other way round, and what would do.

    OmegaConf says so in the names of its own classes, and not always where.
    """
    if get_origin(hint) in (Union, UnionType):  # optional
        if values is None:
            return None
        hint = next(h for h in get_args(hint) if h is not type(None))
    if is_dataclass(hint):
        inner = get_type_hints(hint if isinstance(hint, type) else type(hint))
    elif get_origin(hint) is dict:
        inner = dict.fromkeys(values, get_args(hint)[1]) if isinstance(values, Mapping) else {}
    elif get_origin(hint) in (list, tuple):
        if isinstance(values, list | tuple | Mapping):
            return None
        held = f"[{values}]" if isinstance(values, int | float | str) else "[...]"
        return path, f"it is {values!r}, and takes a list: give {held}"
    else:
        return None
    if not isinstance(values, Mapping):
        return path, f"it is {values!r}, and takes keys with values"
    parts = ((inner[k], v, f"{path}.{k}".lstrip(".")) for k, v in values.items() if k in inner)
    return next((found for part in parts if (found := misshapen(*part))), None)


def entries_filled(defaults: Any, values: Any, path: str = "") -> Any:
    """`values` with every change of a single entry put into the list that is its default."""
    if isinstance(values, Mapping) and isinstance(defaults, Mapping):
        return {
            k: entries_filled(defaults[k], v, f"{path}.{k}".lstrip(".")) if k in defaults else v
            for k, v in values.items()
        }
    if defaults is None and isinstance(values, Mapping) and of_list(values):
        raise EntryError(f"{path} has no list to change an entry of: give all of it")
    return filled(defaults, values, path)
