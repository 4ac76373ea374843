"""What to generate: counts, resolution, categories and kinds of defect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from methods.errors import UserError

from .categories import CATEGORIES

if TYPE_CHECKING:
    from .render import Camera

VERSION = 2  # raise when the same spec gives other files
KINDS = (
    "bump",
    "color",
    "combined",
    "contamination",
    "crack",
    "cut",
    "dent",
    "geometry_only",
    "hole",
    "missing",
)
MIN_SIZE_PX, MAX_SIZE_PX = 32, 4096
MAX_COUNT = 1000  # file names have three digits
LAYOUTS = ("mvtec3d", "eyecandies")


@dataclass(frozen=True)
class Spec:
    """Counts are per category (per category and kind: per_defect), or mappings by category name.

    size: px, width = height, or (height, width). kinds: defect folders for every category, or by
    category name; None for the default ones. plain_masks: masks hold 0 and 255 only. layout:
    mvtec3d, or eyecandies: the same scenes in depth images without noise or missing points.
    """

    size: int | tuple[int, int] = 256
    categories: tuple[str, ...] = tuple(CATEGORIES)
    train: int | Mapping[str, int] = 24
    validation: int | Mapping[str, int] = 4
    good: int | Mapping[str, int] = 10
    per_defect: int | Mapping[str, int | Mapping[str, int]] = 5
    kinds: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None = None
    plain_masks: bool = False
    seed: int = 0
    layout: str = "mvtec3d"

    def __post_init__(self):
        sides = (self.size,) if isinstance(self.size, int) else tuple(self.size)
        if len(sides) > 2 or not all(MIN_SIZE_PX <= side <= MAX_SIZE_PX for side in sides):
            raise UserError(
                f"size {self.size!r}: give one side or (height, width), each from "
                f"{MIN_SIZE_PX} to {MAX_SIZE_PX} px"
            )
        if not self.categories:
            raise UserError(f"no category; known: {', '.join(CATEGORIES)}")
        if self.layout not in LAYOUTS:
            raise UserError(f"unknown layout {self.layout!r}; known: {', '.join(LAYOUTS)}")
        if self.seed < 0:
            raise UserError(f"seed {self.seed} is negative; give 0 or more")
        for category in self.categories:
            require_category(category)
            for kind in self.kinds_of(category):
                if kind not in KINDS:
                    raise UserError(f"unknown defect kind {kind!r}; known: {', '.join(KINDS)}")
            for name, count in self.counts(category).items():
                if not 0 <= count <= MAX_COUNT:
                    raise UserError(f"{count} samples for {category}/{name}: give 0 to {MAX_COUNT}")

    @property
    def camera(self) -> Camera:
        from .render import Camera, NearCamera  # with arrays, which counting does without

        height, width = (self.size,) * 2 if isinstance(self.size, int) else self.size
        return (NearCamera if self.layout == "eyecandies" else Camera)(width, height)

    def kinds_of(self, category: str) -> tuple[str, ...]:
        """The defect folders of a category, sorted."""
        kinds = self.kinds.get(category) if isinstance(self.kinds, Mapping) else self.kinds
        return tuple(sorted(set(CATEGORIES[category].defects if kinds is None else kinds)))

    def counts(self, category: str) -> dict[str, int]:
        """Folder of the published layout -> number of samples."""
        counts = {
            "train/good": _of(self.train, category),
            "validation/good": _of(self.validation, category),
            "test/good": _of(self.good, category),
        }
        per_defect = _of(self.per_defect, category)
        for kind in self.kinds_of(category):
            counts[f"test/{kind}"] = _of(per_defect, kind)
        return counts

    def class_ids(self, category: str) -> dict[int, str]:
        """Value in the masks -> kind: 255 for the first by name, counting down."""
        if self.plain_masks:
            return {255: "anomaly", 0: "good"}
        kinds = set(self.kinds_of(category))
        if "combined" in kinds:
            kinds = kinds - {"combined"} | set(parts_of_combined(category))
        return {**{255 - i: kind for i, kind in enumerate(sorted(kinds))}, 0: "good"}


def require_category(category: str) -> None:
    if category not in CATEGORIES:
        raise UserError(f"unknown category {category!r}; known: {', '.join(CATEGORIES)}")


def parts_of_combined(category: str) -> tuple[str, ...]:
    """A combined defect mixes the category's own kinds, whatever folders are asked for."""
    return tuple(sorted(set(CATEGORIES[category].defects) - {"combined", "missing"}))


def _of(value, name: str) -> int:
    if not isinstance(value, Mapping):
        return value
    if name not in value:
        raise UserError(f"no count for {name!r}; given for: {', '.join(map(str, value))}")
    return value[name]


# Counts of MVTec 3D-AD for the nearest of its categories: train, validation, test/good, and the
# defect folders in the order of the kinds' names.
_PAPER = {
    "cookie": (210, 22, 28, (25, 25, 27, 26)),  # cookie
    "bagel": (244, 22, 22, (22, 22, 21, 23)),  # bagel
    "dome": (361, 42, 26, (27, 25, 25, 29)),  # peach
    "plate": (223, 23, 21, (21, 22, 22, 22)),  # cable_gland
    "rod": (288, 34, 26, (27, 26, 26, 25)),  # dowel
    "rope": (298, 33, 32, (17, 25, 27, 17)),  # rope has three folders; `open` counts twice
    "foam": (236, 27, 20, (20, 20, 20, 20)),  # foam
    "tread": (210, 29, 25, (28, 27, 5, 27)),  # tire
}


def _paper() -> Spec:
    return Spec(
        800,
        tuple(CATEGORIES),
        train={name: train for name, (train, _, _, _) in _PAPER.items()},
        validation={name: validation for name, (_, validation, _, _) in _PAPER.items()},
        good={name: good for name, (_, _, good, _) in _PAPER.items()},
        per_defect={
            name: dict(zip(sorted(CATEGORIES[name].defects), counts))
            for name, (_, _, _, counts) in _PAPER.items()
        },
    )


PRESETS: dict[str, Spec] = {
    "tiny": Spec(64, ("cookie", "foam"), train=6, validation=2, good=3, per_defect=2),
    "small": Spec(256, ("cookie", "bagel", "dome", "foam"), 24, 4, 10, 5),
    "standard": Spec(400, tuple(CATEGORIES), train=120, validation=15, good=22, per_defect=12),
    "paper": _paper(),
}
