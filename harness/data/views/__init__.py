"""From samples to the arrays a method sees: one builder per recipe of methods/views.py.

A split in a view's folder:

    FOLDER/<split>/<array>.npy    (N, ...) one row a sample, in the order of ids
    FOLDER/<split>/mask.npy       test only: the ground truth, cut and resized like the view
    FOLDER/<split>/index.json     ids, defects, labels, native sizes, shapes; written last
"""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from harness.data.mvtec3d import SPLITS, Category, Ref, Sample
from harness.data.views import das3d, dsr3d
from methods.contract import View, seed_for
from methods.views import Das3dView, Dsr3dView

VERSION = 1                   # raise when the same recipe gives other arrays
INDEX, MASK = "index.json", "mask"


@dataclass(frozen=True)
class Builder:
    """prepare: one sample -> named arrays, "mask" among them; finish: what needs all of them."""

    prepare: Callable[[Sample, View, int], dict[str, np.ndarray]]
    finish: Callable[[dict[str, dict[str, np.ndarray]], View], None]


BUILDERS: dict[type[View], Builder] = {
    Das3dView: Builder(das3d.prepare, das3d.finish),
    Dsr3dView: Builder(dsr3d.prepare, dsr3d.finish),
}


def build_view(
    category: Category,
    view: View,
    folder: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 1,
) -> dict:
    """Write all splits of a category in one view into `folder`, whatever it held of them before.

    Samples stream through, so memory does not grow with the category. The files are the same
    for any number of workers (threads: reading and the array work run outside Python's lock).
    -> {"samples": {split: N}, "seconds": ..., "seconds_per_sample": ...}
    """
    if type(view) not in BUILDERS:
        known = ", ".join(known.__name__ for known in BUILDERS)
        raise ValueError(f"no builder for {type(view).__name__}; known views: {known}")
    builder, started = BUILDERS[type(view)], time.perf_counter()
    refs = {split: category.samples(split) for split in SPLITS}
    total = sum(len(found) for found in refs.values())
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
        (folder / split).mkdir(parents=True)

    def prepare(ref: Ref) -> tuple[tuple[int, int], dict[str, np.ndarray]]:
        seed = seed_for("plane", category.name, ref.id)
        sample = ref.read()
        return sample.mask.shape, builder.prepare(sample, view, seed)

    done, written, sizes, like = 0, {}, {}, {}
    with _one_opencv_thread(), ThreadPoolExecutor(workers) as pool:
        for split in SPLITS:    # train first: it is never empty and gives the others' shapes
            sizes[split] = []
            for i, (size, arrays) in enumerate(_in_order(pool, prepare, refs[split], workers)):
                mask = arrays.pop(MASK)
                if split == "test":
                    arrays[MASK] = mask
                if i == 0:
                    written[split] = _allocate(folder / split, len(refs[split]), arrays)
                    like = like or arrays
                for name, array in arrays.items():
                    written[split][name][i] = array
                sizes[split].append(list(size))
                done += 1
                report(done, total)
            if not refs[split]:
                written[split] = _allocate(folder / split, 0, like)
    builder.finish(written, view)
    for split in SPLITS:
        for array in written[split].values():
            array.flush()
        _write_index(folder / split, refs[split], sizes[split], written[split])
    seconds = time.perf_counter() - started
    return {
        "samples": {split: len(refs[split]) for split in SPLITS},
        "seconds": seconds,
        "seconds_per_sample": seconds / total,
    }


def _in_order(
    pool: ThreadPoolExecutor, function: Callable, items: Iterable, workers: int
) -> Iterator:
    """Results in the order of `items`, with at most two unfinished items a worker."""
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class _one_opencv_thread:
    """Samples are the unit of parallel work; OpenCV's own threads would only get in the way."""

    def __enter__(self) -> None:
        self.before = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def __exit__(self, *_) -> None:
        cv2.setNumThreads(self.before)


def _allocate(folder: Path, n: int, like: dict[str, np.ndarray]) -> dict[str, np.memmap]:
    """One .npy file of n rows per array."""
    return {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=array.dtype, shape=(n, *array.shape)
        )
        for name, array in like.items()
    }


def _write_index(folder: Path, refs: list[Ref], sizes: list, arrays: dict) -> None:
    index = {
        "ids": [ref.id for ref in refs],
        "defects": [ref.defect for ref in refs],
        "labels": [ref.label for ref in refs],
        "native_sizes": sizes,
        "arrays": {name: [str(a.dtype), list(a.shape)] for name, a in arrays.items()},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
