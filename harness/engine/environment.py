"""What a result was computed with: versions, code, host, device, threads."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import torch

from harness.engine import numerics
from harness.engine.code import fingerprint
from harness.engine.commit import commit

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
        "commit": commit(),
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
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
