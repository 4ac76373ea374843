"""Eyecandies on disk, as published (Bonfiglioli et al., ACCV 2022); nothing is converted.

    ROOT/<Category>/{train,val,test_public}/data/<number>_<item>.{png,yaml,txt}

Items of a sample: image_0 ... image_5, one per light; depth, 16 bit, and the metres it stands
for in info_depth; pose; metadata with the label; mask. test_private has no labels and is left
alone. The number of digits differs between the splits. Facts and formulas:
harness/data/README.md, section 3.
"""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.files import read_yaml
from harness.data.samples import SPLITS, Category, DataError, Ref, Sample
from methods.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from harness.data.oddities import Oddity

log = logging.getLogger(__name__)

LAYOUT = "<Category>/{train,test_public}/data/<number>_{image_5.png,depth.png,info_depth.yaml,...}"
FOLDERS = {"train": "train", "validation": "val", "test": "test_public"}
LIGHTS = ("all four spots", "bottom", "right", "top", "left", "environment")  # image_0 ...
GEOMETRIES = ("camera", "m3dm")
PUBLISHED_COUNTS = {
    "train": {"good": 1000},
    "validation": {"good": 100},
    "test": {"good": 25, "bad": 25},
}
CATEGORIES = (
    "CandyCane",
    "ChocolateCookie",
    "ChocolatePraline",
    "Confetto",
    "GummyBear",
    "HazelnutTruffle",
    "LicoriceSandwich",
    "Lollipop",
    "Marshmallow",
    "PeppermintCandy",
)

SIZE_PX = 512  # width and height; the focal length is published for it

_NAME = re.compile(r"(\d+)_(.+)\.(png|yaml|txt)", re.IGNORECASE)
_EXTENSIONS = {"info_depth": "yaml", "metadata": "yaml", "pose": "txt"}  # the others: png


@dataclass(frozen=True)
class Options:
    """How the files are read.

    light: the image taken as RGB, 5 the environment light, which M3DM's paper names; M3DM's
    code takes 4, the dataset's example 0. geometry: "camera", points in the camera's frame, or
    "m3dm", what M3DM's converter makes: conveyor removed, axes (x, z, -y) of a frame turned by
    the inverse pose.
    """

    light: int = 5
    geometry: str = "camera"
    scale: float = 0.1  # M3DM's factor: brings the scenes to the size of MVTec's, for which
    # every threshold in millimetres was made
    focal_px: float = 711.11  # at 512 px width, in proportion at others (the dataset's page)

    def __post_init__(self):
        if self.light not in range(len(LIGHTS)):
            known = ", ".join(f"{i} {name}" for i, name in enumerate(LIGHTS))
            raise UserError(f"no light {self.light!r}; known: {known}")
        if self.geometry not in GEOMETRIES:
            raise UserError(f"unknown geometry {self.geometry!r}; known: {', '.join(GEOMETRIES)}")
        if not 0 < self.scale < math.inf or not 0 < self.focal_px < math.inf:
            raise UserError(f"scale {self.scale} and focal_px {self.focal_px} must be above 0")

    @property
    def items(self) -> tuple[str, ...]:
        """What every sample needs."""
        pose = ("pose",) if self.geometry == "m3dm" else ()
        return (f"image_{self.light}", "depth", "info_depth", *pose)

    @property
    def wanted(self) -> set[str]:
        """What is read where it is there."""
        return {*self.items, "metadata", "mask"}


@dataclass(frozen=True)
class EyecandiesRef(Ref):
    info: Path = Path()
    pose: Path | None = None
    metadata: Path | None = None
    by_mask: bool = False  # labelled by its mask, for want of metadata
    options: Options = Options()

    def load(self) -> Sample:
        from harness.data import eyecandies_scan

        self._check_label()
        return eyecandies_scan.load(self)

    def truth(self) -> np.ndarray:
        from harness.data.images import mask_or_empty

        return mask_or_empty(self.gt, self.rgb)

    def oddities(self, sample: Sample) -> list[Oddity]:
        from harness.data import eyecandies_scan

        return eyecandies_scan.oddities(self, super().oddities(sample))

    def verify(self, sample: Sample | None = None) -> tuple[tuple[int, int], list[Oddity]]:
        """Opens the images of the other lights too."""
        from harness.data import eyecandies_scan

        size, found = super().verify(sample)
        return size, found + eyecandies_scan.of_other_lights(self, size)

    def _check_label(self) -> None:
        """Train and val are taken as normal without a look at every file; here is the look."""
        if self.split != "test" and self.metadata and _anomalous(self.metadata):
            raise DataError(
                f"{self.metadata} says anomalous, in {FOLDERS[self.split]}",
                "only normal samples belong there: move its files to test_public",
                self.metadata,
            )


