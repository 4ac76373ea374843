"""MVTec 3D-AD on disk, and user data in its layout.

    ROOT/<category>/train/good/{rgb,xyz}/NNN.{png,tiff}
    ROOT/<category>/validation/good/...                      may be absent
    ROOT/<category>/test/{good,<defect>}/{rgb,xyz,gt}/...    gt may be absent for good

xyz is an organised cloud in metres, (0, 0, 0) where the sensor saw nothing; gt holds a class
id per defect type, so every value above 0 is a defect. User data may have other formats of files
(images.py, clouds.py), in depth/ in place of xyz/ depth images with the camera in
ROOT/<category>/calibration/camera_parameters.json, and in mask/ what of an image is the object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.files import below, check_name, check_seen, folders, is_folder
from harness.data.folder import (
    GEOMETRY,
    PARTS,
    by_stem,
    geometry,
    lacking,
    no_camera,
    of_part,
)
from harness.data.formats import BITS, NONFINITE
from harness.data.samples import SPLITS, Category, DataError, Ref, Sample, split_meant
from methods.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from harness.data.oddities import Oddity

LAYOUT = "<category>/train/good/{rgb,xyz} and <category>/test/<defect>/{rgb,xyz,gt}"
CAMERA = "calibration/camera_parameters.json"

FURTHEST_M = 100.0  # no scan of a part lies so far
NOTES = (".txt", ".md", ".json", ".yaml", ".csv", ".ini", ".db")  # beside the data

# The release of 2021: train, validation, rows, columns, test images by folder.
PUBLISHED_COUNTS = {
    "bagel": (
        244,
        22,
        800,
        800,
        {"good": 22, "combined": 23, "contamination": 22, "crack": 22, "hole": 21},
    ),
    "cable_gland": (
        223,
        23,
        400,
        400,
        {"good": 21, "bent": 21, "cut": 22, "hole": 22, "thread": 22},
    ),
    "carrot": (
        286,
        29,
        800,
        800,
        {"good": 27, "combined": 27, "contamination": 27, "crack": 26, "cut": 26, "hole": 26},
    ),
    "cookie": (
        210,
        22,
        500,
        500,
        {"good": 28, "combined": 25, "contamination": 25, "crack": 27, "hole": 26},
    ),
    "dowel": (
        288,
        34,
        400,
        400,
        {"good": 26, "bent": 27, "combined": 26, "contamination": 26, "cut": 25},
    ),
    "foam": (
        236,
        27,
        900,
        900,
        {"good": 20, "color": 20, "combined": 20, "contamination": 20, "cut": 20},
    ),
    "peach": (
        361,
        42,
        600,
        600,
        {"good": 26, "combined": 25, "contamination": 27, "cut": 25, "hole": 29},
    ),
    "potato": (
        300,
        33,
        800,
        800,
        {"good": 22, "combined": 23, "contamination": 23, "cut": 23, "hole": 23},
    ),
    "rope": (298, 33, 400, 900, {"good": 32, "contamination": 25, "cut": 27, "open": 17}),
    "tire": (
        210,
        29,
        800,
        600,
        {"good": 25, "combined": 5, "contamination": 28, "cut": 27, "hole": 27},
    ),
}
CATEGORIES = tuple(PUBLISHED_COUNTS)


@dataclass(frozen=True)
class Options:
    """How the files are read.

    nonfinite: what NaN or infinite points are, an "error" or "missing" ones. MVTec's files have
    none; clouds from other sensors often mark missing points so.
    """

    nonfinite: str = "error"
    scale: float = 1.0  # metres per unit of the clouds; depth images have their depth_scale
    max_depth: float = 0.0  # m: points beyond it or behind the camera are missing; 0: no limit
    colour_bits: int = 0  # of images of uint16; 0: judged by the largest value of each

    def __post_init__(self):
        if self.nonfinite not in NONFINITE:
            raise UserError(f"unknown nonfinite {self.nonfinite!r}; known: {', '.join(NONFINITE)}")
        if not 0 < self.scale < math.inf:
            raise UserError(f"scale is {self.scale}; give the metres per unit, e.g. 0.001")
        if not 0 <= self.max_depth < math.inf:
            raise UserError(f"max_depth is {self.max_depth}; give metres, or 0 for no limit")
        if self.max_depth > FURTHEST_M:
            raise UserError(
                f"max_depth is {self.max_depth:g}, in metres, which limits nothing; millimetres "
                f"would be max_depth={self.max_depth / 1000:g}, and 0 is no limit"
            )
        if self.colour_bits and self.colour_bits not in BITS:
            known = ", ".join(map(str, BITS))
            raise UserError(f"colour_bits is {self.colour_bits}; give 0 or one of {known}")


@dataclass(frozen=True)
class FolderRef(Ref):
    """A sample of train/good, test/hole, ...; camera: where `xyz` is a depth PNG."""

    camera: Path | None = None
    options: Options = Options()
    region: Path | None = None  # of mask/: where the object is

    def load(self) -> Sample:
        from harness.data import mvtec3d_scan

        return mvtec3d_scan.load(self)

    def truth(self) -> np.ndarray:
        from harness.data.images import mask_or_empty

        return mask_or_empty(self.gt, self.rgb)

    def colour_bits(self) -> int:
        from harness.data.images import judged_bits

        return 0 if self.options.colour_bits else judged_bits(self.rgb)

    def oddities(self, sample: Sample) -> list[Oddity]:
        from harness.data import mvtec3d_scan

        return super().oddities(sample) + mvtec3d_scan.oddities(self, sample)


@dataclass(frozen=True)
class FolderCategory(Category):
    options: Options = Options()

    def list_split(self, split: str) -> tuple[list[Ref], list[DataError]]:
        refs, faults = [], []
        try:
            check_seen(self.folder / split)
            inner = folders(self.folder / split)
        except DataError as fault:
            return [], [fault]
        if not inner:
            faults += [
                DataError(f"{other} is not read", f"rename it to {split}", other)
                for other in self._beside()
                if self._in_place_of(other) == split
            ]
        masked = split == "test" and any(self._files(f, "gt", []) for f in inner)
        for folder in inner:
            try:
                check_name(folder)
                check_seen(folder)
                self._list(folder, split, masked, refs, faults)
            except DataError as fault:
                faults.append(fault)
        return refs, faults

    def files(self) -> list[Path]:
        camera = [path for path in (self.folder / CAMERA,) if path.is_file()]
        return camera + [path for part in self._parts() for path in of_part(part)]

    def where(self, split: str) -> str:
        inner = "good/{rgb,xyz}" if split == "train" else "<defect>/{rgb,xyz,gt}"
        return f"{self.folder / split}/{inner}"

    def unused(self) -> list[Path]:
        """Files that lie where samples are looked for, and are none: of another kind or deeper, or
        depth beside clouds. Folders beside the splits."""
        used = {
            path
            for part in self._parts()
            if part.name not in GEOMETRY or part.name == geometry(part.parent)
            for path in of_part(part)
        }
        files = [
            path
            for split in SPLITS
            for path in below(self.folder / split)
            if path not in used and path.suffix.lower() not in NOTES
        ]
        return [path for path in self._beside() if not self._in_place_of(path)] + files

    def meant(self, folder: str) -> str | None:
        return split_meant(folder)

    def _in_place_of(self, folder: Path) -> str | None:
        """The split that a category must have and has by another name only."""
        split = split_meant(folder.name)
        needed = split not in (None, "validation") and not is_folder(self.folder / str(split))
        return split if needed else None

    def _beside(self) -> list[Path]:
        """Folders beside those of the splits and the camera."""
        known = (*SPLITS, Path(CAMERA).parts[0])
        return [path for path in folders(self.folder) if path.name not in known]

    def _parts(self) -> list[Path]:
        """The folders of files, those that can be listed."""
        found = []
        for split in SPLITS:
            try:
                found += [f / part for f in folders(self.folder / split) for part in PARTS]
            except DataError:  # told by `list_split`
                continue
        return found

    def _files(self, folder: Path, part: str, faults: list[DataError]) -> dict[str, Path]:
        try:
            return by_stem(folder / part, faults)
        except DataError as fault:
            faults.append(fault)
            return {}

    def _list(
        self,
        folder: Path,
        split: str,
        masked: bool,
        refs: list[Ref],
        faults: list[DataError],
    ) -> None:
        """Pair the files of train/good, test/hole, ... by their stems.

        masked: whether the category has any masks of defects; without, it has image metrics only
        """
        if folder.name != "good" and folder.name.lower() == "good":
            raise DataError(
                f"{folder} would count as a defect: only 'good' is normal",
                f"rename it to {folder.parent / 'good'}",
                folder,
            )
        points = geometry(folder)
        files = {part: self._files(folder, part, faults) for part in ("rgb", points, "gt", "mask")}
        needed = ["rgb", points] + ["gt"] * (masked and folder.name != "good")
        camera = self.folder / CAMERA if points == "depth" else None
        if camera and files["depth"] and not camera.is_file():
            faults.append(no_camera(camera, folder / "depth"))
            return
        for name in sorted(set().union(*files.values())):
            if missing := [part for part in needed if name not in files[part]]:
                faults.append(lacking(folder, name, missing, files))
                continue
            refs.append(
                FolderRef(
                    self.name,
                    split,
                    folder.name,
                    name,
                    files["rgb"][name],
                    files[points][name],
                    files["gt"].get(name),
                    camera,
                    self.options,
                    files["mask"].get(name),
                )
            )


def make_category(name: str, folder: Path, options: Options) -> Category:
    return FolderCategory(name, folder, options)


def is_category(folder: Path) -> bool:
    return any(
        is_folder(folder / split / "good" / part)
        for split in ("train", "test")
        for part in ("rgb", "xyz", "depth")
    )


def published(name: str) -> dict[str, dict[str, int]] | None:
    """split -> samples by folder of the release; None for a category that is not in it."""
    if name not in PUBLISHED_COUNTS:
        return None
    train, validation, _, _, test = PUBLISHED_COUNTS[name]
    return {"train": {"good": train}, "validation": {"good": validation}, "test": test}


def published_size(name: str) -> tuple[int, int]:
    """Rows and columns of a category's images."""
    return PUBLISHED_COUNTS[name][2:4]
