"""Image files to arrays: colour, masks and depth, in whatever form the tools of sensors write.

What is read is what a viewer shows: colours and not indices of a palette, turned as EXIF says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from harness.data.files import printable, reading
from harness.data.formats import BITS
from harness.data.samples import DataError

CUT = 127  # of a mask in JPEG what is above is meant
SHADES = 8  # different values in the lower half, more than a mask has class ids there
LZW = 5  # of TIFF's compressions
OTHER_COLOURS = ("LAB", "HSV")  # which Pillow reads and cannot bring to RGB as meant
EIGHT_BIT = ("RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK", "YCbCr")
MISSING_16 = 65535  # of 16 bits: what many drivers write for "no depth"
ROUGH, SWAPPED = 16, 10  # mean step from which, and times it falls if, bytes were swapped


def read_tiff(path: Path) -> np.ndarray:
    import tifffile  # with it come a dozen modules, and few datasets have no other images

    with tifffile.TiffFile(path) as file:
        if file.pages.first.samplesperpixel == 1 and file.pages.first.compression == LZW:
            with Image.open(path) as image:  # tifffile would want a package more
                return np.array(_only(image, path))
        return file.asarray()


def _only(image: Image.Image, path: Path) -> Image.Image:
    """DataError for a file of several images of one size: smaller ones are previews."""
    if image.format == "MPO" or (count := getattr(image, "n_frames", 1)) == 1:
        return image
    size = image.size
    image.seek(1)
    alike = image.size == size
    image.seek(0)
    if alike:
        todo = "write the one that is meant alone, as PNG"
        raise DataError(f"{printable(path)} holds {count} images", todo, path)
    return image


def read_rgb(path: Path, bits: int = 0) -> np.ndarray:
    """(H, W, 3) uint8. Colours of 10, 12 or 16 bits are brought to 8.

    bits: how many they have; 0: judged by the image's largest value
    """
    image = reading(path, lambda: _colour(path))
    if image.ndim == 3 and image.shape[2] >= 3 and image.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(_eight_bits(image[..., :3], bits))
    if image.ndim == 2 and image.dtype == np.uint8:
        return np.repeat(image[..., None], 3, axis=2)
    kind = f"mode {_mode(path)}" if path.suffix.lower() == ".png" else f"{image.dtype}"
    deep = image.ndim == 2 and image.dtype.itemsize > 1
    raise DataError(
        f"{printable(path)} has {kind}, shape {image.shape}"
        + (", as images of depth have" if deep else "")
        + "; expected an 8-bit RGB image",
        "write it as 8-bit RGB PNG" + (", or move depth to depth/" if deep else ""),
        path,
    )


def judged_bits(path: Path) -> int:
    """How many bits `read_rgb` takes for those of an image of uint16; 0 of one that has 8."""
    if path.suffix.lower() not in (".tif", ".tiff", ".npy") and _bits_of_png(path) == 8:
        return 0
    image = reading(path, lambda: _colour(path))
    return _bits(image) if image.dtype == np.uint16 else 0


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool: True where any colour is above 0, since masks may hold class ids.

    Of JPEG above 127: its low values are noise. Where all colours are alike it is the alpha.
    """
    ids, lossy = reading(path, lambda: _ids(path))
    return ids > (CUT if lossy else 0)


def traces(path: Path) -> float:
    """Share of a mask's marked pixels that are shades below a brighter one: noise, or soft edges.

    Class ids are few, and shades many. 0 for JPEG, of which low values are cut off.
    """
    ids, lossy = reading(path, lambda: _ids(path))
    low = ids[(ids > 0) & (ids <= CUT)]
    if lossy or ids.dtype.kind not in "iu" or ids.max() <= CUT or len(np.unique(low)) < SHADES:
        return 0.0
    return low.size / int((ids > 0).sum())


def without_shades(path: Path) -> np.ndarray:
    """(H, W) bool of a mask with `traces`: what is bright."""
    return reading(path, lambda: _ids(path))[0] > CUT


def mask_or_empty(mask: Path | None, image: Path) -> np.ndarray:
    """`read_mask`, or nothing marked, of the size of an image."""
    return read_mask(mask) if mask else np.zeros(read_rgb(image).shape[:2], bool)


