"""One opener for every dataset on disk, and what its folders give away about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from harness.data import eyecandies, mvtec3d
from harness.data.files import check_name, folders, printable
from harness.data.layout import Layout
from harness.data.samples import DataError, Dataset
from methods import plugins
from methods.errors import UserError

log = logging.getLogger(__name__)

KINDS: dict[str, Layout] = {"mvtec3d": mvtec3d, "folder": mvtec3d, "eyecandies": eyecandies}
MANIFEST = "manifest.json"  # in categories that the program made itself


def open_dataset(kind: str, root: str | Path, **options) -> Dataset:
    """Find the categories under `root`.

    kind: mvtec3d, folder (user data in the layout of MVTec 3D-AD), eyecandies, or auto for what
    the folder looks like. options: fields of that kind's Options, also as text.
    """
    root = Path(root).expanduser().resolve()
    found = recognise(root) if kind == "auto" else kind
    layout = layout_of(found)
    made = _typed(found, layout.Options, options)
    categories = _categories(root, layout)
    if not categories:
        raise DataError(f"{root} is not in the layout of {found}: {_what_is_there(root)}")
    for fault in unnamed(root):
        _tell(f"{fault.problem}, so it is left out")
    return Dataset(root, found, categories, partial(layout.make_category, options=made))


def kinds() -> tuple[str, ...]:
    """Of datasets: ours, then those that plug-ins read."""
    return (*KINDS, *(name for name in plugins.names("datasets") if name not in KINDS))


def offered(kind: str) -> plugins.Offer | None:
    """The plug-in that reads a kind of dataset; None for our own."""
    return None if kind in KINDS else plugins.find("datasets", kind)


def layout_of(kind: str) -> Layout:
    """What reads a kind of dataset. Raises UserError, PluginError."""
    if kind in KINDS:
        return KINDS[kind]
    if (offer := offered(kind)) is None:
        raise UserError(f"unknown kind of dataset {kind!r}; known: auto, {', '.join(kinds())}")
    found = offer.load()
    found = found() if isinstance(found, type) else found
    missing = [name for name in _NEEDED if not hasattr(found, name)]
    if missing or not is_dataclass(found.Options):
        why = f"it has no {', '.join(missing)}" if missing else "its Options is no dataclass"
        raise plugins.PluginError(f"reader {kind!r} of plug-in {offer}: {why} (Reader has all)")
    return found


def reading(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a reader, complete and typed, as plain values."""
    return asdict(_typed(kind, layout_of(kind).Options, dict(options)))


_NEEDED = (
    "LAYOUT", "CATEGORIES", "Options", "is_category", "make_category", "published",
    "published_size",
)  # fmt: skip


def _typed(kind: str, cls: type, options: dict) -> Any:
    types = {f.name: type(f.default) for f in fields(cls)}
    if unknown := sorted(set(options) - set(types)):
        raise UserError(f"{kind} has no option {', '.join(unknown)}; it has {', '.join(types)}")
    typed: dict[str, object] = {}
    for name, value in options.items():
        try:
            typed[name] = types[name](value)
        except ValueError as error:
            raise UserError(f"options of {kind}: {name} is {value!r}: {error}") from error
    try:
        return cls(**typed)
    except ValueError as error:
        raise UserError(f"options of {kind}: {error}") from error


def recognise(root: Path) -> str:
    """The kind of dataset under `root`, by its folders."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; looked for {_LAYOUTS} in it")
    found = {kind: _categories(root, KINDS[kind]) for kind in ("mvtec3d", "eyecandies")}
    found = {kind: names for kind, names in found.items() if names}
    if len(found) > 1:
        listed = ", ".join(f"{names[0]} ({kind})" for kind, names in found.items())
        raise DataError(
            f"{root} holds categories of two layouts: {listed}",
            "give one folder a dataset, or say which with kind=",
            root,
        )
    if not found and (kind := _recognised_outside(root)):
        return kind
    if not found:
        raise DataError(f"{root} is no dataset: {_what_is_there(root)}")
    ((kind, names),) = found.items()
    if kind == "mvtec3d" and not any(is_published(kind, root / name) for name in names):
        return "folder"
    return kind


def _recognised_outside(root: Path) -> str | None:
    """The kind that a plug-in's reader knows the folder as. Raises DataError if several do."""
    found = [kind for kind in kinds() if kind not in KINDS and _categories(root, layout_of(kind))]
    if len(found) > 1:
        listed = " and ".join(found)
        raise DataError(f"{root} may be {listed}", "say which with kind=", root)
    return found[0] if found else None


def is_published(kind: str, category: Path) -> bool:
    """Whether a folder has a published category's name. Made ones share some names."""
    return (
        layout_of(kind).published(category.name) is not None and not (category / MANIFEST).exists()
    )


def count_warnings(dataset: Dataset) -> list[str]:
    """One line per category that has a published name but not the published counts."""
    lines = []
    for name in dataset.categories:
        if not is_published(dataset.kind, dataset.root / name):
            continue
        published = layout_of(dataset.kind).published(name) or {}
        differing = [
            f"{split}/{defect} {found[defect]} (published {published[split].get(defect, 0)})"
            for split, found in dataset.category(name).counts().items()
            for defect in sorted(found.keys() | published[split].keys())
            if found[defect] != published[split].get(defect, 0)
        ]
        if differing:
            lines.append(f"{name} differs from the published category: {', '.join(differing)}")
    return lines


@cache
def _tell(line: str) -> None:
    """Once in a process: a plan opens its datasets several times."""
    log.warning(line)


def unnamed(root: Path) -> list[DataError]:
    """Folders below the root that no table could name."""
    faults = []
    for folder in folders(root):
        try:
            check_name(folder)
        except DataError as fault:
            faults.append(fault)
    return faults


def _categories(root: Path, layout: Layout) -> tuple[str, ...]:
    bad = {fault.file for fault in unnamed(root)}
    found = (folder for folder in folders(root) if folder not in bad)
    return tuple(folder.name for folder in found if layout.is_category(folder))


_LAYOUTS = f"{mvtec3d.LAYOUT} (MVTec 3D-AD) or {eyecandies.LAYOUT} (Eyecandies)"


def _is_category(folder: Path) -> bool:
    return mvtec3d.is_category(folder) or eyecandies.is_category(folder)


def _what_is_there(root: Path) -> str:
    """Why `root` is no dataset, and which folder to give instead where that can be seen."""
    if not root.is_dir():
        return f"it is not a folder; looked for {_LAYOUTS}"
    for folder in (root, *list(root.parents)[:3]):
        if _is_category(folder):
            return f"{folder} is one category; give the folder above it, {folder.parent}"
    for folder in folders(root):
        if any(_is_category(inner) for inner in folders(folder)):
            return f"the categories are one level further down; give {folder}"
    for fault in unnamed(root):
        return str(fault)
    there = sorted(printable(p.name) + "/" * p.is_dir() for p in root.iterdir())
    listed = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    return f"looked for {_LAYOUTS}; it holds {listed or 'nothing'}"
