"""Randomness by name: what is drawn depends on what it is for, and on nothing else.

Neither worker counts nor order nor other methods shift a draw. No torch here, so that reports may
draw by name, too.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(*names: object) -> int:
    """A 63-bit seed derived from names, e.g. seed_for("simulate", "das3d", "bagel", 0, step)."""
    return _number(names, 8) >> 1


def opaque_id(salt: str, category: str, id: str) -> str:
    """What a method sees a sample called: 16 hex digits that tell nothing of its folder.

    salt: what a method is not given, or it could look the names of all folders up
    """
    return f"{_number(('sample', salt, category, id), 8):016x}"


def generator_for(*names: object) -> np.random.Generator:
    """A generator seeded by names, e.g. generator_for("bootstrap", "mvtec3d", "bagel")."""
    return np.random.default_rng(_number(names, 16))


def _number(names: tuple, size: int) -> int:
    """The first `size` bytes of the names' digest."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big")
