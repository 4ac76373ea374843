"""Files and folders of datasets. Whatever cannot be read is a DataError that names it."""

from __future__ import annotations

import functools
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from harness.data.samples import DataError

T = TypeVar("T")

UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # marks of byte order
LONGEST = 200  # characters of a reader's own words


def reading(path: Path, read: Callable[[], T]) -> T:
    """What `read` gives; a DataError that names the file where it cannot."""
    try:
        if not path.is_file() and path.exists() and not path.is_dir():  # opening it may never end
            raise DataError(
                f"{printable(path)} is no file but a pipe, socket or device", "remove it", path
            )
        return read()
    except _read_errors() as error:
        raise unreadable(path, error) from error


@functools.cache
def _read_errors() -> tuple[type[Exception], ...]:
    """What the readers raise for damaged files: a wrong length may ask for terabytes (MemoryError).

    Known once there is an error, so that who lists a dataset imports no reader.
    """
    from tokenize import TokenError  # of numpy, for the head of a file

    import yaml
    from PIL import Image

    return (
        TokenError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        SyntaxError,
        ImportError,
        EOFError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
        Image.DecompressionBombError,
        struct.error,
        zlib.error,
        yaml.YAMLError,
    )


def read_yaml(path: Path) -> dict:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, several times faster
    return _mapping(path, lambda: yaml.load(read_text(path), loader))


def read_json(path: Path) -> dict:
    return _mapping(path, lambda: json.loads(read_text(path), object_pairs_hook=_once))


def _once(pairs: list[tuple[str, object]]) -> dict:
    """Pairs as a mapping; of a name that stands twice nobody knows which value is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise DataError(f"{twice!r} stands twice in a JSON file", "keep one of them")
    return found


def read_text(path: Path) -> str:
    """UTF-8, with or without a mark of byte order, or UTF-16 with one."""
    raw = reading(path, path.read_bytes)
    try:
        return raw.decode("utf-16" if raw[:2] in UTF_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{printable(path)} is no text in UTF-8: {error}", "save it as UTF-8", path
        ) from error


def unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        if error.file is None:
            return DataError(f"{printable(path)}: {error.problem}", error.todo, path)
        return error
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
        if path.is_symlink():
            return DataError(
                f"{printable(path)} is a link to {path.readlink()}, which cannot be read",
                "restore what it points to, or remove it",
                path,
            )
        if isinstance(error, FileNotFoundError):
            return DataError(f"{printable(path)} is not there", "correct the name, or restore it")
    if isinstance(error, PermissionError):
        return DataError(f"{printable(path)} may not be read", "change its permissions", path)
    if isinstance(error, IsADirectoryError):
        return DataError(f"{printable(path)} is a folder", "give a file", path)
    todo = "truncated or damaged, so restore it"
    if "allow_pickle" in str(error):  # which may run whatever is in it
        todo = "write a plain array of numbers, e.g. array.astype(numpy.float32)"
    if "imagecodecs" in str(error) or isinstance(error, ImportError):  # for rare compressions
        todo = "write the TIFF uncompressed or with deflate"
    if isinstance(error, json.JSONDecodeError) and size:
        todo = "correct it: names in double quotes, no comments, no comma at the end of a list"
    said = " ".join(str(error).split()) or type(error).__name__  # some have many lines
    said = f"{said[:LONGEST]} ..." if len(said) > LONGEST else said
    return DataError(f"cannot read {printable(path)} ({size} bytes): {said}", todo, path)


def listed(path: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing if it is none. A leading dot is a by-product.

    Raises DataError for a folder that may not be read.
    """
    if not is_folder(path):
        return []
    try:
        return sorted(path / name for name in os.listdir(path) if not name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{printable(path)} cannot be listed: {error.strerror}",
            "change its permissions, or move it elsewhere",
            path,
        ) from error


def folders(path: Path) -> list[Path]:
    """The folders in a folder; a link that leads nowhere is none, nor what may not be seen."""
    return [p for p in listed(path) if is_folder(p)]


def is_folder(path: Path) -> bool:
    """`Path.is_dir`, and no error for what may not be seen."""
    try:
        return path.is_dir()
    except OSError:
        return False


def check_seen(path: Path) -> None:
    """DataError for a folder of which the content may not be seen: it would look empty."""
    if is_folder(path) and not os.access(path, os.R_OK | os.X_OK):
        raise DataError(
            f"{printable(path)} may not be looked into",
            "change its permissions, or move it elsewhere",
            path,
        )


def printable(path: Path | str) -> str:
    """A path, or a text with paths, for messages, in one line; bytes that are no UTF-8 as \\xNN.

    What is no character either, e.g. what moves a terminal's cursor, is shown as Python writes it.
    """
    text = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def check_name(path: Path) -> None:
    """DataError for a name that is no UTF-8: it can stand in no table."""
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError:
        if _is_utf_8(os.fsencode(path.name)):
            raise DataError(
                f"the name of {printable(path)} cannot be read in the locale of this shell, "
                f"{sys.getfilesystemencoding()}",
                "set PYTHONUTF8=1, or LC_ALL=C.UTF-8",
                path,
            ) from None
        raise DataError(
            f"the name of {printable(path)} is no UTF-8", "rename it, in plain letters", path
        ) from None


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def below(path: Path, strict: bool = False) -> Iterator[Path]:
    """Every file below a folder and the folders that it links to, sorted. No by-products.

    strict: DataError for a folder that cannot be listed, which else has none
    """

    def refused(error: OSError) -> None:
        if strict:
            listed(Path(os.fspath(error.filename)))

    seen: set[str] = set()
    for folder, inner, names in os.walk(path, onerror=refused, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above it, or a second one to it
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


def _mapping(path: Path, load: Callable) -> dict:
    content = reading(path, load)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no names with values", "restore it", path)
    return content
