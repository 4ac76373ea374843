"""Values as one text, and files that are replaced in one step."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from methods.files import PART, replaced, sync_folder

BLOCK_BYTES = 4 * 2**20
MANY = 64  # files that are synced one by one
SEAL = "checksum"  # of a sealed object's other values, among them


def canonical(value: Any) -> str:
    """One text per value: keys sorted, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(spec: dict) -> str:
    """The job's key: 16 hex digits of the hash of its canonical description."""
    return hashlib.sha256(canonical(spec).encode()).hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    """Readers see the old file or the whole new one; non-finite numbers are written as null."""
    write_text(path, json.dumps(_finite(value), indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace the file in one step, its bytes and its name on disk at the end."""
    with replaced(path) as file:
        file.write(text.encode("utf-8"))


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """An object as JSON keeps it, with a checksum of its own content; `unsealed` reads it."""
    plain = _finite({name: value for name, value in values.items() if name != SEAL})
    return plain | {SEAL: _seal(plain)}


def unsealed(text: bytes) -> dict[str, Any]:
    """The object in a JSON file, without its checksum.

    Raises ValueError for other text, for what is no object, and where the checksum does not fit.
    An object without one, of an earlier version, is taken as it is.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    seal = values.pop(SEAL, None)
    if seal is not None and seal != _seal(values):
        raise ValueError("its content does not fit its checksum")
    return values


def _seal(values: dict[str, Any]) -> str:
    import xxhash

    return xxhash.xxh3_64(canonical(values).encode()).hexdigest()


def write_brief(path: Path, value: Any) -> None:
    """As `write_json`, but not put on disk: for what only informs and is soon written again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PART}")
    try:
        part.write_text(json.dumps(value), encoding="utf-8")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def checksum(path: Path) -> str:
    """XXH3 of a file's content, 16 hex digits: against damage, not against intent."""
    import xxhash

    digest = xxhash.xxh3_64()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sync_tree(folder: Path) -> None:
    """Put every file below a folder, and every name, on disk.

    One by one up to MANY files; beyond, by one call for the whole file system where there is such
    (Linux), since a thousand small syncs take seconds.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    if len(files) > MANY and _sync_file_system(folder):
        return
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for path in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync_folder(path)


def _sync_file_system(folder: Path) -> bool:
    """syncfs(2), which Python lacks; False where the system has none."""
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        return syncfs(handle) == 0
    finally:
        os.close(handle)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
