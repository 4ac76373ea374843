"""What a result was computed with: versions, code, host, device, threads."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import torch

from harness.engine import numerics
from harness.engine.code import fingerprint

PACKAGES = (
    "relief-bench",
    "torch",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "opencv-python-headless",
    "tifffile",
    "ray",
    "mlflow",
)


def environment(device: torch.device) -> dict:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.system(),
        "host": platform.node(),
        "versions": _versions(),
        "code": fingerprint(),
        "commit": _commit(),
        "cudnn": None,
    } | numerics.described(device)


@lru_cache
def _versions() -> dict[str, str]:
    """Installed versions; a package that is not installed is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache
def _commit() -> str | None:
    """The commit of this checkout, with + if files differ from it; of a wheel that of its build.

    None where neither says.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return _built_from(root / "harness" / "COMMIT")
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


def _built_from(path: Path) -> str | None:
    """What .ci/hatch_build.py left in a wheel."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except OSError:
        return None


@lru_cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
