"""Which files of a folder belong together, and what their folders or a table say of them."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from harness.data.clouds import CLOUDS
from harness.data.files import below
from harness.data.images import DEPTHS, IMAGES
from harness.data.importing.annotations import Outlines, read_annotations
from harness.data.samples import DataError
from methods.errors import UserError

ROLES = {  # words in names of files or folders -> what they hold
    "rgb": ("color", "colour", "rgb", "image", "images", "img", "col"),
    "depth": ("depth", "depths", "z", "d"),
    "xyz": ("xyz", "cloud", "clouds", "pcd", "ply", "points", "pointcloud"),
    "gt": ("gt", "mask", "masks", "label", "labels", "annotation", "ground", "truth"),
}
SUFFIXES = {"rgb": IMAGES, "depth": DEPTHS, "xyz": CLOUDS, "gt": IMAGES}
WORD = {word: role for role, words in ROLES.items() for word in words}
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
GOOD = ("good", "ok", "normal", "nominal", "")
COLUMNS = {  # of a table
    "rgb": ("rgb", "image", "color", "colour", "file", "filename", "path"),
    "depth": ("depth", "cloud", "xyz", "pcd", "ply"),
    "gt": ("mask", "gt", "ground_truth"),
    "split": ("split", "set", "subset"),
    "defect": ("defect", "label", "class", "anomaly"),
}


@dataclass(frozen=True)
class Frame:
    """The files of one sample, and where it goes."""

    rgb: Path
    points: Path  # a depth image or a cloud
    is_depth: bool
    split: str
    defect: str
    mask: Path | Outlines | None = None


@dataclass(frozen=True)
class Left:
    """A file that belongs to no sample."""

    file: Path
    why: str


def find(root: Path, table: Path | None = None) -> tuple[list[Frame], list[Left], list[Path]]:
    """-> frames in order, what is left over, the JSON files (of cameras or annotations)"""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: give that of the recorded frames")
    files = list(below(root))
    sheets = [p for p in files if p.suffix.lower() == ".json"]
    if table or (table := _table_in(root)):
        frames, left = _from_table(table)
    else:
        frames, left = _from_names(root, [p for p in files if p not in sheets])
    outlines = read_annotations(sheets)
    return [_outlined(frame, outlines) for frame in frames], left, sheets


def _table_in(root: Path) -> Path | None:
    tables = sorted(root.glob("*.csv"))
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise UserError(f"{root} holds several tables ({names}): say which with --csv FILE")
    return tables[0] if tables else None


def _from_table(table: Path) -> tuple[list[Frame], list[Left]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise DataError(f"{table} has no rows", "give a header and a row a sample", table)
    named = {
        own: next((c for c in rows[0] if c and c.strip().lower() in theirs), None)
        for own, theirs in COLUMNS.items()
    }
    if lacking := [name for name in ("rgb", "depth") if named[name] is None]:
        have = ", ".join(map(str, rows[0]))
        raise DataError(
            f"{table} has no column for {' and '.join(lacking)}; it has {have}",
            "name them image and depth; split, defect and mask may follow",
            table,
        )
    frames, left = [], []
    for number, row in enumerate(rows, start=2):

        def cell(name: str, row: dict = row) -> str:
            return (row[column] or "").strip() if (column := named[name]) else ""

        rgb, points = table.parent / cell("rgb"), table.parent / cell("depth")
        if missing := [path for path in (rgb, points) if not path.is_file()]:
            left.append(Left(missing[0], f"line {number} of {table.name} names it: not there"))
            continue
        mask = table.parent / cell("gt") if cell("gt") else None
        defect = "good" if cell("defect").lower() in (*GOOD, "0") else cell("defect")
        split = SPLIT_NAMES.get(cell("split").lower(), "test" if defect != "good" else "train")
        is_depth = "depth" in (named["depth"] or "").lower()
        is_depth &= points.suffix.lower() in DEPTHS
        frames.append(Frame(rgb, points, is_depth, split, defect, mask))
    return frames, left


def _from_names(root: Path, files: Sequence[Path]) -> tuple[list[Frame], list[Left]]:
    """By the words in names: color_007.png and depth_007.png, rgb/7.png and depth/7.png, ..."""
    groups: dict[tuple, dict[str, Path]] = defaultdict(dict)
    left = []
    for path in files:
        role, key = _role(path.relative_to(root))
        if role is None or path.suffix.lower() not in SUFFIXES[role]:
            left.append(Left(path, "neither colour, depth, cloud nor mask by name and format"))
        elif role in groups[key]:
            left.append(Left(path, f"a second {role} beside {groups[key][role].name}"))
        else:
            groups[key][role] = path
    frames = []
    for (folder, _), parts in sorted(
        groups.items(), key=lambda item: [_natural(k) for k in item[0]]
    ):
        points = parts.get("xyz") or parts.get("depth")
        if "rgb" not in parts or points is None:
            lacks = "colour" if "rgb" not in parts else "depth or cloud"
            left += [Left(path, f"there is no {lacks} to it") for path in parts.values()]
            continue
        split, defect = _place(PurePath(folder), "gt" in parts)
        is_depth = "xyz" not in parts
        frames.append(Frame(parts["rgb"], points, is_depth, split, defect, parts.get("gt")))
    return frames, left


def _role(path: PurePath) -> tuple[str | None, tuple[str, str]]:
    """What a file holds, and what the files of its sample have in common."""
    tokens = re.split(r"([^0-9A-Za-z]+|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z]))", path.stem)
    role = next((WORD[t.lower()] for t in tokens if t.lower() in WORD), None)
    rest = "".join(t for t in tokens if t.lower() not in WORD and re.search(r"[0-9A-Za-z]", t))
    folders = [part for part in path.parts[:-1] if part.lower() not in WORD]
    if role is None:
        role = next((WORD[p.lower()] for p in path.parts[-2::-1] if p.lower() in WORD), None)
    if path.suffix.lower() in (".ply", ".pcd"):
        role = "xyz"
    elif role is None and path.suffix.lower() in (".jpg", ".jpeg", ".bmp"):
        role = "rgb"
    elif role is None and path.suffix.lower() == ".png":
        role = "rgb"  # beside a cloud of the same name
    return role, ("/".join(folders), rest)


def _place(folder: PurePath, masked: bool) -> tuple[str, str]:
    """Split and defect by the folders' names: train/good, test/scratch, scratch, ..."""
    splits = [SPLIT_NAMES[p.lower()] for p in folder.parts if p.lower() in SPLIT_NAMES]
    others = [p for p in folder.parts if p.lower() not in SPLIT_NAMES]
    defect = others[-1] if others else ("defect" if masked else "good")
    defect = "good" if defect.lower() in GOOD else defect
    return (splits[0] if splits else ("train" if defect == "good" else "test")), defect


def _outlined(frame: Frame, outlines: dict[str, Outlines]) -> Frame:
    """With the annotation of its image; what is outlined is defective, so for the test."""
    found = outlines.get(frame.rgb.name)
    if found is None or frame.mask is not None or not found.labels:
        return frame
    defect = frame.defect if frame.defect != "good" else found.labels[0]
    return replace(frame, mask=found, split="test", defect=defect)


def _natural(text: str) -> list:
    """2 before 10."""
    return [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", text)]
