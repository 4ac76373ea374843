"""What every dataset is to the harness: categories of samples by split, read one at a time.

The layouts are siblings: mvtec3d.py and eyecandies.py know which files make a sample, and
datasets.py opens whatever a folder holds. Nothing is opened before `Ref.read`.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from methods.errors import UserError

if TYPE_CHECKING:  # listings do without
    import numpy as np

    from harness.data.oddities import Oddity

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
OTHER_NAMES = {  # of the splits, in small letters: of folders, and in tables of samples
    "train": ("training",),
    "validation": ("val", "valid", "eval"),
    "test": ("testing",),
}
MIN_VALID_SHARE = 0.01  # a cloud with fewer valid points is no scan of anything


def split_meant(name: str) -> str | None:
    """The split that goes by this name, in letters of any size."""
    name = name.lower()
    return next((split for split in SPLITS if name in (split, *OTHER_NAMES[split])), None)


class DataError(UserError):
    """A file or folder of a dataset is not what it should be.

    problem: what is wrong, with the file's path; todo: what to do about it; file: that path.
    """

    def __init__(self, problem: str, todo: str = "", file: Path | None = None):
        super().__init__(f"{problem}; {todo}" if todo else problem)
        self.problem, self.todo, self.file = problem, todo, file


@dataclass(frozen=True)
class Sample:
    """One scan, read and checked."""

    id: str  # "test/hole/003"
    category: str
    split: str
    defect: str  # folder name, "good" for normal samples
    label: int  # 0 normal, 1 anomalous: as filed, not by mask
    rgb: np.ndarray  # (H, W, 3) uint8
    xyz: np.ndarray  # (H, W, 3) float32, metres, zeros where missing
    valid: np.ndarray  # (H, W) bool, any coordinate non-zero
    mask: np.ndarray  # (H, W) bool, True where defective
    region: np.ndarray | None = None  # (H, W) bool, the object, where its owner says so
    odd: tuple[str, ...] = ()  # codes of its oddities, after `Ref.read`


@dataclass(frozen=True)
class Ref(ABC):
    """Where a sample's files are."""

    category: str
    split: str
    defect: str
    name: str  # "003"
    rgb: Path
    xyz: Path  # the file that the points come from
    gt: Path | None

    @property
    def id(self) -> str:
        return f"{self.split}/{self.defect}/{self.name}"

    @property
    def label(self) -> int:
        return int(self.defect != "good")

    @abstractmethod
    def load(self) -> Sample:
        """Open the files; DataError if one is not what it should be."""

    def truth(self) -> np.ndarray:
        """(H, W) bool: its mask at the size of its files. Layouts read no more than they must."""
        return self.load().mask

    def read(self) -> Sample:
        """`load`, with a line in the log for everything odd."""
        sample = self.load()
        found = self.oddities(sample)
        for odd in found:
            log.warning("%s file=%s %s", odd.code, odd.file, odd.problem)
        return replace(sample, odd=tuple(odd.code for odd in found))

    def verify(self, sample: Sample | None = None) -> tuple[tuple[int, int], list[Oddity]]:
        """Rows and columns of a sample and all that is odd about it; DataError as in `load`.

        sample: what `load` gave, if it is at hand
        """
        sample = sample or self.load()
        return sample.mask.shape, self.oddities(sample)

    def oddities(self, sample: Sample) -> list[Oddity]:
        from harness.data.oddities import of_sample

        return list(of_sample(self, sample))

    def colour_bits(self) -> int:
        """As how many bits its colours are taken, where that is a judgement; else 0."""
        return 0

    def assemble(
        self,
        rgb: np.ndarray,
        xyz: np.ndarray,
        mask: np.ndarray | None,
        region: tuple[Path, np.ndarray] | None = None,
    ) -> Sample:
        """Check that the parts fit each other. xyz must be float32, its missing points zero."""
        import numpy as np

        mask = np.zeros(xyz.shape[:2], bool) if mask is None else mask
        parts = [(self.rgb, rgb), (self.xyz, xyz), (self.gt, mask), *filter(None, [region])]
        sizes = {path: array.shape[:2] for path, array in parts if path}
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{path} is {h} x {w}" for path, (h, w) in sizes.items())
            odd = self.gt if mask.shape != xyz.shape[:2] else region[0] if region else self.rgb
            todo = "they must be pixel-aligned, so restore them from one source"
            if rgb.shape[:2] != xyz.shape[:2]:
                odd = self.xyz if mask.shape == rgb.shape[:2] else self.rgb
                todo = (
                    "they must be pixel-aligned: map depth to colour when recording or exporting "
                    "(RealSense: align to color; Azure Kinect: depth_image_to_color_camera)"
                )
            raise DataError(
                f"the parts of {self.category}/{self.id} differ in rows x columns: {found}",
                todo,
                odd,
            )
        valid = (xyz[..., 0] != 0) | (xyz[..., 1] != 0) | (xyz[..., 2] != 0)  # any() is slow
        if valid.mean() < MIN_VALID_SHARE:
            raise DataError(
                f"{self.xyz} has {valid.sum()} valid points of {valid.size} "
                f"(< {MIN_VALID_SHARE:.0%}): not a usable scan",
                "restore or remove the sample",
                self.xyz,
            )
        return Sample(
            self.id,
            self.category,
            self.split,
            self.defect,
            self.label,
            rgb,
            xyz,
            valid,
            mask,
            region[1] if region else None,
        )


