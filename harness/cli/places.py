"""Where data, textures and weights lie on this machine, as far as a short look can tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from methods.blocks import texture_choice
from methods.published import FILES, FOLDER, below

USUAL = (".", "data", "datasets", "~", "~/data", "~/datasets", "/data", "/datasets", "/mnt/data")
DATASETS = ("mvtec_3d_anomaly_detection", "mvtec_3d", "mvtec3d", "eyecandies")  # as unpacked
TEXTURES = ("dtd/images", "dtd")  # the Describable Textures Dataset
IMAGES = ("imagenet/train", "ILSVRC2012/train", "imagenet")
WEIGHTS = ("weights", "checkpoints", "pretrained")


def datasets() -> list[Path]:
    """Folders of the published datasets."""
    return list(dict.fromkeys(_named(DATASETS)))


def textures() -> Path | None:
    return next(filter(has_images, _named(TEXTURES)), None)


def images() -> Path | None:
    """Any photographs: 3DSR's first stage learns from ImageNet."""
    return next(filter(has_images, _named(IMAGES)), None)


def weights() -> Path | None:
    """A folder in which a published file lies."""
    given = os.environ.get(FOLDER)
    folders = iter([Path(given).expanduser()]) if given else _named(WEIGHTS)
    return next(filter(has_weights, folders), None)


def has_images(folder: Path) -> bool:
    return next(texture_choice.images(folder), None) is not None


def has_weights(folder: Path) -> bool:
    return any(below(folder, file.file) for file in FILES)


def _named(names: tuple[str, ...]) -> Iterator[Path]:
    """Folders with such a name in the usual places, however it is written."""
    for place in dict.fromkeys(Path(usual).expanduser().resolve() for usual in USUAL):
        for name in names:
            at = [place]
            for part in name.split("/"):
                at = [found for folder in at for found in _below(folder, part)]
            yield from at


def _below(folder: Path, name: str) -> list[Path]:
    try:
        there = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in there if path.name.lower() == name.lower() and path.is_dir()]
