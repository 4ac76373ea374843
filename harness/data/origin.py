"""What is recorded of the data that results stand for (harness/store/origin.py)."""

from __future__ import annotations

from typing import Any

from harness.data.datasets import MANIFEST
from harness.data.samples import SPLITS, Category


def origin(category: Category) -> dict[str, Any]:
    """made, files and samples, from the listing of a category that has test samples."""
    refs = {split: category.examine(split)[0] for split in SPLITS}
    first = refs["test"][0]
    return {
        "made": (category.folder / MANIFEST).exists(),
        "files": [path.suffix.lower() for path in (first.rgb, first.xyz)],
        "samples": {split: len(found) for split, found in refs.items()},
    }
