"""Outlines of defects as LabelMe (one file an image) and COCO (one file for all) have them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.data.files import read_json
from harness.data.samples import DataError


@dataclass(frozen=True)
class Outlines:
    """The defects of one image. size: (H, W) px; each polygon (N, 2) x, y"""

    size: tuple[int, int]
    polygons: tuple[np.ndarray, ...]
    labels: tuple[str, ...]
    file: Path
    runs: tuple[np.ndarray, ...] = ()  # whole masks (H, W) bool

    def mask(self) -> np.ndarray:
        """(H, W) uint8, 255 where defective"""
        drawn = np.zeros(self.size, np.uint8)
        for polygon in self.polygons:
            cv2.fillPoly(drawn, [np.round(polygon).astype(np.int32)], 255)
        for run in self.runs:
            drawn[run] = 255
        return drawn


def read_annotations(paths: Iterable[Path]) -> dict[Path, Outlines]:
    """Where an image should be -> its outlines, of all JSON files that are of LabelMe or COCO."""
    found: dict[Path, Outlines] = {}
    for path in paths:
        try:
            given = read_json(path)
        except DataError:
            continue
        if "shapes" in given:
            found |= _labelme(given, path)
        elif outlined(given):
            found |= _coco(given, path)
    return found


def outlined(given: dict[str, Any]) -> bool:
    """Whether a file is LabelMe's or COCO's."""
    return "shapes" in given or ("annotations" in given and "images" in given)


def _image(named: Any, sheet: Path) -> Path:
    """The image that a file of annotations names, from its own folder."""
    return (sheet.parent / str(named).replace("\\", "/")).resolve()


def _labelme(given: dict[str, Any], path: Path) -> dict[Path, Outlines]:
    try:
        image = _image(given["imagePath"], path)
        shapes = [(_shape(s), str(s.get("label", "defect"))) for s in given["shapes"]]
        size = int(given["imageHeight"]), int(given["imageWidth"])
    except (KeyError, TypeError, ValueError) as error:
        todo = "correct it and save it again"
        raise DataError(f"{path} cannot be used as LabelMe's: {_why(error)}", todo, path) from error
    outlines, labels = tuple(s for s, _ in shapes), tuple(label for _, label in shapes)
    return {image: Outlines(size, outlines, labels, path)}


def _why(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _shape(shape: dict[str, Any]) -> np.ndarray:
    points = _points(shape["points"])
    kind = shape.get("shape_type", "polygon")
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind == "circle":
        radius = np.hypot(*(points[1] - points[0]))
        angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        return points[0] + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    if kind not in ("polygon", "linestrip"):
        raise ValueError(f"shapes of type {kind!r} have no area: outline them by polygons")
    return points


def _coco(given: dict[str, Any], path: Path) -> dict[Path, Outlines]:
    try:
        names = {c["id"]: str(c["name"]) for c in given.get("categories", ())}
        of: dict[Any, list] = defaultdict(list)
        for one in given["annotations"]:
            of[one["image_id"]].append(one)
        images = Counter(image["id"] for image in given["images"])
        vain = [one for one in of if one not in images]
        if vain:
            raise ValueError(f"image_id {vain[0]} of an annotation is of no image that it lists")
        twice = [one for one, n in images.items() if n > 1]
        if twice:
            raise ValueError(f"id {twice[0]} stands for several images")
        found = {}
        for image in given["images"]:
            size = int(image["height"]), int(image["width"])
            polygons, runs, labels = [], [], []
            for one in of[image["id"]]:
                labels.append(names.get(one.get("category_id"), "defect"))
                segments = one.get("segmentation")
                if not segments:
                    raise ValueError(
                        f"annotation {one.get('id')} has no outline, maybe a box alone"
                    )
                if isinstance(segments, dict):
                    runs.append(_runs(segments, size))
                else:
                    polygons += [_polygon(s) for s in segments]
            place = _image(image["file_name"], path)
            if place in found:
                raise ValueError(f"it lists {image['file_name']} twice")
            found[place] = Outlines(size, tuple(polygons), tuple(labels), path, tuple(runs))
    except (KeyError, TypeError, ValueError) as error:
        todo = "correct it and export it again"
        raise DataError(f"{path} cannot be used as COCO's: {_why(error)}", todo, path) from error
    return found


def _polygon(numbers: list[float]) -> np.ndarray:
    if len(numbers) % 2 or len(numbers) < 6:
        raise ValueError(f"a polygon of {len(numbers)} numbers, not of x and y in turn")
    return _points(numbers)


def _points(numbers: list) -> np.ndarray:
    """(N, 2)"""
    points = np.array(numbers, float).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("a point of an outline is not finite")
    return points


def _runs(given: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """An uncompressed run-length mask, by columns, that starts with what is not marked."""
    counts = given["counts"]
    if isinstance(counts, str):
        raise ValueError("its run lengths are compressed: export polygons, or uncompressed ones")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    if len(values) != size[0] * size[1]:
        raise ValueError(f"run lengths of {len(values)} pixels for {size[0]} x {size[1]}")
    return values.reshape(size[::-1]).T
