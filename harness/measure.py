"""Time and memory of a job, as specs/metrics.md section 5 lays down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Peak memory since construction; None where the system cannot tell."""

    def __init__(self, device: torch.device):
        self.device = device
        self.resettable = False
        try:
            CLEAR_REFS.write_text("5")      # Linux: reset this process's high-water mark
            self.resettable = True
        except OSError:
            pass                            # reported as unknown below, not as the process's life peak
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def peaks(self) -> dict[str, int | None]:
        cuda = self.device.type == "cuda"
        return {
            "host_peak_bytes": self._host_peak(),
            "device_peak_bytes": torch.cuda.max_memory_allocated(self.device) if cuda else None,
            "device_reserved_bytes": torch.cuda.max_memory_reserved(self.device) if cuda else None,
        }

    def _host_peak(self) -> int | None:
        if not self.resettable:
            return None
        lines = STATUS.read_text().splitlines()
        return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM:")), None)


def latency(
    predict: Callable[[Any], Any],
    batches: list[Any],
    device: torch.device,
    warmup: int,
    samples: int,
    seconds: float,
) -> dict[str, float | int]:
    """Seconds per sample of `predict` on batches of one, device synchronised around each.

    Runs `warmup` unmeasured, then until both `samples` and `seconds` are reached.
    -> p50, p95 in seconds, fps = 1 / p50, how many were timed
    """
    def once(i: int) -> float:
        batch = batches[i % len(batches)]
        _synchronise(device)
        start = time.perf_counter()
        predict(batch)
        _synchronise(device)
        return time.perf_counter() - start

    for i in range(warmup):
        once(i)
    times: list[float] = []
    while len(times) < samples or sum(times) < seconds:
        times.append(once(len(times)))
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "latency_p50_s": float(p50),
        "latency_p95_s": float(p95),
        "fps": float(1 / p50),
        "timed_samples": len(times),
        "batch": 1,
    }


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def load_average() -> float | None:
    """One-minute load of the machine: timings taken under load are not comparable."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
