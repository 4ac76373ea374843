"""Which files of a folder belong together, and what their folders or a table say of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from harness.data.files import below, read_json
from harness.data.formats import CLOUDS, DEPTHS, IMAGES
from harness.data.importing.annotations import Outlines, outlined, read_annotations
from harness.data.importing.cameras import NEEDED, intrinsics, parsed
from harness.data.importing.frames import GOOD, Frame, Left
from harness.data.importing.table import Table, table_in
from harness.data.samples import DataError, split_meant

ROLES = (  # words in names of files or folders -> what they hold; the first that has one counts
    {
        "rgb": ("color", "colour", "rgb"),
        "depth": ("depth", "depths"),
        "xyz": ("xyz", "cloud", "clouds", "pcd", "ply", "points", "pointcloud"),
        "gt": ("gt", "mask", "masks", "annotation", "ground", "truth"),
    },
    {"rgb": ("image", "images", "img", "col"), "gt": ("label", "labels")},  # image_depth_7.png
    {"depth": ("z", "d")},  # D435_Color_7.png
)
SUFFIXES = {"rgb": IMAGES, "depth": DEPTHS, "xyz": CLOUDS, "gt": IMAGES}
WORDS = tuple({word: role for role, words in of.items() for word in words} for of in ROLES)
WORD = {word: role for words in WORDS for word, role in words.items()}


def find(root: Path, table: Path | None = None) -> tuple[list[Frame], list[Left], list[Path]]:
    """-> frames in order, what is left over, the JSON files (of cameras or annotations)"""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: give that of the recorded frames")
    files = list(below(root, strict=True))
    sheets = [p for p in files if p.suffix.lower() == ".json"]
    if rows := Table.read(table) if table else table_in(root):
        frames, left = rows.frames()
    else:
        frames, left = _from_names(root, [p for p in files if p not in sheets])
    outlines = read_annotations(sheets)
    frames = _outlined(frames, outlines, left)
    return [frame for frame in frames if _fits(frame, left)], left, sheets


def unused(sheets: Iterable[Path], camera: Path | None) -> Iterator[Left]:
    """JSON files that gave neither the camera nor outlines: a mask of defects may be meant."""
    taken = intrinsics(parsed(camera)) if camera else {}
    for path in sheets:
        try:
            given = read_json(path)
        except DataError:
            given = {}
        found = intrinsics(given)
        if path == camera or (taken and found == taken) or outlined(given):
            continue
        if camera and set(NEEDED) <= set(found):
            yield Left(
                path, f"another camera; {camera.name} is taken: --camera FILE says otherwise"
            )
        else:
            yield Left(path, "neither a camera nor outlines of LabelMe or COCO")


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
        if not is_depth and "depth" in parts:
            left.append(Left(parts["depth"], f"not needed beside {points.name}"))
        frames.append(Frame(parts["rgb"], points, is_depth, split, defect, parts.get("gt")))
    return frames, left


def _role(path: PurePath) -> tuple[str | None, tuple[str, str]]:
    """What a file holds, and what the files of its sample have in common."""
    tokens = re.split(r"([^0-9A-Za-z]+|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z]))", path.stem)
    role = _meant(tokens)
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


def _meant(tokens: Sequence[str]) -> str | None:
    """The role that the words of a name give, the telling ones before the common ones."""
    named = [token.lower() for token in tokens]
    return next((words[t] for words in WORDS for t in named if t in words), None)


def _place(folder: PurePath, masked: bool) -> tuple[str, str]:
    """Split and defect by the folders' names: train/good, test/scratch, scratch, ..."""
    splits = [split for p in folder.parts if (split := split_meant(p))]
    others = [p for p in folder.parts if not split_meant(p)]
    defect = others[-1] if others else ("defect" if masked else "good")
    defect = "good" if defect.lower() in GOOD else defect
    return (splits[0] if splits else ("train" if defect == "good" else "test")), defect


def _outlined(
    frames: Sequence[Frame], outlines: dict[Path, Outlines], left: list[Left]
) -> list[Frame]:
    """With the annotations of their images; what is outlined is defective, so for the test.

    An annotation belongs to the image in the place that it names, else to the only one so named.
    """
    there = {frame.rgb.resolve(): frame.rgb for frame in frames}
    of: dict[Path, Outlines] = {}
    for path, found in outlines.items():
        fits = [path] if path in there else [p for p in there if p.name == path.name]
        if len(fits) == 1:
            of[fits[0]] = found
        else:
            why = (
                f"{len(fits)} images have that name: put it beside its own" if fits else "not there"
            )
            left.append(Left(found.file, f"it annotates {path.name}: {why}"))
    return [_with(frame, of.get(frame.rgb.resolve())) for frame in frames]


def _with(frame: Frame, found: Outlines | None) -> Frame:
    if found is None or frame.mask is not None or not found.labels:
        return frame
    defect = frame.defect if frame.defect != "good" else found.labels[0]
    return replace(frame, mask=found, split="test", defect=defect)


def _fits(frame: Frame, left: list[Left]) -> bool:
    """Whether a sample may stand where it is said to: only normal ones are trained on."""
    if frame.defect == "good" or frame.split == "test":
        return True
    why = f"{frame.defect} in {frame.split}, which takes normal samples only"
    left.append(Left(frame.rgb, f"{why}: move it to test, or call it good"))
    return False


def _natural(text: str) -> list:
    """2 before 10."""
    return [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", text)]
