"""What a shell offers after TAB: names of configurations, studies and sweeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Offer = Callable[[str], list[str]]


def shipped(kind: Literal["", "sweeps", "studies"] = "") -> Offer:
    """The shipped ones of a kind, and YAML files here."""

    def offer(incomplete: str) -> list[str]:
        from pathlib import Path

        from harness.planning import config

        own = [path.name for path in Path().glob("*.yaml")] if not kind else []
        return [name for name in (*config.shipped(kind), *own) if name.startswith(incomplete)]

    return offer
