"""Prepared views, read back as read-only memory maps; see harness/data/views for the files."""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.samples import DataError
from harness.data.views.build import PARTS
from harness.store.prepared import INDEX, MASK
from methods.contract import Samples


@dataclass(frozen=True)
class Truth:
    """What a method must not see of a split."""

    ids: tuple[str, ...]
    defects: tuple[str, ...]  # folder names, "good" for normal samples
    labels: np.ndarray  # (N,) int64, 1 anomalous
    masks: np.ndarray  # (N, S, S) bool, memory-mapped


def open_split(folder: Path, split: str) -> tuple[Samples, Truth | None]:
    """The unlabelled samples of a split that `build_view` wrote; where it has masks, its truth."""
    if split not in PARTS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(PARTS)}")
    index = _read_index(folder, split)
    ids = tuple(index["ids"])
    arrays = {
        name: _open(folder, split, name, dtype, tuple(shape))
        for name, (dtype, shape) in index["arrays"].items()
    }
    masks = arrays.pop(MASK, None)
    if any(len(a) != len(ids) for a in arrays.values()):
        raise _damaged(folder, f"{split}/{INDEX} lists {len(ids)} ids for arrays of other lengths")
    if masks is None:
        return Samples(arrays, ids), None
    labels = np.array(index["labels"], np.int64)
    return Samples(arrays, ids), Truth(ids, tuple(index["defects"]), labels, masks)


def open_truth(folder: Path, split: str) -> tuple[Samples, Truth]:
    """As `open_split`, of a split that has masks. Raises DataError naming it if it has none."""
    samples, truth = open_split(folder, split)
    if truth is None:
        raise _damaged(folder, f"{split}/{INDEX} lists no {MASK}")
    return samples, truth


def _read_index(folder: Path, split: str) -> dict:
    path = folder / split / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _damaged(folder, f"{split}/{INDEX} is missing") from None
    except ValueError as error:
        raise _damaged(folder, f"{split}/{INDEX} is not readable ({error})") from error
    if lacking := {"ids", "defects", "labels", "arrays"} - set(index):
        raise _damaged(folder, f"{split}/{INDEX} lacks {', '.join(sorted(lacking))}")
    return index


def _open(folder: Path, split: str, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(folder / split / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise _damaged(folder, f"{split}/{name}.npy is missing") from None
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder, f"{split}/{name}.npy is not readable ({error})") from error
    if (str(array.dtype), array.shape) != (dtype, shape):
        raise _damaged(
            folder,
            f"{split}/{name}.npy is {array.dtype} {array.shape}, expected {dtype} {shape}",
        )
    return _nameless(array)


def _nameless(array: np.memmap) -> np.ndarray:
    """The same mapped bytes, without the name of their file: methods get these."""
    start = array.offset % mmap.ALLOCATIONGRANULARITY
    return np.ndarray(array.shape, array.dtype, array.base, start)


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f"damaged or unfinished view: {what}; delete {folder} and run again")
