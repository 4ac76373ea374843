"""Frames into the layout of MVTec 3D-AD (harness/data/mvtec3d.py)."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from harness.data.images import read_depth
from harness.data.importing.annotations import Outlines
from harness.data.importing.frames import Frame
from harness.data.mvtec3d import CAMERA
from harness.data.samples import DataError
from methods.errors import UserError

LIST = "import.csv"  # beside the splits: which file came from where
MILLIMETRES, METRES = 0.001, 1.0


def write(
    frames: Sequence[Frame],
    out: Path,
    category: str,
    camera: Mapping[str, float] | None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Counter:
    """Write the category, all of it or nothing; depth images need the camera's intrinsics.

    -> samples by split/defect
    """
    folder = out / category
    plain = category.strip() and category.isprintable() and category == Path(category).name
    if not plain or category.startswith("."):
        raise UserError(f"--category {category!r} is no name of a folder: give a plain word")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: give another --category, or move it away")
    inside = next((f for f in frames if f.rgb.resolve().is_relative_to(out.resolve())), None)
    if inside:
        raise UserError(f"{inside.rgb} lies in {out} itself: give another folder for the dataset")
    calibration = _calibration(frames, camera)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        counts = _write(frames, folder, calibration, report)
    except BaseException:
        shutil.rmtree(made[-1] if made else folder, ignore_errors=True)
        raise
    return counts


def calibrated(frames: Sequence[Frame], camera: Mapping[str, float] | None) -> bool:
    """Whether the unit of the depth images is told, and not taken for granted."""
    return not any(f.is_depth for f in frames) or "depth_scale" in (camera or {})


def _calibration(
    frames: Sequence[Frame], camera: Mapping[str, float] | None
) -> dict[str, float] | None:
    """What the layout has to know of the camera; None for clouds. DataError where it lacks."""
    kinds = {(f.split, f.defect): f.is_depth for f in frames}
    if mixed := next((f for f in frames if kinds[f.split, f.defect] != f.is_depth), None):
        raise DataError(
            f"{mixed.split}/{mixed.defect} has both depth images and clouds",
            "import them one after the other, into two categories",
        )
    if not any(frame.is_depth for frame in frames):
        return None
    if camera is None:
        raise DataError(
            "depth images need their camera, and no JSON file here holds one",
            "give it with --camera FILE: fx, fy, cx, cy (or ppx, ppy; or K), or write one from "
            "your driver's intrinsics",
        )
    return {"depth_scale": _scale([f.points for f in frames if f.is_depth]), **camera}


def _write(
    frames: Sequence[Frame],
    folder: Path,
    calibration: Mapping[str, float] | None,
    report: Callable[[int, int], None],
) -> Counter:
    counts: Counter = Counter()
    rows = []
    for done, frame in enumerate(frames, start=1):
        place = Path(frame.split) / _safe(frame.defect)
        name = f"{counts[str(place)]:03}"
        counts[str(place)] += 1
        part = "depth" if frame.is_depth else "xyz"
        for kind, source in (("rgb", frame.rgb), (part, frame.points), ("gt", frame.mask)):
            if source is None:
                continue
            target = folder / place / kind / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, Outlines):
                target = target.with_suffix(".png")
                Image.fromarray(source.mask()).save(target)
                source = source.file
            else:
                target = target.with_suffix(source.suffix.lower())
                link_or_copy(source, target)
            rows.append((target.relative_to(folder), source))
        report(done, len(frames))
    if calibration:
        (folder / CAMERA).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(calibration, indent=1) + "\n"
        (folder / CAMERA).write_text(text, encoding="utf-8")
    with (folder / LIST).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "from"), *rows])
    return counts


def link_or_copy(source: Path, target: Path) -> None:
    """A second name of the same file; a copy where the file system has no such.

    Raises FileExistsError: written over, a second name would change the file that it names.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "is there already", os.fspath(target))
    try:
        os.link(source.resolve(strict=True), target)
    except OSError:
        shutil.copy2(source, target)


def _scale(depths: Sequence[Path]) -> float:
    """Metres per unit, where the camera does not say: scenes are between 2 cm and 20 m away."""
    depth = read_depth(depths[0])
    return MILLIMETRES if depth.dtype == np.uint16 else METRES


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "defect"
