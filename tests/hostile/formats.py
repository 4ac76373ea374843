"""Hostile formats of files: images and cameras as other tools write them."""

import io
import json

import numpy as np
import tifffile
from PIL import Image

from tests.hostile.files import ERROR, GT, PARTS, RGB, RIGHT, TOLD, K, camera


def part(name, array, ends=".tif", **options):
    """A sample's part in another file; with `how`, as that writes it."""

    def plant(folder):
        old = folder / PARTS[name]
        old.unlink()
        path = old.with_suffix(ends)
        how = options.get("how", lambda p, a: Image.fromarray(a).save(p, **options))
        how(path, array)

    return plant


def twice(path, array):
    image = Image.fromarray(array)
    image.save(path, save_all=True, append_images=[image])


def with_preview(path, array):
    with tifffile.TiffWriter(path) as file:
        file.write(array, photometric="rgb")
        file.write(array[::4, ::4], photometric="rgb")


def in_lab(path, array):
    tifffile.imwrite(path, array, photometric="cielab")


def unknown_compression(path, array):
    tifffile.imwrite(path, array, photometric="rgb", extratags=[])
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["Compression"].overwrite(50000)


def endless_head(path, array):
    np.save(path, array)
    path.write_bytes(path.read_bytes().replace(b"(48, 64, 3)", b"((48, 64,  "))


def depth(how, ends):
    """The first depth image in another file."""

    def plant(folder):
        camera(K)(folder)
        old = folder / "train/good/depth/000.png"
        array = np.array(Image.open(old)).astype(np.uint16)
        old.unlink()
        how(old.with_suffix(ends), array)

    return plant


def as_png(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


FORMATS = {
    "gt of two pages": (part("gt", GT, how=twice), ERROR, "holds 2 images"),
    "rgb of two pages": (part("rgb", RGB, how=twice), ERROR, "holds 2 images"),
    "rgb with a preview": (part("rgb", RGB, how=with_preview), RIGHT, ""),
    "rgb tif in lzw": (part("rgb", RGB, compression="tiff_lzw"), RIGHT, ""),
    "rgb tif as jpeg": (part("rgb", RGB, compression="jpeg"), RIGHT, ""),
    "rgb tif in lab": (part("rgb", RGB, how=in_lab), ERROR, "has colours as LAB"),
    "rgb tif in a compression of no one": (
        part("rgb", RGB.astype(np.uint16), how=unknown_compression),
        ERROR,
        "uncompressed or with deflate",
    ),
    "rgb npy with a head without end": (
        part("rgb", RGB, ".npy", how=endless_head),
        ERROR,
        "cannot read",
    ),
    "depth tif in lzw": (
        depth(lambda p, a: Image.fromarray(a).save(p, compression="tiff_lzw"), ".tif"),
        RIGHT,
        "",
    ),
    "depth of words": (depth(lambda p, a: np.save(p, a.astype(str)), ".npy"), ERROR, "16-bit"),
    "depth of records": (
        depth(lambda p, a: np.save(p, a.view([("z", "<u2")])), ".npy"),
        ERROR,
        "16-bit grey",
    ),
    "depth npy, a png": (depth(lambda p, a: p.write_bytes(as_png(a)), ".npy"), ERROR, "cannot"),
}

DRIVER = {"depth_scale": 0.001, "fx": 240, "fy": 240, "ppx": 32, "ppy": 24}  # as RealSense's
MATRIX = {"depth_scale": 0.001, "K": [240, 0, 32, 0, 240, 24, 0, 0, 1]}
CAMERAS = {
    "by a driver": (camera(DRIVER), RIGHT, ""),
    "a matrix": (camera(MATRIX), RIGHT, ""),
    "by another name": (camera(K, "calibration/camera.json"), ERROR, "camera.json is it"),
    "in another folder": (camera(K, "Calibration/k.json"), ERROR, "k.json is it"),
    "beside the splits": (camera(K, "intrinsics.yaml"), ERROR, "written as JSON"),
    "beside the category": (camera(K, "../camera.json"), ERROR, "camera.json is it"),
    "with comments": (camera("// mine\n" + json.dumps(K)), ERROR, "no comments"),
    "a name twice": (camera('{"fx": 1, "fx": 2}'), ERROR, "stands twice"),
    "a bent lens": (camera({**K, "distortion": [0.1, 0, 0, 0, 0]}), TOLD, "undistort"),
    "true": (camera({**K, "depth_scale": True}), ERROR, "a plain number"),
    "width alone": (camera({**K, "width": 64}), RIGHT, ""),
    "a wrong width alone": (camera({**K, "width": 640}), ERROR, "is for ? x 640"),
    "f of 1e6": (camera({**K, "fx": 1e6, "fy": 1e6}), ERROR, "narrower than any"),
}
