"""Samples as files, in the folder layout of MVTec 3D-AD."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import tifffile
from PIL import Image

from .sample import make_sample
from .spec import Spec, require_category

VERSION = 1                   # raise when the same spec gives other files
MANIFEST = "manifest.json"
README = """\
{category}: computed images of an object that does not exist, in the layout of MVTec 3D-AD.

{{train,validation,test}}/<defect>/rgb/NNN.png   colour, 8 bit
{{train,validation,test}}/<defect>/xyz/NNN.tiff  points in metres, camera frame, 0 0 0 = missing
test/<defect>/gt/NNN.png                       anomalous pixels, values as in class_ids.json
manifest.json                                  the settings, and what was drawn for each sample
"""


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
    if _is_complete(final, settings):
        return
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    part = Part(root / f".{category}-{digest}.part")
    try:
        _fill(part, category, spec, report, workers)
        samples = {_name(*sample): part.drawn(*sample) for sample in _samples(category, spec)}
        part.write(part.tree / MANIFEST, _json({"settings": settings, "samples": samples}))
        os.rename(part.tree, final)
    except OSError:
        if not _is_complete(final, settings):      # else another process has just finished it
            raise
    shutil.rmtree(part.folder, ignore_errors=True)


class Part:
    """An unfinished category: `tree` is what will be published, `work` what will not."""

    def __init__(self, folder: Path):
        self.folder, self.tree, self.work = folder, folder / "tree", folder / "work"

    def write(self, path: Path, content) -> None:
        """Write bytes, or whatever a function of an open file writes; never half a file."""
        half = self.work / f"{uuid.uuid4().hex}.half"
        with open(half, "wb") as file:
            content(file) if callable(content) else file.write(content)
        os.replace(half, path)

    def finish_sample(self, split: str, defect: str, index: int, drawn: dict) -> None:
        self.write(self._drawn_path(split, defect, index), _json(drawn))

    def has_sample(self, split: str, defect: str, index: int) -> bool:
        return self._drawn_path(split, defect, index).exists()

    def drawn(self, split: str, defect: str, index: int) -> dict:
        return json.loads(self._drawn_path(split, defect, index).read_text())

    def _drawn_path(self, *sample) -> Path:
        return self.work / f"{_name(*sample).replace('/', '-')}.json"


def _settings(category: str, spec: Spec) -> dict:
    """All that determines the files of a category."""
    return {
        "version": VERSION,
        "category": category,
        "height": spec.camera.height,
        "width": spec.camera.width,
        "seed": spec.seed,
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
        for name, value in wanted.items() if found.get(name) != value
    )


def _samples(category: str, spec: Spec):
    for folder, count in spec.counts(category).items():
        split, defect = folder.split("/")
        for index in range(count):
            yield split, defect, index


def _fill(part: Part, category: str, spec: Spec, report, workers: int) -> None:
    part.work.mkdir(parents=True, exist_ok=True)
    for folder in spec.counts(category):
        for kind in ("rgb", "xyz", "gt") if folder.startswith("test") else ("rgb", "xyz"):
            (part.tree / folder / kind).mkdir(parents=True, exist_ok=True)
    (part.tree / "calibration").mkdir(exist_ok=True)
    camera = {name: getattr(spec.camera, name) for name in ("f", "cx", "cy", "width", "height")}
    part.write(part.tree / "calibration/camera_parameters.json", _json(camera))
    part.write(part.tree / "class_ids.json", _json(_settings(category, spec)["class_ids"]))
    part.write(part.tree / "readme.txt", README.format(category=category).encode())

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
    rgb, xyz, mask, drawn = make_sample(category, split, defect, index, spec)
    folder, name = part.tree / split / defect, f"{index:03d}"
    part.write(folder / f"rgb/{name}.png", lambda f: Image.fromarray(rgb).save(f, "PNG"))
    # No description, software or date tags: equal arrays must give equal bytes.
    part.write(folder / f"xyz/{name}.tiff", lambda f: tifffile.imwrite(
        f, xyz, photometric="rgb", metadata=None, software=False, byteorder="<"))
    if split == "test":
        part.write(folder / f"gt/{name}.png", lambda f: Image.fromarray(mask).save(f, "PNG"))
    part.finish_sample(split, defect, index, drawn)


def _name(split: str, defect: str, index: int) -> str:
    return f"{split}/{defect}/{index:03d}"


def _json(value) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
