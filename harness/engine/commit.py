"""Which commit of Relief this is; no library here."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path


@lru_cache
def commit() -> str | None:
    """The commit of this checkout, with + if files differ from it; of a wheel that of its build.

    None where neither says.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return built_from(root / "harness" / "COMMIT")
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=root,
            text=True,
            capture_output=True,
            timeout=10,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            # without a lock of the index, which would stop a commit that somebody makes meanwhile
            ["git", "--no-optional-locks", "status", "--porcelain", "-uno"],
            cwd=root,
            text=True,
            capture_output=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def built_from(path: Path) -> str | None:
    """What .ci/hatch_build.py left in a wheel."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except OSError:
        return None
