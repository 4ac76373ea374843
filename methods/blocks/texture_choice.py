"""Which textures there are and where their files lie, as settings say; no torch here.

The source matters to the results, so `source_name` says what "auto" stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
TRAINING_IMAGES = (  # below the root of a data set
    "*/train/good/rgb/*.png",  # MVTec 3D-AD
    "*/train/data/*_image_4.png",  # Eyecandies
)
SOURCES = ("dtd", "imagenet", "folder", "other_categories", "bundled", "procedural", "auto")


def source_name(source: str, folder: str | None, published: str = "dtd") -> str:
    """What `source` amounts to, for reports. published: what "auto" is where there is a folder."""
    if source != "auto":
        return source
    return published if folder else "bundled+procedural"


def texture_folder(source: str, folder: str | None, setting: str = "texture") -> Path | None:
    """The folder that `source` reads, None if none.

    Raises FileNotFoundError if it is not there or holds no image.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown texture source {source!r}; known: {', '.join(SOURCES)}")
    if source in ("bundled", "procedural") or (source == "auto" and not folder):
        return None
    return _existing(source, folder, setting)


def images(folder: Path, source: str = "folder") -> Iterator[Path]:
    """The image files that a source finds in its folder, in no order."""
    if source == "other_categories":
        return (file for pattern in TRAINING_IMAGES for file in folder.glob(pattern))
    return (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


class Choice(Protocol):
    """What a method's settings say of its textures."""

    source: str  # one of SOURCES
    folder: str | None
    augment: bool  # change each texture by three augmenters


def _existing(source, folder, setting) -> Path:
    if folder and Path(folder).is_dir():
        if next(images(Path(folder), source), None):
            return Path(folder)
        given = f"{folder} holds no image"
    else:
        given = f"{folder} is not a folder" if folder else f"{setting}.folder is not set"
    meaning = {
        "folder": "any folder of images",
        "imagenet": "the ImageNet-1k training set, one folder of JPEGs a class",
        "other_categories": "the root of the data set, with one folder a category",
    }.get(
        source,
        "the Describable Textures Dataset, 47 folders of JPEGs, "
        "https://www.robots.ox.ac.uk/~vgg/data/dtd",
    )
    if source == "auto":  # which needs none
        without = f"leave {setting}.folder out"
    else:
        without = f"set {setting}.source to 'auto' and no folder"
    raise FileNotFoundError(
        f"{given}, and {setting}.source {source!r} needs {meaning}: give its path as "
        f"{setting}.folder, or {without} to do without"
    )
