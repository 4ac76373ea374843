"""In which settings the entries of a configuration differ from their method's defaults.

Kept in the launch's record, for what compares results (MLflow) and must not import methods.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import methods
from harness.planning.config import Config
from harness.planning.values import plain, set_dotted


def differences(config: Config) -> dict[str, dict[str, Any]]:
    """Entry (method[/variant]) -> dotted name, as on the command line -> value.

    All entries of a method have the same names, those in which any of them differs, so that each
    has a value wherever it is compared with another.
    """
    found: dict[str, dict[str, Any]] = {}
    for method in dict.fromkeys(config.split(entry)[0] for entry in config.methods):
        default = plain(methods.declared(method).Settings())
        entries = {
            entry: flat(plain(config.settings_of(*config.split(entry))), default, method)
            for entry in config.methods
            if config.split(entry)[0] == method
        }
        usual = flat(default, default, method)
        names = [
            name
            for name in dict.fromkeys(name for values in entries.values() for name in values)
            if any(values.get(name) != usual.get(name) for values in entries.values())
        ]
        for entry, values in entries.items():
            found[entry] = {name: values[name] for name in names if name in values}
    return found


def flat(value: Any, like: Any, name: str) -> dict[str, Any]:
    """Nested settings by dotted names; a list by its entries where `like` is as long."""
    if isinstance(value, Mapping) and value:
        below = like if isinstance(like, Mapping) else {}
        parts = [flat(v, below.get(k), f"{name}.{k}") for k, v in value.items()]
    elif isinstance(value, list) and isinstance(like, list) and len(value) == len(like):
        parts = [flat(v, w, f"{name}[{i}]") for i, (v, w) in enumerate(zip(value, like))]
    else:
        return {name: value}
    return {k: v for part in parts for k, v in part.items()}


def altered(config: Config, among: Collection[str]) -> list[str]:
    """The methods whose settings, variants aside, or whose data are read otherwise than published.

    among: those that have cells; the others need not have their files. Where these lie is no
    difference.
    """
    read = any(dataset.background != "auto" for dataset in config.datasets.values())
    named = {config.split(entry)[0]: entry for entry in config.methods}
    entries = {name: entry for name, entry in named.items() if name in among}
    return [name for name, entry in entries.items() if read or _differs(config, name, entry)]


def _differs(config: Config, method: str, entry: str) -> bool:
    cls, settings = methods.declared(method), config.options[method]
    values, usual = plain(settings), plain(cls.Settings())
    for setting in config.supported(entry):
        try:
            inputs = cls.inputs(settings, setting)
        except (OSError, ValueError):  # nothing of it is computed here: cells beside imported maps
            return False
        for dotted in inputs:
            set_dotted(values, dotted, None)
            set_dotted(usual, dotted, None)
    return values != usual
