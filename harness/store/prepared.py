"""What a view left of a split, read without knowing its recipe (harness/data/views writes it).

jobs/KEY/<split>/index.json    ids, defects, labels, native sizes, shapes of the arrays
jobs/KEY/<split>/<array>.npy   (N, ...) one row a sample, in the order of ids
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

INDEX, MASK = "index.json", "mask"


@dataclass(frozen=True)
class Prepared:
    """A split of a view. folder: <view>/<split>"""

    folder: Path

    @property
    def exists(self) -> bool:
        return (self.folder / INDEX).exists()

    @cached_property
    def index(self) -> dict[str, Any]:
        return json.loads((self.folder / INDEX).read_text(encoding="utf-8"))

    @cached_property
    def at(self) -> dict[str, int]:
        """Id -> its row."""
        return {id: i for i, id in enumerate(self.index["ids"])}

    @property
    def native_sizes(self) -> dict[str, tuple[int, int]]:
        """Id -> (H, W) of the sample's own files, px."""
        sizes = self.index["native_sizes"]
        return {id: (height, width) for id, (height, width) in zip(self.index["ids"], sizes)}

    def array(self, name: str) -> np.ndarray | None:
        """All rows of an array, mapped from its file; None if the view has no such array."""
        path = self.folder / f"{name}.npy"
        if not path.exists():
            return None
        return np.load(path, mmap_mode="r", allow_pickle=False)
