"""What a configuration has to say beside the one that it names as its base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.planning import config as configs


def over_base(given: dict[str, Any], base: str) -> dict[str, Any]:
    """What a file has to hold so that these values are read from it. base: its path or name"""
    before = {k: v for k, v in configs.read(base).items() if k != "name"}
    path = Path(base)
    found: dict[str, Any] = {
        "base": str(path.resolve()) if path.is_file() else base,
        **_changed(before, given),
    }
    gone = before.get("datasets", {}).keys() - given.get("datasets", {}).keys()
    if gone:
        found["datasets"] = {**found.get("datasets", {}), **dict.fromkeys(sorted(gone))}
    return found


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `after` that `before` has not."""
    found = {}
    for name, value in after.items():
        if isinstance(value, dict) and isinstance(before.get(name), dict):
            if inside := _changed(before[name], value):
                found[name] = inside
        elif name not in before or before[name] != value:
            found[name] = value
    return found
