"""Settings that came when results were kept already; no torch here."""

from __future__ import annotations

from dataclasses import Field, field
from typing import Any

_LATER = "later"


def later(default: Any) -> Any:
    """The default of such a setting: at it, the keys of jobs stay what they were without it."""
    return field(default=default, metadata={_LATER: True})


def told(item: Any, of: Field) -> bool:
    """Whether a field of a dataclass has a part in keys."""
    return not of.metadata.get(_LATER) or getattr(item, of.name) != of.default
