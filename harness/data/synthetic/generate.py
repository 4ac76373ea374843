"""Whole categories as files, in the layout of MVTec 3D-AD or of Eyecandies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from harness.data.datasets import MANIFEST
from harness.store.files import sync_tree
from methods.files import sync_folder

from . import as_eyecandies, as_mvtec3d
from .part import Part, json_bytes, sample_name
from .spec import VERSION, Spec, require_category

LAYOUTS = {"mvtec3d": as_mvtec3d, "eyecandies": as_eyecandies}


def write_category(
    root: Path,
    category: str,
    spec: Spec,
    report: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 1,
) -> None:
    """Write <root>/<category>, or nothing if it is already there with the same settings.

    Samples are collected in a hidden folder beside it, which gets its name when all are there.
    After a kill the next call goes on with the samples that are missing; several processes may
    do the same work at the same time, since they write the same bytes.
    """
    require_category(category)
    root = Path(root)
    final, settings = root / category, _settings(category, spec)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    part = Part(root / f".{category}-{digest}.part")
    if _is_complete(final, settings):
        shutil.rmtree(part.folder, ignore_errors=True)  # of one that was killed at its very end
        return
    try:
        _fill(part, category, spec, report, workers)
        samples = {sample_name(*sample): part.drawn(*sample) for sample in _samples(category, spec)}
        part.write(part.tree / MANIFEST, json_bytes({"settings": settings, "samples": samples}))
        sync_tree(part.tree)  # its name says that all is there
        os.rename(part.tree, final)
        sync_folder(root)
    except OSError:
        if not _is_complete(final, settings):  # else another process has just finished it
            raise
    shutil.rmtree(part.folder, ignore_errors=True)


def _settings(category: str, spec: Spec) -> dict:
    """All that determines the files of a category."""
    return {
        "version": VERSION,
        "category": category,
        "height": spec.camera.height,
        "width": spec.camera.width,
        "seed": spec.seed,
        "layout": spec.layout,
        "counts": spec.counts(category),
        "class_ids": {str(value): kind for value, kind in spec.class_ids(category).items()},
    }


def _is_complete(folder: Path, settings: dict) -> bool:
    if not folder.exists():
        return False
    path = folder / MANIFEST
    found = json.loads(path.read_text())["settings"] if path.exists() else None
    if found == settings:
        return True
    raise FileExistsError(
        f"{folder} exists and was not generated with these settings "
        f"({'no ' + MANIFEST if found is None else _difference(found, settings)}); "
        "remove it or choose another root"
    )


def _difference(found: dict, wanted: dict) -> str:
    return ", ".join(
        f"{name}: {found.get(name)!r} there, {value!r} wanted"
        for name, value in wanted.items()
        if found.get(name) != value
    )


def _samples(category: str, spec: Spec):
    for folder, count in spec.counts(category).items():
        split, defect = folder.split("/")
        for index in range(count):
            yield split, defect, index


def _fill(part: Part, category: str, spec: Spec, report, workers: int) -> None:
    part.work.mkdir(parents=True, exist_ok=True)
    layout = LAYOUTS[spec.layout]
    for folder in layout.folders(category, spec):
        (part.tree / folder).mkdir(parents=True, exist_ok=True)
    for name, content in layout.notes(category, spec).items():
        part.write(part.tree / name, content)

    samples = list(_samples(category, spec))
    missing = [s for s in samples if not part.has_sample(*s)]
    done = len(samples) - len(missing)
    report(done, len(samples))
    for _ in _each(workers, [(part, category, *sample, spec) for sample in missing]):
        done += 1
        report(done, len(samples))


def _each(workers: int, calls):
    """Write the samples, here or in `workers` processes; yield as each is done."""
    if workers <= 1 or len(calls) <= 1:
        for call in calls:
            yield _write_sample(*call)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(_write_sample, *call) for call in calls]
        try:
            for future in as_completed(pending):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_sample(part: Part, category: str, split: str, defect: str, index: int, spec: Spec):
    written: list[str] = []

    def put(path: str, content) -> None:
        part.write(part.tree / path, content)
        written.append(path)

    drawn = LAYOUTS[spec.layout].write_sample(put, category, split, defect, index, spec)
    part.finish_sample(split, defect, index, drawn, written)
