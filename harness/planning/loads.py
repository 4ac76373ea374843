"""Counted loads, kept in the user's cache: counting builds networks, which takes seconds and torch.

They are those of a method's code, so a change of it counts anew.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
from collections.abc import Callable
from dataclasses import astuple
from importlib import metadata
from pathlib import Path

from methods import code
from methods.files import cache, read_cache, write_cache
from methods.load import Load


class Kept:
    """Name of what is counted -> its load, or None where nothing can be counted."""

    def __init__(self, path: Path):
        self.path, self.fresh, self.known = path, False, read_cache(path)

    def get(self, name: str, count: Callable[[], Load | None]) -> Load | None:
        digest = hashlib.sha256(name.encode()).hexdigest()[:24]
        if digest not in self.known:
            load = count()
            self.known[digest] = None if load is None else astuple(load)
            if not self.fresh:
                atexit.register(self.keep)
            self.fresh = True
        found = self.known[digest]
        return None if found is None else Load(*found)

    def keep(self) -> None:
        write_cache(self.path, self.known)


@functools.cache
def kept() -> Kept | None:
    """Those of this installation; None where there is no torch to count by."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None
    sources = code.ours()
    files = sorted((sources.root / "methods").rglob("*.py"))
    said = [sources.read(str(path.relative_to(sources.root))).meaning for path in files]
    of = " ".join([torch, *said])
    return Kept(cache(f"loads-{hashlib.sha256(of.encode()).hexdigest()[:16]}.json"))
