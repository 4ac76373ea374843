"""How float32 is computed on a GPU: chosen by a configuration, and said in every record.

Two settings are looser or stricter than what the CPU gives, and part of a job's key where they are
not the default: TF32, and only operators with a fixed order of sums. On the CPU they do nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

DRIVER = Path("/proc/driver/nvidia/version")
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
TF32_FROM = 8  # compute capability: Ampere; others compute in float32, whatever is allowed


def settle(chosen: Mapping[str, Any]) -> None:
    """Put this process in the state that a job asks for: `numerics` of its spec.

    tf32: products and convolutions round their inputs to 10 bits of mantissa, on cards that can
    deterministic: scatters and gradients of resizing sum in a fixed order; what has no such form
    warns. cuDNN is deterministic at any time.
    """
    os.environ.setdefault(WORKSPACE, ":4096:8")  # cuBLAS sums alike on any stream; read once
    precision = "tf32" if chosen.get("tf32") else "ieee"
    backends: Any = torch.backends  # its parts are made at run time
    for part in (backends, backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul):
        part.fp32_precision = precision
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    torch.use_deterministic_algorithms(bool(chosen.get("deterministic")), warn_only=True)


def described(device: torch.device) -> dict[str, Any]:
    """What of it holds in this process on that device, and by which libraries; empty on the CPU."""
    if device.type != "cuda":
        return {}
    backends: Any = torch.backends
    card = torch.cuda.get_device_properties(device)
    return {
        "tf32": backends.cuda.matmul.fp32_precision == "tf32" and card.major >= TF32_FROM,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver(),
        "capability": f"{card.major}.{card.minor}",
    }


def driver() -> str | None:
    """The version of NVIDIA's driver; None where the system does not tell."""
    try:
        words = DRIVER.read_text(encoding="utf-8", errors="replace").split("\n")[0].split()
    except OSError:
        return None
    return next((w for w in words if w[:1].isdigit() and "." in w), None)