def read_depth(path: Path) -> np.ndarray:
    """(H, W) uint16 or float32 in the file's own unit; of floats NaN is 0, as missing."""
    depth = reading(path, lambda: _plain_array(path))
    if depth.ndim == 3 and depth.shape[2] == 1:
        depth = depth[..., 0]
    whole = depth.dtype.kind in "iu" and depth.dtype.itemsize > 1
    if depth.ndim != 2 or not (whole or depth.dtype.kind == "f"):
        numbers = depth.size and depth.dtype.kind in "buif"
        values = f"values {depth.min()} to {depth.max()}" if numbers else f"{depth.dtype}"
        raise DataError(
            f"{printable(path)} has {_described(path)}, {values}, "
            f"shape {depth.shape}; expected a 16-bit grey image",
            "write the depth as uint16, one channel",
            path,
        )
    if not whole:
        return np.where(np.isfinite(depth), depth, 0).astype(np.float32)
    if depth.min() < 0 or depth.max() > MISSING_16:
        raise DataError(
            f"{printable(path)} has {_described(path)}, values {depth.min()} to {depth.max()}; "
            "expected a 16-bit grey image",
            "write the depth as uint16, one channel",
            path,
        )
    depth = depth.astype(np.uint16)
    _check_bits(depth, path)
    return depth


def _colour(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with tifffile.TiffFile(path) as file:
            if file.pages.first.dtype != np.uint8:  # which Pillow cannot read in colour
                return file.asarray()
    with Image.open(path) as image:
        _only(image, path)
        if image.mode in OTHER_COLOURS:
            said = f"{printable(path)} has colours as {image.mode}; expected an 8-bit RGB image"
            raise DataError(said, "write it as 8-bit RGB PNG", path)
        if image.mode in ("RGB", "RGBA") and _bits_of_png(path) == 16:
            return _sixteen_bits(path)
        if image.mode in EIGHT_BIT:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
        return np.array(image)


def _sixteen_bits(path: Path) -> np.ndarray:
    """A PNG of 16 bits a colour, of which Pillow keeps the upper 8 only."""
    import cv2

    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("the image cannot be decoded")
    return np.ascontiguousarray(image[..., 2::-1])


def _eight_bits(image: np.ndarray, bits: int) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    return np.minimum(image >> ((bits or _bits(image)) - 8), 255).astype(np.uint8)


def _bits(image: np.ndarray) -> int:
    """Of uint16 by its largest value: 12-bit cameras fill the lower bits of 16."""
    most = int(image.max())
    return next(bits for bits in BITS if most < 1 << bits)


def _ids(path: Path) -> tuple[np.ndarray, bool]:
    """(H, W): what a mask marks by values above 0, and whether its file is a JPEG."""
    if path.suffix.lower() == ".npy":
        ids = np.load(path, allow_pickle=False)
        return ids if ids.ndim == 2 else ids[..., :3].max(axis=2), False
    with Image.open(path) as image:
        lossy = image.format == "JPEG"  # whatever it is called
        image = ImageOps.exif_transpose(_only(image, path))
        if image.mode in ("P", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
        elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            image = image.convert("RGB")
        ids = np.array(image)
    if ids.ndim == 3 and ids.shape[2] in (2, 4):
        colour, alpha = ids[..., :-1], ids[..., -1]
        flat = (colour == colour[0, 0]).all() and alpha.min() != alpha.max()
        ids = alpha if flat else colour
    return ids if ids.ndim == 2 else ids.max(axis=2), lossy


def _plain_array(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix in (".tif", ".tiff"):
        return read_tiff(path)
    with Image.open(path) as image:
        return np.array(image)


def _check_bits(depth: np.ndarray, path: Path) -> None:
    """DataError where the two bytes of a depth image are swapped."""
    part = depth[::4]
    roughness = _roughness(part)
    if roughness > ROUGH and _roughness(part.byteswap()) * SWAPPED < roughness:
        todo = "its two bytes are swapped: write depth.byteswap()"
        raise DataError(f"{printable(path)} is no depth as it stands", todo, path)


def _roughness(depth: np.ndarray) -> float:
    """Mean step between neighbours that both have depth."""
    values = depth.astype(np.int32)
    step = np.abs(np.diff(values, axis=1))[(values[:, 1:] > 0) & (values[:, :-1] > 0)]
    return float(step.mean()) if step.size else 0.0


def _bits_of_png(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(25)
    return head[24] if head[:4] == b"\x89PNG" and len(head) == 25 else 8


def _mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def _described(path: Path) -> str:
    return f"mode {_mode(path)}" if path.suffix.lower() == ".png" else path.suffix
