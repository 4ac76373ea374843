"""What can be mended without a doubt, in a copy: nothing of the original dataset changes.

Files that are sound are hard links to the original where the file system has such, else copies.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from harness.data.files import below, printable
from harness.data.folder import MEANT, OF_MASKS, PARTS
from harness.data.formats import IMAGES, LOSSY
from harness.data.images import CUT, read_depth, read_mask, read_rgb, traces, without_shades
from harness.data.importing.write import link_or_copy
from harness.data.masks import DARK
from harness.data.samples import SPLITS, DataError, split_meant
from methods.errors import UserError

TURNED = 0x0112  # EXIF's tag of the orientation

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # it is the copy's folder, not the file


@dataclass(frozen=True)
class Mended:
    file: str  # below the root, as it was
    what: str  # was done to it, or why it was left out


def fix(root: Path, out: Path, report: Callable[[int, int], None] = lambda n, of: None):
    """Write the dataset below `root` to the new folder `out`, mended. -> what was, file by file."""
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: give a new folder for the mended copy")
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{out} lies within {root}: give a folder beside it")
    out.mkdir(parents=True, exist_ok=True)
    found, taken = [], {}
    files = [(path, *_renamed(path.relative_to(root), root)) for path in below(root, strict=True)]
    files.sort(key=lambda one: bool(one[2]))  # what has its name already keeps it
    for done, (path, target, said) in enumerate(files, start=1):
        relative = printable(path.relative_to(root))
        try:
            said = [*said, *_written(path, out / target)]
            taken[target] = relative
        except FileExistsError:
            other = taken.get(target, "another file")
            said = [f"left out: {other} has its name, {printable(target)}; keep the right one"]
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            said = [f"left out: {error}"]
        except DataError as error:
            said = [f"left out: {error}"]
        found += [Mended(relative, what) for what in said]
        report(done, len(files))
    return found


def _renamed(relative: Path, root: Path) -> tuple[Path, list[str]]:
    """The name it should have, below the root, and why."""
    parts, said = list(relative.parts), []
    part = MEANT.get(parts[3].lower()) if len(parts) == 5 else None
    if part and part != parts[3] and not (root / Path(*parts[:3]) / part).exists():
        said.append(f"{parts[3]} renamed to {part}")
        parts[3] = part
    split = split_meant(parts[1]) if len(parts) > 4 and parts[-2] in PARTS else None
    if split and split != parts[1] and not (root / parts[0] / split).exists():
        said.append(f"{parts[1]} renamed to {split}")
        parts[1] = split
    for i, part in enumerate(parts[:-1]):
        if i and parts[i - 1] in SPLITS and part != "good" and part.lower() == "good":
            parts[i] = "good"
            said.append(f"{part} renamed to good")
    name = Path(parts[-1])
    if "gt" in parts:
        stem = next((name.stem.removesuffix(e) for e in OF_MASKS if name.stem.endswith(e)), None)
        if stem:
            parts[-1] = f"{stem}{name.suffix}"
            said.append(f"renamed to {parts[-1]}, as its image")
    plain = [os.fsencode(part).decode("utf-8", "replace").replace("\ufffd", "_") for part in parts]
    if plain != parts:
        said.append("a name that was no UTF-8 has _ there")
    return Path(*plain), said


def _written(path: Path, target: Path) -> list[str]:
    """Raises FileExistsError where the name is taken, maybe by a second name of an original."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part, image = target.parent.name, path.suffix.lower() in IMAGES
    png = target.with_suffix(".png")
    if os.path.lexists(target) or os.path.lexists(png):
        raise FileExistsError(target)
    if part == "rgb" and image and _turned(path):
        Image.fromarray(read_rgb(path)).save(png)
        return ["turned as its EXIF says, and written as PNG"]
    if part in ("gt", "mask") and image and _traces(path) > DARK:
        Image.fromarray(without_shades(path).astype(np.uint8) * 255).save(png)
        return [f"shades up to {CUT} cut off, and written as a PNG of 0 and 255"]
    if part in ("gt", "mask") and image and not _plain_mask(path):
        Image.fromarray(read_mask(path).astype(np.uint8) * 255).save(png)
        return ["written as a PNG of 0 and 255"]
    if part == "depth" and path.suffix.lower() == ".png":
        try:
            read_depth(path)
        except DataError as fault:
            if "swapped" not in fault.todo:
                raise
            with Image.open(path) as image:
                raw = np.array(image).astype(np.uint16)
            Image.fromarray(raw.byteswap()).save(png)
            return ["its swapped bytes put right"]
    link_or_copy(path, target)
    return []


def _turned(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.getexif().get(TURNED, 1) != 1
    except (OSError, ValueError, SyntaxError):
        return False


def _traces(path: Path) -> float:
    try:
        return traces(path)
    except DataError:  # told by the check
        return 0.0


def _plain_mask(path: Path) -> bool:
    """Whether a mask is one grey channel without loss: then its values may be class ids."""
    if path.suffix.lower() in LOSSY:
        return False
    try:
        with Image.open(path) as image:
            return image.mode in ("L", "1", "I", "I;16") and "transparency" not in image.info
    except (OSError, ValueError, SyntaxError):
        return True  # not readable: told by the check
