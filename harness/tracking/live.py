"""Which launches and sweeps are at work: their driver holds a lock, which the system frees."""

from __future__ import annotations

from harness.store import Store
from harness.store.locks import Lock


def lock_of(store: Store, name: str) -> Lock:
    """name: of a launch or a sweep"""
    return Lock(store.path / "locks" / f"launch-{name}.lock")
