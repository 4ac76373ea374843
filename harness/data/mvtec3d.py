"""MVTec 3D-AD on disk: folders to samples, with every fault named by its file.

    ROOT/<category>/train/good/{rgb,xyz}/NNN.{png,tiff}
    ROOT/<category>/validation/good/...                      may be absent
    ROOT/<category>/test/{good,<defect>}/{rgb,xyz,gt}/...    gt may be absent for good

xyz is an organised cloud in metres, (0, 0, 0) where the sensor saw nothing; gt holds a class
id per defect type, so every value above 0 is a defect.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
NONFINITE = ("error", "missing")
MIN_VALID_SHARE = 0.01    # a cloud with fewer valid points is no scan of anything

LAYOUT = "<category>/train/good/{rgb,xyz} and <category>/test/<defect>/{rgb,xyz,gt}"

_SUFFIXES = {"rgb": (".png",), "xyz": (".tiff", ".tif"), "gt": (".png",)}
_READ_ERRORS = (
    OSError, ValueError, KeyError, IndexError, SyntaxError,
    struct.error, zlib.error, tifffile.TiffFileError,
)  # fmt: skip

# The release of 2021: train, validation, rows, columns, test images by folder.
PUBLISHED_COUNTS = {
    "bagel": (244, 22, 800, 800,
              {"good": 22, "combined": 23, "contamination": 22, "crack": 22, "hole": 21}),
    "cable_gland": (223, 23, 400, 400,
                    {"good": 21, "bent": 21, "cut": 22, "hole": 22, "thread": 22}),
    "carrot": (286, 29, 800, 800,
               {"good": 27, "combined": 27, "contamination": 27, "crack": 26, "cut": 26,
                "hole": 26}),
    "cookie": (210, 22, 500, 500,
               {"good": 28, "combined": 25, "contamination": 25, "crack": 27, "hole": 26}),
    "dowel": (288, 34, 400, 400,
              {"good": 26, "bent": 27, "combined": 26, "contamination": 26, "cut": 25}),
    "foam": (236, 27, 900, 900,
             {"good": 20, "color": 20, "combined": 20, "contamination": 20, "cut": 20}),
    "peach": (361, 42, 600, 600,
              {"good": 26, "combined": 25, "contamination": 27, "cut": 25, "hole": 29}),
    "potato": (300, 33, 800, 800,
               {"good": 22, "combined": 23, "contamination": 23, "cut": 23, "hole": 23}),
    "rope": (298, 33, 400, 900, {"good": 32, "contamination": 25, "cut": 27, "open": 17}),
    "tire": (210, 29, 800, 600,
             {"good": 25, "combined": 5, "contamination": 28, "cut": 27, "hole": 27}),
}  # fmt: skip


class DataError(ValueError):
    """A file or folder of a dataset is not what it should be; says which, and what to do."""


@dataclass(frozen=True)
class Sample:
    """One scan, read and checked."""

    id: str              # "test/hole/003"
    category: str
    split: str
    defect: str          # folder name, "good" for normal samples
    label: int           # 0 normal, 1 anomalous: by folder, not by mask
    rgb: np.ndarray      # (H, W, 3) uint8
    xyz: np.ndarray      # (H, W, 3) float32, metres, zeros where missing
    valid: np.ndarray    # (H, W) bool, any coordinate non-zero
    mask: np.ndarray     # (H, W) bool, True where defective


@dataclass(frozen=True)
class Ref:
    """Where a sample's files are; nothing is opened before `read`."""

    category: str
    split: str
    defect: str
    name: str            # "003"
    rgb: Path
    xyz: Path
    gt: Path | None
    nonfinite: str = "error"

    @property
    def id(self) -> str:
        return f"{self.split}/{self.defect}/{self.name}"

    @property
    def label(self) -> int:
        return int(self.defect != "good")

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.rgb, self.xyz) + ((self.gt,) if self.gt else ())

    def read(self) -> Sample:
        rgb = _read_rgb(self.rgb)
        xyz = _read_xyz(self.xyz, self.nonfinite)
        mask = _read_mask(self.gt) if self.gt else np.zeros(xyz.shape[:2], bool)
        sizes = {
            path: array.shape[:2]
            for path, array in ((self.rgb, rgb), (self.xyz, xyz), (self.gt, mask)) if path
        }  # fmt: skip
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{path} is {h} x {w}" for path, (h, w) in sizes.items())
            raise DataError(
                f"the parts of {self.category}/{self.id} differ in rows x columns: {found}; "
                "they must be pixel-aligned, so restore them from one source"
            )
        valid = (xyz[..., 0] != 0) | (xyz[..., 1] != 0) | (xyz[..., 2] != 0)    # any() is slow
        if valid.mean() < MIN_VALID_SHARE:
            raise DataError(
                f"{self.xyz} has {valid.sum()} valid points of {valid.size} "
                f"(< {MIN_VALID_SHARE:.0%}): not a usable scan; restore or remove the sample"
            )
        if behind := int((valid & (xyz[..., 2] <= 0)).sum()):
            log.warning("z_not_positive file=%s points=%d of=%d", self.xyz, behind, valid.sum())
        if self.label and not mask.any():
            log.warning("empty_mask file=%s kept_with_label=1", self.gt)
        if not self.label and mask.any():
            log.warning("good_sample_with_mask file=%s pixels=%d", self.gt, mask.sum())
        return Sample(
            self.id, self.category, self.split, self.defect, self.label, rgb, xyz, valid, mask
        )


