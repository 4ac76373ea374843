"""From samples to the arrays a method sees: one builder per recipe of methods/views.py.

A split in a view's folder:

    FOLDER/<split>/<array>.npy    (N, ...) one row a sample, in the order of ids
    FOLDER/<split>/mask.npy       test, simulated: the ground truth, cut and resized like the view
    FOLDER/<split>/index.json     ids, defects, labels, native sizes, quality, shapes; written last
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.data import registered
from harness.data.samples import SPLITS, Category, Ref, Sample
from harness.data.views import quality, simulated
from harness.data.views.choice import resolved
from harness.data.views.reference import Reference, measure
from harness.data.views.registry import Builder, builder_of
from harness.store.frames import Frame, Size, frames_told
from harness.store.prepared import INDEX, MASK
from methods.declaration import View
from methods.seeds import seed_for

PARTS = (*SPLITS, simulated.SPLIT)  # what a view holds of a category
MASKED = ("test", simulated.SPLIT)


def prepare(sample: Sample, view: View) -> dict[str, np.ndarray]:
    """The arrays of one sample in a view, "mask" among them, before what needs all samples."""
    seed = seed_for("plane", sample.category, sample.id)
    made = builder_of(type(view)).prepare(sample, view, seed)
    if why := _unfit(made):
        raise TypeError(f"view {view.name!r} of {sample.category}/{sample.id}: {why}")
    return made


def _unfit(made: Any) -> str:
    """Why what a view's `prepare` returned cannot be stored; "" if it can."""
    if not isinstance(made, dict):
        return f"prepare returned {made!r:.60}; it must be a dict of arrays"
    for name, array in made.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            what = getattr(array, "dtype", type(array).__name__)
            return f"prepare returned {name!r} as {what}; it must be an array of numbers or bool"
    if MASK not in made or made[MASK].ndim != 2:
        there = f" with {made[MASK].ndim} axes" if MASK in made else ""
        return f"prepare returned no {MASK!r} (rows, columns){there}; it has {', '.join(made)}"
    return ""


def _frame(builder: Builder[Any], view: View, size: Size) -> Frame:
    found = builder.frame(view, size)
    if not isinstance(found, Frame):
        raise TypeError(
            f"view {view.name!r}: frame returned {found!r:.60}; it must be a "
            "harness.store.frames.Frame"
        )
    return found


def build_view(
    category: Category,
    view: View,
    folder: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 1,
) -> dict:
    """Write all splits of a category in one view into `folder`, whatever it held of them before,
    and the simulated defects of its validation samples as one more.

    Samples stream through, so memory does not grow with the category. The files are the same
    for any number of workers. These are threads: of the work on a scan of 400 to 800 px, three
    quarters to five sixths run outside Python's lock, so about four workers are of use.
    -> {"samples": {split: N}, "seconds": ..., "seconds_per_sample": ..., "quality": as in
    quality.py, "frames": the way back to the sensor's pixels (harness/store/frames.py),
    "learnt": what the training samples decided (registry.py), "background": what was chosen for
    "auto" and why}
    """
    builder = builder_of(type(view))
    started = time.perf_counter()
    view, choice = resolved(category, view)
    # of own data; the published ones are what their papers were written about
    odd = [one.code for one in registered.of_category(category)] if choice else []
    real = {split: category.samples(split) for split in SPLITS}
    refs: dict[str, Sequence[Ref | simulated.Simulated]] = {
        **real,
        simulated.SPLIT: simulated.simulate(real["validation"], view.background),
    }
    total = sum(len(found) for found in refs.values())
    _empty(folder)

    def prepared(ref: Ref | simulated.Simulated) -> tuple[Reference, dict[str, np.ndarray]]:
        sample = ref.read()
        frame = _frame(builder, view, sample.mask.shape)
        return measure(sample, frame), prepare(sample, view)

    done, rows = 0, {}
    seen: dict[str, list[Reference]] = {split: [] for split in PARTS}
    with _one_opencv_thread(), ThreadPoolExecutor(workers) as pool:
        for split in PARTS:  # train first: it is never empty and gives the others' shapes
            with _Rows(folder / split, len(refs[split])) as rows[split]:
                for reference, arrays in _in_order(pool, prepared, refs[split], workers):
                    if split not in MASKED:
                        del arrays[MASK]
                    rows[split].write(arrays)
                    seen[split].append(reference)
                    done += 1
                    report(done, total)
                if not refs[split]:
                    rows[split].create(rows["train"].like)
    learnt = builder.learn(rows["train"].mapped(), view) if builder.learn else {}
    if builder.finish:
        for split in PARTS:
            arrays = rows[split].mapped()
            builder.finish(arrays, view, learnt)
            for array in arrays.values():
                array.flush()
            for name in rows[split].like.keys() - arrays.keys():
                rows[split].remove(name)
    made = {split: rows[split].mapped() for split in PARTS}
    found = quality.judge(seen, made, view, odd)
    for split in PARTS:
        _write_index(folder / split, refs[split], seen[split], found[split], rows[split])
    seconds = time.perf_counter() - started
    native = {reference.size for split in PARTS for reference in seen[split]}
    return {
        "samples": {split: len(refs[split]) for split in PARTS},
        "seconds": seconds,
        "seconds_per_sample": seconds / total,
        "quality": quality.summary(found),
        "frames": frames_told((size, builder.frame(view, size)) for size in native),
        "learnt": learnt,
    } | ({"background": {"chosen": choice.name, "why": choice.why}} if choice else {})


