"""Files that are replaced in one step, and are on disk before anything names them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

PART = ".part"  # end of the name of a file that is being written


def cache(name: str) -> Path:
    """A file of this user that can be made again at any time; RELIEF_CACHE is another folder."""
    if own := os.environ.get("RELIEF_CACHE"):
        return Path(own).expanduser() / name
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "relief" / name


def read_cache(path: Path) -> dict[str, Any]:
    """What `write_cache` kept; empty where there is nothing of use."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def write_cache(path: Path, values: Mapping[str, Any]) -> None:
    """For the next process. Without a place for it, that makes it again."""
    with suppress(OSError), replaced(path) as file:
        file.write(json.dumps(values).encode())


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end of the block.

    Readers see the old file or the whole new one, also after a power cut: its bytes are on disk
    before its name, and its name when the block is left. Where the block raises, nothing changes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)  # mkstemp makes files private; a store is shared
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk, where the system can (POSIX)."""
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems have no such call; they do it on their own
    finally:
        os.close(handle)
