"""Time and memory of a job, as harness/metrics/README.md, section 5 lays down."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.data.samples import Category, Ref
from harness.data.views.choice import resolved
from harness.data.views.registry import builder_of
from harness.planning.jobs import Protocol
from harness.store import Record
from methods.contract import Batch, Method, Samples, View, seed_for

log = logging.getLogger(__name__)

TIMED = 16  # test samples that latency goes round
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Peak memory since construction; None where the system cannot tell."""

    def __init__(self, device: torch.device):
        self.device = device
        self.held: dict[str, int | None] = {}  # peaks of what was before the last reset
        self._reset()

    def _reset(self) -> None:
        self.resettable = False
        try:
            CLEAR_REFS.write_text("5")  # Linux: reset this process's high-water mark
            self.resettable = True
        except OSError:
            pass  # reported as unknown below, not as the process's life peak
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def hold(self) -> None:
        """Keep the peaks so far, and begin anew for a part of the job."""
        self.held = self.peaks()
        self._reset()

    def peaks(self, held: bool = True) -> dict[str, int | None]:
        """held: since construction, else since the last `hold`"""
        now = self._now()
        return larger(now, self.held) if held else now

    def _now(self) -> dict[str, int | None]:
        cuda = self.device.type == "cuda"
        card = torch.cuda.get_device_properties(self.device) if cuda else None
        return {
            "host_peak_bytes": self._host_peak(),
            "device_peak_bytes": torch.cuda.max_memory_allocated(self.device) if cuda else None,
            "device_reserved_bytes": torch.cuda.max_memory_reserved(self.device) if cuda else None,
            "device_total_bytes": card.total_memory if card else None,  # not a peak: the card's
        }

    def _host_peak(self) -> int | None:
        if not self.resettable:
            return None
        lines = STATUS.read_text().splitlines()
        return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM:")), None)


def larger(a: dict[str, int | None], b: dict[str, int | None]) -> dict[str, int | None]:
    """The higher of two peaks each; None where neither is known."""
    return {k: max((x for x in (v, b.get(k)) if x is not None), default=None) for k, v in a.items()}


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


class Parts:
    """Seconds of the named parts of predictions (methods/contract.py: Run.part)."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        _synchronise(self.device)
        started = time.perf_counter()
        yield
        _synchronise(self.device)
        self.seconds[name] += time.perf_counter() - started


def parts(method: Any, batches: list[Any], device: torch.device) -> dict[str, float]:
    """Median seconds a sample of each part of a prediction that the method tells; often none."""
    times: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        clock = method.run.part = Parts(device)
        try:
            method.predict(batch)
        finally:
            del method.run.part
        for name, seconds in clock.seconds.items():
            times[name].append(seconds)
    return {name: float(np.median(some)) for name, some in times.items()}


def prediction_memory(predict: Callable[[Any], Any], batch: Any, memory: Memory) -> dict[str, Any]:
    """Peaks while one sample is predicted, apart from the job's, which `memory` keeps.

    What is there before (weights, banks, libraries) is in them.
    """
    memory.hold()
    predict(batch)
    peaks = memory.peaks(held=False)
    return {f"predict_{name}": peaks[name] for name in ("host_peak_bytes", "device_peak_bytes")}


def singles(test: Samples, device: torch.device) -> list[Batch]:
    """Batches of one, without ids: nothing can be looked up, so all from arrays to map is timed."""
    few = range(min(len(test), TIMED))
    return [dataclasses.replace(test.batch([i], device), ids=("",)) for i in few]


def speed_of(
    method: Method, test: list[Batch], view: Record, protocol: Protocol, memory: Memory
) -> dict[str, Any]:
    """What a record says of the speed of a fitted method, but whether it was alone ("valid").

    test: `singles` of its own test samples; view: the record of what they are arrays of
    """
    device = memory.device
    found: dict[str, Any] = latency(
        method.predict,
        test,
        device,
        protocol.latency_warmup,
        protocol.latency_samples,
        protocol.latency_seconds,
    )
    found |= _with_preprocessing(found, view)
    found |= prediction_memory(method.predict, test[0], memory)
    return found | {f"part_{name}_s": s for name, s in parts(method, test, device).items()}


def _with_preprocessing(speed: dict[str, Any], view: Record) -> dict[str, float]:
    """What reading and preparing a sample adds, as measured when the view was made.

    End to end is the sum of the two medians. Nothing for a view of an earlier version.
    """
    if (before := view.speed.get("preprocess_p50_s")) is None:
        return {}
    return {"preprocess_p50_s": before, "end_to_end_p50_s": speed["latency_p50_s"] + before}


def preprocessing(
    category: Category, view: View, samples: int = 50, seconds: float = 10.0
) -> dict[str, float | int]:
    """Seconds to make a test sample's arrays from its files, one at a time in this thread.

    At most so many samples and about so long, after one that is not timed; the files are in the
    system's cache. What a view does to whole splits (`finish`) is not in it.
    """
    view, _ = resolved(category, view)
    prepare, refs = builder_of(type(view)).prepare, category.samples("test")[:samples]

    def once(ref: Ref) -> float:
        start = time.perf_counter()
        prepare(ref.load(), view, seed_for("plane", category.name, ref.id))
        return time.perf_counter() - start

    once(refs[0])
    times: list[float] = []
    for ref in refs:
        times.append(once(ref))
        if sum(times) >= seconds:
            break
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "preprocess_p50_s": float(p50),
        "preprocess_p95_s": float(p95),
        "timed_samples": len(times),
    }


def macs(predict: Callable[[Any], Any], batch: Any) -> int | None:
    """Multiply-accumulates of one call, in convolutions, matrix products and attention.

    Half the floating-point operations that torch counts, of the calls in this thread; distances
    and sorting (nearest neighbours) are not among them. None if torch cannot count.
    """
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            predict(batch)
    except Exception as error:  # a count is not worth a cell
        log.warning("macs_not_counted error=%s", str(error).splitlines()[0])
        return None
    return counter.get_total_flops() // 2


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def load_average() -> float | None:
    """One-minute load of the machine: timings taken under load are not comparable."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
