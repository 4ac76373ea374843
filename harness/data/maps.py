"""Anomaly maps from elsewhere, as MVTec's evaluation tool reads them.

    MAPS/<category>/test/<defect>/NNN.tiff     or .tif, .npy, .png: one a test image, of its size

Values are taken as they are, higher is more anomalous; PNG of 8 or 16 bit.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from harness.data.files import reading
from harness.data.samples import DataError

SUFFIXES = (".tiff", ".tif", ".npy", ".png")
NAMED = 10  # files that a message lists


@dataclass(frozen=True)
class Faults:
    """What is wrong with a folder of maps, by file."""

    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.twice)

    def __str__(self) -> str:
        parts = {
            "missing": self.missing,
            "of no test image": self.extra,
            "beside another map of the same image": self.twice,
        }
        return "; ".join(f"{_listed(files)} {what}" for what, files in parts.items() if files)


def categories_of(root: Path) -> list[str]:
    """Folders that hold maps of a category."""
    return sorted(path.name for path in root.iterdir() if (path / "test").is_dir())


def find_maps(folder: Path, ids: Iterable[str]) -> tuple[dict[str, Path], Faults]:
    """id -> its file below MAPS/<category>, and what does not fit. ids: "test/hole/003" """
    there: dict[str, list[Path]] = {}
    for path in sorted((folder / "test").rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            id = path.relative_to(folder).with_suffix("").as_posix()
            there.setdefault(id if path.suffix.lower() in SUFFIXES else str(path), []).append(path)
    wanted = list(ids)
    known = {id: there[id] for id in wanted if id in there}
    faults = Faults(
        tuple(f"{folder / id}{SUFFIXES[0]}" for id in wanted if id not in there),
        tuple(str(path) for id in there if id not in known for path in there[id]),
        tuple(str(path) for paths in known.values() for path in paths[1:]),
    )
    return {id: paths[0] for id, paths in known.items()}, faults


def fingerprint_of(files: Iterable[Path]) -> str:
    """16 hex digits of the files' contents, in their order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def read_map(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32. Raises DataError naming the file if it is not finite, or of another size."""
    values = np.asarray(reading(path, lambda: _values(path)))
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        problem = f"{path} is {values.dtype} of shape {values.shape}, not one number a pixel"
        raise DataError(problem, "write it as float32 (rows, columns)", path)
    if values.shape != tuple(size):
        raise DataError(
            f"{path} is {values.shape[0]} x {values.shape[1]} px, its image {size[0]} x {size[1]}",
            "bring the maps to the size of the dataset's own files",
            path,
        )
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        problem = f"{path} has {bad} values that are NaN or infinite, as float32"
        raise DataError(problem, "mend it", path)
    return values


def _values(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".png":
        with Image.open(path) as image:
            if image.mode == "P":  # its numbers are places in the palette
                raise ValueError("its pixels are colours of a palette, not scores; write grey")
            return np.array(image)
    return tifffile.imread(path)


def read_image_scores(path: Path) -> dict[tuple[str, str], float]:
    """(category, id) -> score, of a CSV with the columns category, id, score.

    id: "test/hole/003", also without "test/" and with a suffix. Raises DataError.
    """
    found: dict[tuple[str, str], float] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error}", "save it as such", path) from error
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if lacking := [c for c in ("category", "id", "score") if c not in (rows.fieldnames or ())]:
        raise DataError(
            f"{path} lacks the columns {', '.join(lacking)}", "write category,id,score", path
        )
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        id = "test/" + str(row["id"]).removeprefix("test/")
        id = Path(id).with_suffix("").as_posix() if Path(id).suffix in SUFFIXES else id
        if (row["category"], id) in found:
            raise DataError(f"{where}: {row['category']}/{id} is there already", "mend it", path)
        try:
            found[row["category"], id] = _score(row["score"])
        except (TypeError, ValueError):
            problem = f"{where}: score {row['score']!r} is no finite number"
            raise DataError(problem, "mend it", path) from None
    return found


def _score(text: str) -> float:
    """Raises ValueError for what is no finite float32."""
    with np.errstate(over="ignore"):
        score = float(np.float32(float(text)))
    if not np.isfinite(score):
        raise ValueError("not finite")
    return score


def scores_for(
    scores: Mapping[tuple[str, str], float], category: str, ids: Sequence[str], path: Path
) -> np.ndarray:
    """(n,) float32 of a category's images. Raises DataError if they are not those of the scores."""
    there = {id for own, id in scores if own == category}
    if missing := sorted(set(ids) - there):
        problem = f"{path} has no score of {_listed([f'{category}/{id}' for id in missing])}"
        raise DataError(problem, "write one for every test image", path)
    if extra := sorted(there - set(ids)):
        problem = f"{path} has scores of {_listed([f'{category}/{id}' for id in extra])}"
        raise DataError(f"{problem}, of which there is no test image", "take them out", path)
    return np.array([scores[category, id] for id in ids], np.float32)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