def link_view(made: Path, folder: Path) -> None:
    """Give `folder` the files of a view that lies in `made`, whatever it held of them before.

    They are the same files under second names, and copies where the file system has no such.
    """
    _empty(folder)
    for split in PARTS:
        for file in sorted((made / split).iterdir()):
            try:
                os.link(file, folder / split / file.name)
            except OSError:
                shutil.copy2(file, folder / split / file.name)


def _empty(folder: Path) -> None:
    for split in PARTS:
        shutil.rmtree(folder / split, ignore_errors=True)
        (folder / split).mkdir(parents=True)


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


class _Rows:
    """The .npy files of one split, written one sample at a time.

    Not by memory maps: the pages of a mapped file count as memory of the process until the
    kernel takes them back, so that a large category would seem, and in a container be, too much.
    """

    def __init__(self, folder: Path, n: int):
        self.folder, self.n, self.files, self.like = folder, n, {}, {}

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_) -> None:
        for file in self.files.values():
            with file:
                file.flush()
                os.fsync(file.fileno())

    def create(self, like: dict[str, np.ndarray]) -> None:
        """Files for n rows such as `like`."""
        self.like = {name: np.empty_like(array) for name, array in like.items()}
        for name, array in like.items():
            self.files[name] = open(self.folder / f"{name}.npy", "wb")  # noqa: SIM115 (until `close`)
            header = np.lib.format.header_data_from_array_1_0(array)
            header["shape"] = (self.n, *array.shape)
            np.lib.format.write_array_header_1_0(self.files[name], header)

    def write(self, arrays: dict[str, np.ndarray]) -> None:
        if not self.files:
            self.create(arrays)
        for name, like in self.like.items():
            made = arrays.get(name)
            if made is None or (made.dtype, made.shape) != (like.dtype, like.shape):
                now = "there is none" if made is None else f"it is {made.dtype} {made.shape}"
                raise ValueError(
                    f"the view's {name!r} is {like.dtype} {like.shape} of the first sample, and "
                    f"{now} of another: all must have one type and shape"
                )
            self.files[name].write(np.ascontiguousarray(arrays[name]))

    def remove(self, name: str) -> None:
        (self.folder / f"{name}.npy").unlink()
        del self.like[name]

    def mapped(self) -> dict[str, np.memmap]:
        """The written arrays, to be changed in place."""
        return {name: np.load(self.folder / f"{name}.npy", mmap_mode="r+") for name in self.like}


def _write_index(
    folder: Path,
    refs: Sequence[Ref | simulated.Simulated],
    seen: Sequence[Reference],
    found: Sequence[quality.Quality],
    rows: _Rows,
) -> None:
    index = {
        "ids": [ref.id for ref in refs],
        "defects": [ref.defect for ref in refs],
        "labels": [ref.label for ref in refs],
        "native_sizes": [list(reference.size) for reference in seen],
        "quality": [one.plain() for one in found],
        "arrays": {
            name: [str(array.dtype), [len(refs), *array.shape]] for name, array in rows.like.items()
        },
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
