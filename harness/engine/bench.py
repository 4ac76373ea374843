"""One method on this machine: how fast it trains and predicts, and what memory it takes.

Samples are made, weights are random, each training takes a few steps: nothing here says how well a
method detects. Networks, batches and image sizes are those of the settings.
"""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.engine.allocation import ran_out
from harness.engine.measure import Memory, Parts, latency, macs
from harness.engine.rehearsal import SAMPLES, rehearsal
from harness.engine.runners import feeders
from methods.blocks.training import WAITING, every_step_reported
from methods.contract import Batch, Progress, Samples
from methods.contract_suite import Case

SIZES = ("demo", "published")
LEAST = 5  # predictions of one sample
WARM = 0.25  # share of a training's steps before those that are timed
# What needs files that must be had first; textures are those that come with the program.
NOTHING_NEEDED: dict[str, dict[str, Any]] = {
    "das3d": {"texture.source": "auto"},
    "dbrn": {"texture.source": "auto"},
    "3dsr": {"dada.images.source": "auto", "rgb.dada.images.source": "auto"},
    "m3dm": {"weights.rgb": "random-init", "weights.point": "random-init"},
    "shape_guided": {"weights.rgb": "random-init"},
}


@dataclass(frozen=True)
class Extent:
    """How much is done to measure a method."""

    steps: int = 12  # of each training
    train: int = 8  # training samples, which memory banks grow with
    batches: tuple[int, ...] = (8, 32)  # samples predicted at once
    seconds: float = 2.0  # that each prediction is repeated for, at least twice


@dataclass(frozen=True)
class Training:
    """Steps of one phase. A step ends when the device has done it."""

    phase: str
    steps_s: float  # steps a second
    waiting: float  # share of the time in which the device had nothing to do but wait for draws


@dataclass(frozen=True)
class Fit:
    """Of a stage, or of the method itself (name "")."""

    name: str
    seconds: float
    peak_bytes: int | None  # of the device; on the CPU of the process, libraries included
    trainings: tuple[Training, ...]


@dataclass(frozen=True)
class Throughput:
    """Of predictions of one batch size; None where it ran out of memory."""

    batch: int
    images_s: float | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Found:
    """What was measured of a method."""

    method: str
    setting: str
    size_px: int  # side of its maps
    fits: tuple[Fit, ...] = ()
    throughput: tuple[Throughput, ...] = ()  # the first is of batches of one
    macs: int | None = None  # of one image
    startup_s: float | None = None  # from its files to its first map
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def latency_s(self) -> float | None:
        """Median seconds of one image."""
        alone = self.throughput[0].images_s if self.throughput else None
        return 1 / alone if alone else None

    def of_peak(self, flops_s: float) -> float | None:
        """The largest share of these FLOP/s that predictions keep up."""
        rates = [t.images_s for t in self.throughput if t.images_s]
        return 2 * self.macs * max(rates) / flops_s if self.macs and rates else None


class Watch:
    """Listens to fits, one after the other (methods/standalone.py: watch)."""

    def __init__(self, device: torch.device):
        self.device, self.fits = device, []
        self.name: str | None = None

    def __call__(self, name: str) -> dict[str, Any]:
        self.end()
        self.name, self.memory, self.clock = name, Memory(self.device), Parts(self.device)
        self.marks: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.started = time.perf_counter()
        return {
            "report": self._report,
            "part": self.clock,
            "feeders": feeders(self.device, torch.get_num_threads()),
        }

    def _report(self, progress: Progress) -> None:
        if progress.loss is not None:  # which only steps have
            mark = time.perf_counter(), self.clock.seconds[WAITING]
            self.marks[progress.phase].append(mark)

    def end(self) -> None:
        """Of the fit that is watched, if any."""
        if self.name is None:
            return
        found = [Training(p, *pace) for p, m in self.marks.items() if (pace := _pace(m))]
        seconds, peak = time.perf_counter() - self.started, peak_bytes(self.memory)
        self.fits.append(Fit(self.name, seconds, peak, tuple(found)))
        self.name = None


def _pace(marks: list[tuple[float, float]]) -> tuple[float, float] | None:
    """Steps a second and the share of waiting, of (when, waited until then) after each step."""
    timed = marks[max(0, int(WARM * len(marks)) - 1) :]
    if len(timed) < 2:
        return None
    (start, before), (end, after) = timed[0], timed[-1]
    return (len(timed) - 1) / (end - start), (after - before) / (end - start)


def peak_bytes(memory: Memory) -> int | None:
    peaks = memory.peaks()
    return peaks["device_peak_bytes" if memory.device.type == "cuda" else "host_peak_bytes"]


def bench(
    name: str,
    settings: Any,
    setting: str,
    device: torch.device,
    extent: Extent,
    folder: Path,
) -> Found:
    """Fit a method with its stages on a few made samples, and predict.

    name: METHOD or METHOD/VARIANT, for the record. settings: of any size; `few_steps` is done here.
    folder: an empty one
    """
    few = few_steps(settings, extent.steps)
    counts: dict[str, Any] = {**SAMPLES, "train": extent.train}
    case = rehearsal(name.partition("/")[0], few, setting, folder, counts, sharp=True)
    case.device, case.watch = str(device), (watch := Watch(device))
    with every_step_reported():
        method = case.fit()
    watch.end()
    found = Found(name, setting, case.size[0], tuple(watch.fits), sizes=method.sizes())
    single = _batch(case.test, 1, device)
    return dataclasses.replace(
        found,
        throughput=tuple(_throughput(method, case.test, b, extent) for b in (1, *extent.batches)),
        macs=macs(method.predict, single),
        startup_s=_startup(case, method, single),
    )


def few_steps(settings: Any, steps: int) -> Any:
    """The same with no more than so many steps in any training that is counted in steps."""
    changed = {}
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        if dataclasses.is_dataclass(value):
            changed[one.name] = few_steps(value, steps)
        elif one.name == "steps" and (value or 0) > steps:
            changed[one.name] = steps
    return dataclasses.replace(settings, **changed)


def ready(method: str, steps: int) -> dict[str, Any]:
    """Dotted settings with which a method needs no files, and trainings in epochs have steps."""
    counted = {
        "m3dm": {"uff.epochs": 1, "uff.accumulation": 1, "uff.iterations": steps},
        "shape_guided": {"train.steps": steps},
    }
    return {**NOTHING_NEEDED.get(method, {}), **counted.get(method, {})}


def _batch(test: Samples, size: int, device: torch.device) -> Batch:
    """So many samples, repeated where there are fewer, without ids: nothing can be looked up."""
    batch = test.batch([i % len(test) for i in range(size)], device)
    return dataclasses.replace(batch, ids=("",) * size)


def _throughput(method: Any, test: Samples, size: int, extent: Extent) -> Throughput:
    device = torch.device(method.run.device)
    memory = Memory(device)
    try:
        batch = _batch(test, size, device)
        least = LEAST if size == 1 else 2
        timed = latency(method.predict, [batch], device, 2, least, extent.seconds)
    except Exception as error:  # whatever a library raises where memory ends
        if not ran_out(error):
            raise
        return Throughput(size, None, peak_bytes(memory))
    return Throughput(size, size * timed["fps"], peak_bytes(memory))


def _startup(case: Case, method: Any, single: Batch) -> float:
    saved = case.folder("saved")
    method.save(saved)
    started = time.perf_counter()
    fresh = case.make()
    fresh.load(saved)
    fresh.predict(single).scores.cpu()
    return time.perf_counter() - started
