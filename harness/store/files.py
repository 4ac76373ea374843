"""Values as one text, and files that are replaced in one step."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any


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
    """Replace the file in one step, its bytes on disk before its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(part, 0o644)  # mkstemp makes files private; a store is shared
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