@dataclass(frozen=True)
class Category(ABC):
    """One category's folder. Listings are made on demand, so nothing goes stale."""

    name: str
    folder: Path

    @abstractmethod
    def list_split(self, split: str) -> tuple[Sequence[Ref], list[DataError]]:
        """The complete samples of a split, and what is wrong with the others."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Every file that a sample of the category may be read from."""

    def unused(self) -> list[Path]:
        """Files and whole folders that are read by nothing, though they may be meant as samples."""
        return []

    def meant(self, folder: str) -> str | None:
        """The name that the layout has for a folder of another name."""
        return None

    @abstractmethod
    def where(self, split: str) -> str:
        """Where the samples of a split are expected, for messages."""

    def examine(self, split: str) -> tuple[list[Ref], list[DataError]]:
        """`list_split` sorted by id, with faults of the split as a whole last."""
        if split not in SPLITS:
            raise UserError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
        found = self.list_split(split)
        if not isinstance(found, tuple) or len(found) != 2 or not _all_refs(found[0]):
            raise UserError(
                f"the reader of {self.folder} lists the split {split} as {found!r:.100}; "
                "list_split must return (a list of Ref, a list of DataError)"
            )
        refs, faults = found
        odd = sorted({ref.defect for ref in refs} - {"good"})
        if odd and split != "test":
            use = (
                "be trained on" if split == "train" else "stand for what a trained method will see"
            )
            alone = len(odd) == 1 and not any(ref.defect == "good" for ref in refs)
            beside = "and no 'good'" if alone else "beside 'good'"
            rename = f", or rename {odd[0]} to good if they are normal" if alone else ""
            faults.append(
                DataError(
                    f"{self.folder / split} holds {', '.join(odd)} {beside}",
                    f"only normal samples may {use}: move them to 'test'{rename}",
                    self.folder / split,
                )
            )
        if not refs and not faults and split != "validation":
            what = "training" if split == "train" else "test"
            faults.append(
                DataError(
                    f"no {what} sample in {self.where(split)}",
                    "put some there or leave the category out",
                    self.folder,
                )
            )
        return sorted(refs, key=lambda ref: ref.id), faults

    def samples(self, split: str) -> list[Ref]:
        """The samples of a split, sorted by id; only `validation` may be absent or empty."""
        refs, faults = self.examine(split)
        if faults:
            raise faults[0]
        return refs

    def counts(self) -> dict[str, Counter]:
        """split -> number of complete samples by defect."""
        return {split: Counter(ref.defect for ref in self.examine(split)[0]) for split in SPLITS}


@dataclass(frozen=True)
class Dataset:
    root: Path
    kind: str
    categories: tuple[str, ...]
    make: Callable[[str, Path], Category]

    def category(self, name: str) -> Category:
        if name not in self.categories:
            nearest = sorted(self.categories, key=lambda known: -_similarity(name, known))
            raise UserError(
                f"unknown category {name!r} of {self.root}; known: {', '.join(nearest)}"
            )
        made = self.make(name, self.root / name)
        if not isinstance(made, Category):
            raise UserError(
                f"the reader of {self.root} makes {made!r:.100} of {name}; make_category must "
                "return a harness.data.samples.Category"
            )
        return made


def _all_refs(found: Any) -> bool:
    return isinstance(found, Sequence) and all(isinstance(ref, Ref) for ref in found)


def paths_of(category: Category) -> list[str]:
    """`Category.files`, sorted. Raises UserError if a reader gives something else."""
    found = category.files()
    try:
        return sorted(map(os.fspath, found))
    except TypeError as error:
        raise UserError(
            f"the reader of {category.folder}: files() returned {found!r:.100}; it must be a list "
            "of paths"
        ) from error


def fingerprint(category: Category) -> str:
    """16 hex digits that change when a file of the category is added, removed or rewritten.

    Hashes names, sizes and modification times, not contents: a category weighs up to 4 GB and
    the fingerprint is taken at every launch. A copy with new times counts as new data and costs
    a recomputation; new contents under the old size and time would go unnoticed. Faulty data has
    a fingerprint too: its faults come up when it is read, in a job that may fail alone.
    """
    digest = hashlib.sha256()
    start = len(os.fspath(category.folder)) + 1
    for path in paths_of(category):
        try:
            stat = os.stat(path)
            state = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError as error:  # a link that leads nowhere
            state = f"- {error.errno}"
        digest.update(f"{path[start:]} {state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _similarity(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()
