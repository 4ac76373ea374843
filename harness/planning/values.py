"""Settings as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any


def plain(value: Any) -> dict[str, Any]:
    """A settings dataclass as plain JSON values: tuples become lists."""

    def convert(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(k): convert(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return [convert(v) for v in item]
        return item

    return convert(asdict(value))


def set_dotted(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Change one of these plain values by its dotted name, e.g. "texture.folder"."""
    *groups, name = dotted.split(".")
    for group in groups:
        values = values[group]
    values[name] = value
