"""Samples as files in the layout of MVTec 3D-AD."""

from __future__ import annotations

from collections.abc import Callable

import tifffile
from PIL import Image

from .part import json_bytes
from .sample import make_sample
from .spec import Spec

README = """\
{category}: computed images of an object that does not exist, in the layout of MVTec 3D-AD.

{{train,validation,test}}/<defect>/rgb/NNN.png   colour, 8 bit
{{train,validation,test}}/<defect>/xyz/NNN.tiff  points in metres, camera frame, 0 0 0 = missing
test/<defect>/gt/NNN.png                       anomalous pixels, values as in class_ids.json
manifest.json                                  the settings, and what was drawn for each sample
"""


def folders(category: str, spec: Spec) -> list[str]:
    return ["calibration"] + [
        f"{folder}/{part}"
        for folder in spec.counts(category)
        for part in (("rgb", "xyz", "gt") if folder.startswith("test") else ("rgb", "xyz"))
    ]


def notes(category: str, spec: Spec) -> dict[str, bytes]:
    """The files that are about the category as a whole."""
    camera = {name: getattr(spec.camera, name) for name in ("f", "cx", "cy", "width", "height")}
    ids = {str(value): kind for value, kind in spec.class_ids(category).items()}
    return {
        "calibration/camera_parameters.json": json_bytes(camera),
        "class_ids.json": json_bytes(ids),
        "readme.txt": README.format(category=category).encode(),
    }


def write_sample(
    put: Callable, category: str, split: str, defect: str, index: int, spec: Spec
) -> dict:
    """Write one sample's files by put(path, content); -> what was drawn."""
    rgb, xyz, mask, drawn = make_sample(category, split, defect, index, spec)
    folder, name = f"{split}/{defect}", f"{index:03d}"
    put(f"{folder}/rgb/{name}.png", lambda f: Image.fromarray(rgb).save(f, "PNG"))
    # No description, software or date tags: equal arrays must give equal bytes.
    put(
        f"{folder}/xyz/{name}.tiff",
        lambda f: tifffile.imwrite(
            f, xyz, photometric="rgb", metadata=None, software=False, byteorder="<"
        ),
    )
    if split == "test":
        put(f"{folder}/gt/{name}.png", lambda f: Image.fromarray(mask).save(f, "PNG"))
    return drawn
