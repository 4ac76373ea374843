"""Scans to be judged by a fitted model: files, pairs of files or folders, in whatever places.

What a dataset of a known layout says of itself counts as there. Elsewhere a scan is a colour image
and its geometry beside it (harness/cli/README.md, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.data.datasets import open_dataset
from harness.data.files import folders, listed
from harness.data.folder import PARTS
from harness.data.formats import CLOUDS, DEPTHS, IMAGES
from harness.data.mvtec3d import CAMERA, FolderRef, Options
from harness.data.samples import SPLITS, DataError, Ref
from methods.errors import UserError

PAIR = ","  # between a colour image and its geometry
SPLIT = "parts"  # of scans that belong to no dataset
COLOUR_ENDS = ("_rgb", "_color", "_colour", "_image")  # what may follow a scan's name
GEOMETRY_ENDS = ("", "_xyz", "_cloud", "_depth")
FIRST = tuple(s for s in IMAGES if s not in CLOUDS)  # what is never taken for a cloud


def find_parts(given: Sequence[str], category: str, reading: Mapping[str, Any]) -> list[Ref]:
    """The scans that paths name, in their order, as samples of a category.

    given: colour images, pairs "COLOUR,GEOMETRY", folders; reading: options of the dataset's reader
    Raises DataError, UserError where a path is nothing of these, or two scans have one name.
    """
    known = {field.name for field in fields(Options)} if "nonfinite" in reading else set()
    options = Options(**{name: value for name, value in reading.items() if name in known})
    found = [ref for text in given for ref in _of(text, category, options, reading)]
    names: dict[str, Ref] = {}
    for ref in found:
        if other := names.get(ref.id):
            raise UserError(f"{ref.rgb} and {other.rgb} are both {ref.id}: judge them apart")
        names[ref.id] = ref
    return found


def _of(text: str, category: str, options: Options, reading: Mapping[str, Any]) -> list[Ref]:
    path = Path(text).expanduser()
    if path.is_dir():
        return _in_folder(path.resolve(), category, options, reading)
    if path.is_file():
        return [_beside(path.resolve(), category, options)]
    colour, comma, geometry = text.rpartition(PAIR)
    if comma:
        image, points = (Path(name).expanduser().resolve() for name in (colour, geometry))
        for file in (image, points):
            if not file.is_file():
                raise DataError(f"{file} is no file", f"give COLOUR{PAIR}GEOMETRY", file)
        return [_scan(image, points, category, options)]
    raise DataError(
        f"{text} does not exist",
        f"give colour images, COLOUR{PAIR}GEOMETRY or folders",
        path,
    )


def _in_folder(
    folder: Path, category: str, options: Options, reading: Mapping[str, Any]
) -> list[Ref]:
    """The test samples of a dataset's category, else the colour images of a folder or below."""
    for root in (folder, folder.parent):
        try:
            dataset = open_dataset("auto", root, **reading)
        except UserError:
            continue
        if root == folder and category in dataset.categories:
            return dataset.category(category).samples("test")
        if root != folder and folder.name in dataset.categories:
            return dataset.make(category, folder).samples("test")
    if (folder / "rgb").is_dir():
        folder = folder / "rgb"
    images = [p for p in listed(folder) if _is_colour(p, folder)]
    if images:
        return [_beside(image, category, options) for image in images]
    inner = [ref for sub in folders(folder) for ref in _in_folder(sub, category, options, reading)]
    if not inner:
        raise DataError(
            f"{folder} holds no colour image with geometry beside it",
            "give a folder with rgb/ and xyz/ or depth/, or with NAME.png and NAME.tiff",
            folder,
        )
    return inner


def _is_colour(path: Path, folder: Path) -> bool:
    """In a folder of its own any image is; beside clouds only what cannot be one."""
    if path.is_dir() or path.suffix.lower() not in IMAGES:
        return False
    if folder.name == "rgb":
        return True
    is_depth = any(path.stem.endswith(end) for end in GEOMETRY_ENDS if end)
    return path.suffix.lower() in FIRST and not is_depth


def _beside(colour: Path, category: str, options: Options) -> Ref:
    """A colour image with the geometry of its name, in the layout of MVTec 3D-AD or beside it."""
    folder, looked = colour.parent, []
    if folder.name == "rgb":
        for part, suffixes in (("xyz", CLOUDS), ("depth", DEPTHS)):
            for suffix in suffixes:
                looked.append(folder.parent / part / f"{colour.stem}{suffix}")
    else:
        name = _bare(colour.stem)
        for end in GEOMETRY_ENDS:
            for suffix in DEPTHS if end == "_depth" else CLOUDS:
                looked.append(folder / f"{name}{end}{suffix}")
    for file in looked:
        if file != colour and file.is_file():
            return _scan(colour, file, category, options)
    places = sorted({str(file.with_suffix("")) for file in looked})
    raise DataError(
        f"{colour} has no geometry: there is none of {', '.join(places)} ({', '.join(CLOUDS)})",
        f"put it there, or give {colour.name}{PAIR}FILE",
        colour,
    )


def _bare(stem: str) -> str:
    return next((stem.removesuffix(end) for end in COLOUR_ENDS if stem.endswith(end)), stem)


def _scan(colour: Path, geometry: Path, category: str, options: Options) -> FolderRef:
    split, defect, name = SPLIT, "good", _bare(colour.stem)
    folder = colour.parent
    if folder.name == "rgb" and folder.parents[1].name in SPLITS:
        split, defect = folder.parents[1].name, folder.parent.name
    elif folder.name == "rgb":
        name = f"{folder.parent.name}/{name}"
    camera = None
    if geometry.parent.name == "depth" or geometry.stem.endswith("_depth"):
        camera = _camera(geometry)
    mask = folder.parent / "mask"
    masks = (mask / f"{colour.stem}{suffix}" for suffix in PARTS["mask"])
    region = next((m for m in masks if folder.name == "rgb" and m.is_file()), None)
    return FolderRef(category, split, defect, name, colour, geometry, None, camera, options, region)


def _camera(depth: Path) -> Path:
    """The nearest camera file above a depth image."""
    for folder in list(depth.parents)[:5]:
        if (folder / CAMERA).is_file():
            return folder / CAMERA
    raise DataError(
        f"{depth} is depth without a camera: no {CAMERA} in a folder above it",
        'write {"f": ..., "cx": ..., "cy": ..., "depth_scale": 0.001}: pixels, and metres per unit',
        depth,
    )
