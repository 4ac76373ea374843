"""Hostile files and folders: what is planted in a small dataset, and what must come of it."""

import json
import os
import shutil

import numpy as np
import tifffile
from PIL import Image

ERROR, RIGHT, TOLD = "clear error", "right value", "told"
PARTS = {
    "rgb": "train/good/rgb/000.png",
    "xyz": "train/good/xyz/000.tiff",
    "gt": "test/hole/gt/000.png",
}


def write(path, content):
    path.write_bytes(content)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)


def bomb(path):
    """A PNG that says it has 10^10 pixels."""
    content = bytearray(path.read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    path.write_bytes(content)


def folder(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def round_link(path):
    path.unlink()
    path.symlink_to(path.name)


ANY_FILE = {  # what is done to a file of any part
    "empty": lambda p: write(p, b""),
    "garbage": lambda p: write(p, bytes(range(256)) * 4),
    "text": lambda p: write(p, b"hello\n"),
    "half": lambda p: write(p, p.read_bytes()[: len(p.read_bytes()) // 2]),
    "only its first bytes": lambda p: write(p, p.read_bytes()[:8]),
    "a web page": lambda p: write(p, b"<!doctype html><title>404</title>"),
    "a folder of its name": folder,
    "a link to nowhere": dangling,
    "a link to itself": round_link,
    "zeros": lambda p: write(p, bytes(len(p.read_bytes()))),
    "a pointer of git lfs": lambda p: write(p, b"version https://git-lfs.github.com/spec/v1\n"),
    "gone": lambda p: p.unlink(),
}


def cloud(change):
    def plant(folder):
        path = folder / PARTS["xyz"]
        tifffile.imwrite(path, np.ascontiguousarray(change(tifffile.imread(path))))

    return plant


def first(*values):
    """The first point is this one."""

    def change(xyz):
        xyz[0, 0] = values
        return xyz

    return cloud(change)


def image(part, array, **options):
    return lambda f: save(f / PARTS[part], array, **options)


RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
GT = np.zeros((48, 64), np.uint8)
GT[20:26, 30:36] = 255

CLOUDS = {
    "NaN": (first(np.nan, np.nan, np.nan), ERROR, "nonfinite=missing"),
    "infinite": (first(0, 0, np.inf), ERROR, "NaN or infinite"),
    "a stray of 65.535 m": (first(0.1, 0.1, 65.535), TOLD, "max_depth="),
    "a stray of 1e10": (first(0.1, 0.1, 1e10), TOLD, "max_depth="),
    "behind the camera": (first(0.1, 0.1, -32.768), TOLD, "z <= 0"),
    "-1 where nothing was seen": (
        cloud(lambda xyz: np.where(xyz == 0, np.float32(-1), xyz)),
        TOLD,
        "a number for no depth",
    ),
    "65.534 m where nothing was seen": (
        cloud(lambda xyz: np.where(xyz == 0, np.float32(65.534), xyz)),
        TOLD,
        "max_depth=",
    ),
    "z of 0 where nothing was seen": (
        cloud(lambda xyz: np.where(xyz == 0, np.float32([1, 1, 0]), xyz)),
        TOLD,
        "max_depth=",
    ),
    "column by column": (
        cloud(lambda xyz: xyz.transpose(1, 0, 2).reshape(xyz.shape)),
        TOLD,
        "along the rows",
    ),
    "that of another image": (
        lambda f: shutil.copy(f / "train/good/xyz/001.tiff", f / PARTS["xyz"]),
        TOLD,
        "the same depth as",
    ),
    "all behind": (cloud(lambda xyz: -xyz), TOLD, "z <= 0"),
    "millimetres": (cloud(lambda xyz: xyz * 1000), ERROR, "scale=0.001"),
    "micrometres": (cloud(lambda xyz: xyz * np.float32(1e6)), ERROR, "micrometres"),
    "kilometres": (cloud(lambda xyz: xyz / 1000), ERROR, "factor 0.001"),
    "nothing": (cloud(lambda xyz: xyz * 0), ERROR, "not a usable scan"),
    "whole numbers": (cloud(lambda xyz: (xyz * 1000).astype(np.int16)), ERROR, "expected float32"),
    "half floats": (cloud(lambda xyz: xyz.astype(np.float16)), RIGHT, ""),
    "double floats": (cloud(lambda xyz: xyz.astype(np.float64)), RIGHT, ""),
    "depth alone": (cloud(lambda xyz: xyz[..., 2]), ERROR, "expected float32 (rows"),
    "four channels": (cloud(lambda xyz: np.dstack([xyz, xyz[..., :1]])), ERROR, "expected float32"),
    "channels first": (cloud(lambda xyz: xyz.transpose(2, 0, 1)), ERROR, "expected float32"),
    "a list of points": (cloud(lambda xyz: xyz.reshape(-1, 3)), ERROR, "unorganised"),
    "another size": (cloud(lambda xyz: xyz[:40]), ERROR, "pixel-aligned"),
    "turned": (cloud(lambda xyz: xyz.transpose(1, 0, 2)), ERROR, "pixel-aligned"),
    "one point": (cloud(lambda xyz: xyz[:1, :1]), ERROR, "pixel-aligned"),
}

IMAGES = {
    "rgb 16-bit grey": (image("rgb", np.zeros((48, 64), np.uint16)), ERROR, "8-bit RGB PNG"),
    "rgb grey": (image("rgb", RGB[..., 0]), RIGHT, ""),
    "rgb with alpha": (image("rgb", np.dstack([RGB, RGB[..., :1]])), RIGHT, ""),
    "rgb palette": (image("rgb", RGB, mode="P"), RIGHT, ""),
    "rgb black and white": (image("rgb", RGB, mode="1"), RIGHT, ""),
    "rgb black": (image("rgb", RGB * 0), TOLD, "one colour"),
    "rgb one pixel": (image("rgb", RGB[:1, :1]), ERROR, "pixel-aligned"),
    "rgb turned": (image("rgb", RGB.transpose(1, 0, 2)), ERROR, "pixel-aligned"),
    "rgb a bomb": (lambda f: bomb(f / PARTS["rgb"]), ERROR, "cannot read"),
    "rgb called png, a jpeg": (
        lambda f: Image.fromarray(RGB).save(f / PARTS["rgb"], "JPEG"),
        RIGHT,
        "",
    ),
    "gt full": (image("gt", np.full_like(GT, 255)), TOLD, "marked as defect"),
    "gt inverted": (image("gt", 255 - GT), TOLD, "marked as defect"),
    "gt empty": (image("gt", GT * 0), TOLD, "no pixel of its mask"),
    "gt ones": (image("gt", GT // 255), RIGHT, ""),
    "gt 16 bits": (image("gt", GT.astype(np.uint16) * 257), RIGHT, ""),
    "gt colour": (image("gt", np.dstack([GT, GT * 0, GT * 0])), RIGHT, ""),
    "gt with alpha": (image("gt", np.dstack([GT, np.full_like(GT, 255)])), RIGHT, ""),
    "gt called png, a jpeg": (
        lambda f: Image.fromarray(GT).save(f / PARTS["gt"], "JPEG", quality=20),
        RIGHT,
        "",
    ),
    "gt another size": (image("gt", GT[:20]), ERROR, "pixel-aligned"),
    "gt a bomb": (lambda f: bomb(f / PARTS["gt"]), ERROR, "cannot read"),
}


def camera(content, at="calibration/camera_parameters.json"):
    """The training samples as depth images with this file of the camera; None: without."""

    def plant(folder):
        for path in sorted(folder.rglob("xyz/*.tiff")):
            depth = (tifffile.imread(path)[..., 2] * 1000).astype(np.uint16)
            target = path.parents[1] / "depth" / f"{path.stem}.png"
            target.parent.mkdir(exist_ok=True)
            Image.fromarray(depth).save(target)
        for path in sorted(folder.rglob("xyz")):
            shutil.rmtree(path)
        file = folder / at
        file.parent.mkdir(exist_ok=True)
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            file.write_bytes(text.encode())

    return plant


K = {"fx": 240, "fy": 240, "cx": 32, "cy": 24, "depth_scale": 0.001}
CAMERAS = {
    "sound": (camera(K), RIGHT, ""),
    "with a mark of byte order": (camera("\ufeff" + json.dumps(K)), RIGHT, ""),
    "gone": (camera(None), ERROR, "camera_parameters.json is missing"),
    "empty": (camera(""), ERROR, "cannot read"),
    "no json": (camera("fx=240"), ERROR, "cannot read"),
    "a list": (camera([1, 2]), ERROR, "no names with values"),
    "without cx": (camera({k: v for k, v in K.items() if k != "cx"}), ERROR, "lacks cx"),
    "without a scale": (camera({**K, "depth_scale": None}), ERROR, "a plain number"),
    "f of 0": (camera({**K, "fx": 0}), ERROR, "above 0"),
    "f in millimetres": (camera({**K, "fx": 4.5, "fy": 4.5}), ERROR, "in millimetres?"),
    "of a larger image": (camera({**K, "cx": 640, "cy": 360}), ERROR, "outside of images"),
    "f of -1": (camera({**K, "fy": -1}), ERROR, "above 0"),
    "NaN": (camera('{"fx": NaN, "fy": 1, "cx": 1, "cy": 1, "depth_scale": 1}'), ERROR, "above 0"),
    "words": (camera({**K, "fx": "wide"}), ERROR, "a plain number"),
    "of another size": (camera({**K, "width": 640, "height": 480}), ERROR, "is for 480 x 640"),
    "scale of metres": (camera({**K, "depth_scale": 1}), ERROR, "looks like millimetres"),
}


def renamed(old, new):
    return lambda f: (f / old).rename(f / new)


def bytes_name(folder):
    path = folder / "train/good/rgb/000.png"
    os.rename(path, os.fsencode(path.parent) + b"/caf\xe9.png")


def bytes_category(folder):
    other = shutil.copytree(folder, folder.with_name("other"))
    os.rename(other, os.fsencode(folder) + b"\xe9")


def also(path, source="train/good/rgb/000.png"):
    def plant(folder):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / source, folder / path)

    return plant


def all_of(folder, name):
    for part, suffix in (("rgb", "png"), ("xyz", "tiff")):
        path = folder / f"train/good/{part}/000.{suffix}"
        path.rename(path.with_stem(name))


LAYOUTS = {
    "Good": (renamed("test/good", "test/Good"), ERROR, "only 'good' is normal"),
    "ok": (renamed("test/good", "test/ok"), ERROR, "rename it to good"),
    "no train": (lambda f: shutil.rmtree(f / "train"), ERROR, "no training sample"),
    "no test": (lambda f: shutil.rmtree(f / "test"), ERROR, "no test sample"),
    "train/bad": (
        lambda f: shutil.copytree(f / "test/hole", f / "train/bad"),
        ERROR,
        "beside 'good'",
    ),
    "validation/bad": (
        lambda f: shutil.copytree(f / "test/hole", f / "validation/bad"),
        ERROR,
        "rename bad to good",
    ),
    "val": (lambda f: shutil.copytree(f / "test/good", f / "val/good"), TOLD, "to validation"),
    "Train": (renamed("train", "Train"), ERROR, "rename it to train"),
    "depth and xyz": (also("train/good/depth/000.png"), TOLD, "xyz/ is read"),
    "a category of no UTF-8": (bytes_category, ERROR, "is no UTF-8"),
    "no masks": (lambda f: shutil.rmtree(f / "test/hole/gt"), TOLD, "image metrics only"),
    "all good": (lambda f: shutil.rmtree(f / "test/hole"), TOLD, "all test samples are good"),
    "all bad": (lambda f: shutil.rmtree(f / "test/good"), TOLD, "all test samples are defective"),
    "trained on the test": (also("test/good/rgb/000.png"), TOLD, "the same image as"),
    "twice in train": (also("train/good/rgb/001.png"), TOLD, "the same image as"),
    "a deeper folder": (also("train/good/rgb/s1/7.png"), TOLD, "not read"),
    "another format": (also("train/good/rgb/7.heic"), TOLD, "not read"),
    "a cloud as obj": (also("train/good/xyz/7.obj"), TOLD, "not read"),
    "two of one name": (also("train/good/rgb/000.jpg"), ERROR, "the same name"),
    "bytes that are no UTF-8": (bytes_name, ERROR, "is no UTF-8"),
    "a lone image": (also("train/good/rgb/009.png"), ERROR, "is missing beside"),
    "a hidden file": (also("train/good/rgb/.hidden.png"), RIGHT, ""),
    "Thumbs.db": (also("train/good/rgb/Thumbs.db"), RIGHT, ""),
    "notes": (also("train/good/readme.txt"), RIGHT, ""),
    "a mask of MVTec AD": (renamed("test/hole/gt/000.png", "test/hole/gt/000_mask.png"), RIGHT, ""),
    "spaces": (lambda f: all_of(f, "a b  c"), RIGHT, ""),
    "quotes": (lambda f: all_of(f, 'it\'s "so"'), RIGHT, ""),
    "brackets": (lambda f: all_of(f, "[red]x"), RIGHT, ""),
    "umlauts": (lambda f: all_of(f, "größe"), RIGHT, ""),
    "a picture": (lambda f: all_of(f, "🥯"), RIGHT, ""),
    "a leading dash": (lambda f: all_of(f, "--help"), RIGHT, ""),
    "a percent": (lambda f: all_of(f, "100%s"), RIGHT, ""),
    "a line break": (lambda f: all_of(f, "a\nb"), RIGHT, ""),
    "a long name": (lambda f: all_of(f, "n" * 200), RIGHT, ""),
    "a file beside the categories": (lambda f: write(f.parent / "readme.txt", b"x"), RIGHT, ""),
    "another folder": (lambda f: (f.parent / "lost+found").mkdir(), TOLD, "not recognised"),
    "a link beside": (lambda f: (f.parent / "gone").symlink_to("/nowhere"), RIGHT, ""),
    "a mask of one object": (also("train/good/mask/000.png"), TOLD, "no mask of their object"),
    "RGB": (renamed("train/good/rgb", "train/good/RGB"), ERROR, "is missing beside"),
    "zeros before": (
        renamed("train/good/xyz/000.tiff", "train/good/xyz/0.tiff"),
        ERROR,
        "rename it",
    ),
    "train/ok": (renamed("train/good", "train/ok"), ERROR, "rename ok to good"),
}

FILES = {
    **{
        f"{part}: {name}": ((lambda f, p=path, plant=plant: plant(f / p)), ERROR, "")
        for part, path in PARTS.items()
        for name, plant in ANY_FILE.items()
    },
    **{f"cloud: {name}": case for name, case in CLOUDS.items()},
    **{f"image: {name}": case for name, case in IMAGES.items()},
    **{f"camera: {name}": case for name, case in CAMERAS.items()},
    **{f"layout: {name}": case for name, case in LAYOUTS.items()},
}