@dataclass(frozen=True)
class EyecandiesCategory(Category):
    options: Options = Options()

    def list_split(self, split: str) -> tuple[list[EyecandiesRef], list[DataError]]:
        found, faults = _samples(self._data(split), self.options.wanted)
        refs: list[EyecandiesRef] = []
        for name, items in found.items():
            try:
                self._require(split, name, items, self.options.items)
                defect, by_mask = self._label(split, name, items)
            except DataError as fault:
                faults.append(fault)
                continue
            gt = items.get("mask") if split == "test" else None
            refs.append(
                EyecandiesRef(
                    self.name,
                    split,
                    defect,
                    name,
                    items[f"image_{self.options.light}"],
                    items["depth"],
                    gt,
                    items["info_depth"],
                    items.get("pose"),
                    items.get("metadata"),
                    by_mask,
                    self.options,
                )
            )
        self._tell_doubts(split, refs)
        return refs, faults

    def files(self) -> list[Path]:
        wanted = self.options.wanted
        return [path for split in SPLITS for _, _, path in _listed(self._data(split), wanted)]

    def where(self, split: str) -> str:
        hint = ""
        if split == "test" and (self.folder / "test_private").is_dir():
            hint = " (test_private has no labels)"
        return f"{self._data(split)}{hint}"

    def _data(self, split: str) -> Path:
        return self.folder / FOLDERS[split] / "data"

    def _require(self, split: str, name: str, items: dict, needed: tuple[str, ...]) -> None:
        if lacking := [item for item in needed if item not in items]:
            names = (f"{name}_{item}.{_EXTENSIONS.get(item, 'png')}" for item in lacking)
            paths = [self._data(split) / name for name in names]
            raise DataError(
                f"{' and '.join(map(str, paths))} is missing beside {next(iter(items.values()))}",
                f"restore it or remove all files of sample {name}",
                paths[0],
            )

    def _label(self, split: str, name: str, items: dict) -> tuple[str, bool]:
        """ "good" or "bad", and whether only the mask says so."""
        if split != "test":
            return "good", False
        says = _anomalous(items["metadata"]) if "metadata" in items else None
        if says is None or says:
            self._require(split, name, items, ("mask",))
        bad = _marked(items["mask"]) if says is None else says
        return "bad" if bad else "good", says is None

    def _tell_doubts(self, split: str, refs: list[EyecandiesRef]) -> None:
        doubtful = sum(ref.by_mask for ref in refs)
        if not doubtful:
            return
        masks = sum(_marked(ref.gt) for ref in refs if ref.gt)
        log.warning(
            "label_from_mask category=%s split=%s samples=%d: no `anomalous` in their metadata; "
            "anomalous by label %d, by mask %d, of %d",
            self.name,
            FOLDERS[split],
            doubtful,
            sum(ref.label for ref in refs),
            masks,
            len(refs),
        )


def make_category(name: str, folder: Path, options: Options) -> Category:
    return EyecandiesCategory(name, folder, options)


def is_category(folder: Path) -> bool:
    return any((folder / split / "data").is_dir() for split in FOLDERS.values())


def published(name: str) -> dict[str, dict[str, int]] | None:
    """split -> samples by label, the same for all categories of the dataset."""
    return PUBLISHED_COUNTS if name in CATEGORIES else None


def published_size(name: str) -> tuple[int, int]:
    """Rows and columns of a category's images."""
    return SIZE_PX, SIZE_PX


def _samples(folder: Path, wanted: set[str]) -> tuple[dict[str, dict[str, Path]], list[DataError]]:
    """The files of a data folder: the sample's number as written -> item -> file."""
    names: dict[int, str] = {}
    found: dict[str, dict[str, Path]] = {}
    faults = []
    for digits, item, path in _listed(folder, wanted):
        items = found.setdefault(names.setdefault(int(digits), digits), {})
        if item in items:
            faults.append(
                DataError(
                    f"{path} and {items[item].name} are both {item} of sample {int(digits)}",
                    "keep the right one of them",
                    path,
                )
            )
        items.setdefault(item, path)
    return found, faults


def _listed(folder: Path, wanted: set[str]) -> list[tuple[str, str, Path]]:
    """(digits, item, path) of the wanted items, sorted by name"""
    if not folder.is_dir():
        return []
    matches = filter(None, map(_NAME.fullmatch, sorted(os.listdir(folder))))
    return [(m[1], m[2].lower(), folder / m[0]) for m in matches if m[2].lower() in wanted]


def _anomalous(path: Path) -> bool | None:
    """The label in a metadata file; None if it has none."""
    value = read_yaml(path).get("anomalous")
    if value is None:
        return None
    if value not in (0, 1):
        raise DataError(f"{path}: anomalous is {value!r}; expected 0 or 1", "restore it", path)
    return bool(value)


def _marked(mask: Path) -> bool:
    """Whether a mask marks anything."""
    from harness.data.images import read_mask

    return bool(read_mask(mask).any())
