"""The ground truth of a category's test images at the sensor's own pixels, untouched.

    FOLDER/test/index.json    ids, defects, labels, native sizes, in the order of the files
    FOLDER/test/masks.npy     the masks one after another, a bit a pixel, each from a new byte

Maps of all methods, whatever their views, are scored against these in the common protocol.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.data.samples import Category, DataError, Ref
from harness.store.frames import Size
from harness.store.prepared import INDEX

MASKS = "masks.npy"
SPLIT = "test"


@dataclass(frozen=True)
class SensorTruth:
    """What the test images of a category are: by id, since views may have them in any order."""

    ids: tuple[str, ...]
    defects: tuple[str, ...]
    labels: np.ndarray  # (N,) int64, 1 anomalous: as filed, not by mask
    sizes: tuple[Size, ...]  # of the images, px
    packed: np.ndarray  # (bytes,) uint8

    @cached_property
    def at(self) -> dict[str, int]:
        """Id -> its place."""
        return {id: i for i, id in enumerate(self.ids)}

    @cached_property
    def _starts(self) -> list[int]:
        lengths = [-(-height * width // 8) for height, width in self.sizes]
        return np.cumsum([0, *lengths]).tolist()

    def mask(self, i: int) -> np.ndarray:
        """(H, W) bool of the image at a place."""
        height, width = self.sizes[i]
        bits = np.unpackbits(self.packed[self._starts[i] : self._starts[i + 1]])
        return bits[: height * width].reshape(height, width).view(bool)


def build_truth(
    category: Category,
    folder: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 1,
) -> dict[str, int]:
    """Write the ground truth of a category into `folder`. -> how many images and defective ones"""
    refs = category.samples(SPLIT)
    masks, sizes = [], []
    with ThreadPoolExecutor(workers) as pool:
        for done, mask in enumerate(pool.map(_mask_of, refs), start=1):
            sizes.append(mask.shape)
            masks.append(np.packbits(mask))
            report(done, len(refs))
    write_truth(folder, [(ref.id, ref.defect, ref.label) for ref in refs], sizes, masks)
    return {"test": len(refs), "anomalous": sum(ref.label for ref in refs)}


def _mask_of(ref: Ref) -> np.ndarray:
    return ref.truth()


def write_truth(
    folder: Path,
    images: Sequence[tuple[str, str, int]],
    sizes: Sequence[Size],
    packed: Iterable[np.ndarray],
) -> None:
    """images: id, defect and label of each"""
    (folder / SPLIT).mkdir(parents=True, exist_ok=True)
    np.save(folder / SPLIT / MASKS, np.concatenate([*packed, np.empty(0, np.uint8)]))
    ids, defects, labels = (list(column) for column in zip(*images))
    index = {"ids": ids, "defects": defects, "labels": labels}
    index["native_sizes"] = [list(size) for size in sizes]
    (folder / SPLIT / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def read_truth(folder: Path) -> SensorTruth:
    """What `write_truth` wrote. Raises DataError naming the folder for anything else."""
    try:
        index = json.loads((folder / SPLIT / INDEX).read_text(encoding="utf-8"))
        packed = np.load(folder / SPLIT / MASKS, mmap_mode="r", allow_pickle=False)
        return SensorTruth(
            tuple(index["ids"]),
            tuple(index["defects"]),
            np.array(index["labels"], np.int64),
            tuple((height, width) for height, width in index["native_sizes"]),
            packed,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"damaged or unfinished truth in {folder}: {error}"
        raise DataError(problem, f"delete {folder} and run again", folder) from error
