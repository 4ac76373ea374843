"""A folder of samples in the layout of MVTec 3D-AD, such as train/good: its parts, their files."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from harness.data.files import below, check_name, folders, is_folder, listed
from harness.data.formats import CLOUDS, DEPTHS, IMAGES
from harness.data.samples import DataError

PARTS = {"rgb": IMAGES, "xyz": CLOUDS, "depth": DEPTHS, "gt": IMAGES, "mask": IMAGES}
USUAL = {"rgb": ".png", "xyz": ".tiff", "depth": ".png", "gt": ".png", "mask": ".png"}
MEANT = {  # how others call the folders of parts
    "color": "rgb",
    "colour": "rgb",
    "image": "rgb",
    "images": "rgb",
    "ground_truth": "gt",
    "groundtruth": "gt",
    "masks": "gt",
    "cloud": "xyz",
    "pcd": "xyz",
    **{part: part for part in PARTS},
}
GEOMETRY = ("xyz", "depth")
OF_CAMERAS = ("calib", "camera", "calibration", "intrinsic", "intrinsics")
OF_MASKS = ("_mask", "_gt", "_GT")  # what some tools put behind the name of a mask


def geometry(folder: Path) -> str:
    """Which part the points of a folder's samples come from: clouds, where there are any."""
    if of_part(folder / "xyz"):
        return "xyz"
    return "xyz" if is_folder(folder / "xyz") and not of_part(folder / "depth") else "depth"


def lacking(folder: Path, name: str, parts: list[str], files: dict[str, dict]) -> DataError:
    """A sample without some of its parts; names what lies there in their place."""
    there = ", ".join(str(files[part][name]) for part in files if name in files[part])
    wanted = [folder / part / f"{name}{USUAL[part]}" for part in parts]
    todo = "restore it or remove both"
    alike = [p for part in parts for p in of_part(folder / part) if _alike(p.stem, name)]
    instead = [p for part in parts for p in below(folder / part) if p.stem.startswith(name)]
    if alike:
        same = f"{folder / alike[0].parent.name / name}{alike[0].suffix}"
        todo = f"there is {alike[0]}: rename it to {same}, or the others as it is"
        if unicodedata.normalize("NFC", alike[0].stem) == unicodedata.normalize("NFC", name):
            todo += "; the two look the same, but their accents are written by other characters"
    elif instead:
        kinds = "; ".join(f"{part}: {', '.join(PARTS[part])}" for part in parts)
        todo = f"there is {instead[0]}, which is not read: write it as {wanted[0].name} ({kinds})"
    names = " and ".join(map(str, wanted))
    return DataError(
        f"{names} {'are' if len(wanted) > 1 else 'is'} missing beside {there}", todo, wanted[0]
    )


def no_camera(camera: Path, depth: Path) -> DataError:
    """Depth without its camera; names what lies about and may be it."""
    category = camera.parents[1]
    about = [p for f in (category, category.parent) for p in listed(f)]
    about += [p for f in folders(category) if f.name.lower() in OF_CAMERAS for p in listed(f)]
    found = [
        p
        for p in about
        if p.suffix.lower() in (".json", ".yaml", ".yml")
        and (
            p.parent not in (category, category.parent)
            or any(w in p.name.lower() for w in OF_CAMERAS)
        )
    ]
    todo = (
        'write {"f": ..., "cx": ..., "cy": ..., "depth_scale": 0.001}: pixels, and metres per unit'
    )
    if found:
        form = "" if found[0].suffix.lower() == ".json" else ", written as JSON"
        todo = f"if {found[0]} is it, move it there{form}; else {todo}"
    return DataError(f"{camera} is missing, and {depth} needs it", todo, camera)


def _alike(stem: str, name: str) -> bool:
    """Whether two names are of one sample, but for zeros before, cases, or how accents are kept."""
    if stem.isdecimal() and name.isdecimal():
        return int(stem) == int(name)
    plain = [unicodedata.normalize("NFC", text).casefold() for text in (stem, name)]
    return plain[0] == plain[1]


def of_part(folder: Path) -> list[Path]:
    """The files of a part's folder, sorted."""
    try:
        found = listed(folder)
    except DataError:  # told by `list_split`
        return []
    return [p for p in found if p.suffix.lower() in PARTS[folder.name] and not is_folder(p)]


def by_stem(path: Path, faults: list[DataError]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    listed(path)  # tells what `of_part` passes over
    for p in of_part(path):
        try:
            check_name(p)
        except DataError as fault:
            faults.append(fault)
            continue
        stem = p.stem
        if path.name == "gt":
            stem = next((stem.removesuffix(e) for e in OF_MASKS if stem.endswith(e)), stem)
        if stem in files:
            faults.append(
                DataError(
                    f"{p} and {files[stem].name} have the same name {stem!r}",
                    "keep the right one of them",
                    p,
                )
            )
        files.setdefault(stem, p)
    return files