@dataclass(frozen=True)
class Category:
    """One category's folder. Listings are made on demand, so nothing goes stale."""

    name: str
    folder: Path
    nonfinite: str = "error"

    def samples(self, split: str) -> list[Ref]:
        """The samples of a split, sorted by id; only `validation` may be absent or empty."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
        refs = [ref for folder in _folders(self.folder / split) for ref in self._in(folder, split)]
        if split == "train":
            if not refs:
                raise DataError(f"no training sample in {self.folder / split}/good/{{rgb,xyz}}")
            if odd := sorted({ref.defect for ref in refs} - {"good"}):
                raise DataError(
                    f"{self.folder / split} holds {', '.join(odd)} beside 'good': "
                    "only normal samples may be trained on; move them to 'test'"
                )
        if split == "test" and not refs:
            raise DataError(f"no test sample in {self.folder / split}/<defect>/{{rgb,xyz,gt}}")
        return sorted(refs, key=lambda ref: ref.id)

    def counts(self) -> dict[str, Counter]:
        """split -> number of samples by defect folder."""
        return {split: Counter(ref.defect for ref in self.samples(split)) for split in SPLITS}

    def _in(self, folder: Path, split: str) -> list[Ref]:
        """Pair the files of train/good, test/hole, ... by their stems."""
        files = {part: _files(folder / part, _SUFFIXES[part]) for part in _SUFFIXES}
        needed = ["rgb", "xyz"] + ["gt"] * (split == "test" and folder.name != "good")
        names = sorted(set().union(*files.values()))
        for name in names:
            if lacking := [part for part in needed if name not in files[part]]:
                there = ", ".join(str(files[part][name]) for part in files if name in files[part])
                wanted = " and ".join(
                    str(folder / part / f"{name}{_SUFFIXES[part][0]}") for part in lacking
                )
                raise DataError(f"{wanted} is missing beside {there}; restore it or remove both")
        return [
            Ref(self.name, split, folder.name, name, files["rgb"][name], files["xyz"][name],
                files["gt"].get(name), self.nonfinite)
            for name in names
        ]  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    root: Path
    categories: tuple[str, ...]
    nonfinite: str = "error"

    def category(self, name: str) -> Category:
        if name not in self.categories:
            nearest = sorted(self.categories, key=lambda known: -_similarity(name, known))
            raise ValueError(
                f"unknown category {name!r} of {self.root}; known: {', '.join(nearest)}"
            )
        return Category(name, self.root / name, self.nonfinite)


def open_dataset(root: str | Path, nonfinite: str = "error") -> Dataset:
    """Find the categories under `root`.

    nonfinite: what NaN or infinite points are, an "error" or "missing" ones. MVTec's files
    have none; clouds from other sensors often mark missing points so.
    """
    if nonfinite not in NONFINITE:
        raise ValueError(f"unknown nonfinite {nonfinite!r}; known: {', '.join(NONFINITE)}")
    root = Path(root).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; looked for {LAYOUT} in it")
    found = tuple(folder.name for folder in _folders(root) if _is_category(folder))
    if not found:
        raise ValueError(f"{root} is not in MVTec 3D-AD layout: {_what_is_there(root)}")
    return Dataset(root, found, nonfinite)


def fingerprint(category: Category) -> str:
    """16 hex digits that change when a file of the category is added, removed or rewritten.

    Hashes names, sizes and modification times, not contents: a category weighs up to 4 GB and
    the fingerprint is taken at every launch. A copy with new times counts as new data and costs
    a recomputation; new contents under the old size and time would go unnoticed. Faulty data has
    a fingerprint too: its faults come up when it is read, in a job that may fail alone.
    """
    paths = [
        path
        for split in SPLITS
        for folder in _folders(category.folder / split)
        for part, suffixes in _SUFFIXES.items()
        for path in _files(folder / part, suffixes).values()
    ]
    lines = [f"nonfinite={category.nonfinite}"]
    for path in sorted(paths):
        name, stat = path.relative_to(category.folder).as_posix(), path.stat()
        lines.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def count_warnings(dataset: Dataset) -> list[str]:
    """One line per category that has a published name but not the published counts.

    Synthetic categories share some names; they are known by their manifest and left out.
    """
    lines = []
    for name in dataset.categories:
        category = dataset.category(name)
        if name not in PUBLISHED_COUNTS or (category.folder / "manifest.json").exists():
            continue
        train, validation, _, _, test = PUBLISHED_COUNTS[name]
        published = {"train": {"good": train}, "validation": {"good": validation}, "test": test}
        differing = [
            f"{split}/{defect} {found[defect]} (published {published[split].get(defect, 0)})"
            for split, found in category.counts().items()
            for defect in sorted(found.keys() | published[split].keys())
            if found[defect] != published[split].get(defect, 0)
        ]
        if differing:
            lines.append(f"{name} differs from the published category: {', '.join(differing)}")
    return lines


def _read_rgb(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA", "L", "P"):
                raise DataError(f"{path} has mode {image.mode}; expected an 8-bit RGB PNG")
            return np.array(image.convert("RGB"))
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error


def _read_mask(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            ids = np.array(image)
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    return (ids if ids.ndim == 2 else ids[..., :3].any(axis=2)) > 0


def _read_xyz(path: Path, nonfinite: str) -> np.ndarray:
    try:
        xyz = tifffile.imread(path)
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    if xyz.ndim != 3 or xyz.shape[2] != 3 or xyz.dtype.kind != "f":
        raise DataError(
            f"{path} is {xyz.dtype} of shape {xyz.shape}; expected float32 (rows, columns, 3), "
            "x, y, z in metres"
        )
    xyz = xyz.astype(np.float32, copy=False)
    if not np.isfinite(xyz).all():
        bad = ~np.isfinite(xyz).all(axis=2)
        if nonfinite == "error":
            raise DataError(
                f"{path} has {bad.sum()} points that are NaN or infinite, of {bad.size}; open the "
                'dataset with nonfinite="missing" if they mark missing points'
            )
        xyz[bad] = 0
    return xyz


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    size = path.stat().st_size if path.exists() else 0
    return DataError(
        f"cannot read {path} ({size} bytes): {error or type(error).__name__}; "
        "truncated or damaged, so restore it"
    )


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(path: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """stem -> file. Names with a leading dot are by-products of archivers."""
    if not path.is_dir():
        return {}
    return {
        p.stem: p for p in path.iterdir()
        if p.suffix.lower() in suffixes and not p.name.startswith(".")
    }  # fmt: skip


def _is_category(folder: Path) -> bool:
    return any(
        (folder / split / "good" / part).is_dir()
        for split in ("train", "test") for part in ("rgb", "xyz")
    )  # fmt: skip


def _what_is_there(root: Path) -> str:
    """Why `root` is no dataset, and which folder to give instead where that can be seen."""
    for folder in (root, *list(root.parents)[:3]):
        if _is_category(folder):
            return f"{folder} is one category; give the folder above it, {folder.parent}"
    for folder in _folders(root):
        if any(_is_category(inner) for inner in _folders(folder)):
            return f"the categories are one level further down; give {folder}"
    there = sorted(p.name + "/" * p.is_dir() for p in root.iterdir())
    listed = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    return f"looked for {LAYOUT}; it holds {listed or 'nothing'}"


def _similarity(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()
