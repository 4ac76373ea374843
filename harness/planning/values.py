"""Settings as plain values."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from methods.later import told


def plain(value: Any) -> dict[str, Any]:
    """A settings dataclass as plain JSON values: tuples become lists.

    Without the settings that came later (methods/later.py) and are at their defaults.
    """

    def convert(item: Any) -> Any:
        if is_dataclass(item):
            return {f.name: convert(getattr(item, f.name)) for f in fields(item) if told(item, f)}
        if isinstance(item, dict):
            return {str(k): convert(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return [convert(v) for v in item]
        return item

    return convert(value)


def set_dotted(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Change one of these plain values by its dotted name, e.g. "texture.folder"."""
    *groups, name = dotted.split(".")
    for group in groups:
        values = values[group]
    values[name] = value
