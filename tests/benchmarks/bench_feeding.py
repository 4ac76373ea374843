"""Feeding a training step against computing it: python -m tests.benchmarks.bench_feeding

Of each training at its published size: CPU milliseconds of a step's draws, on one thread, and of
gathering its samples from the view, which a GPU does that holds the view; and what the step takes
of a GPU that keeps up 300 TFLOP/s, by its arithmetic alone. Images are JPEGs of 500 x 375 px, drawn
of so many that nearly none is in memory: kept decoded, as after the first steps of a training, and
of DADA, whose images may be too many for that, also decoded at each use. Nothing is trained: the
loop is replaced by one that draws.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

import methods
from harness.planning.config import settings_of
from methods import work
from methods.blocks.decoded import GIB, Decoded
from methods.contract import Run, Samples
from methods.m3dm.uff import sample_order, updates
from methods.shape_guided.declaration import ExpertSettings
from methods.shape_guided.stage import ShapeExpert

FLOPS_S = 300e12
CORES = 4
STORED, IMAGES = 40, 1000  # JPEGs, and names of them: more than are kept in memory
SAMPLES = 16  # of the view; a category has about 250
PATCHES = 15_000  # of the shape expert: 20 clouds of 10 categories


def jpegs(folder: Path) -> str:
    """Crops of photographs as JPEGs, under many names."""
    spec = find_spec("sklearn")
    assert spec and spec.origin
    photo = cv2.imread(str(Path(spec.origin).parent / "datasets/images/china.jpg"))
    rng = np.random.default_rng(0)
    for i in range(STORED):
        top, left = rng.integers(photo.shape[0] - 375), rng.integers(photo.shape[1] - 500)
        cv2.imwrite(str(folder / f"{i}.jpg"), photo[top : top + 375, left : left + 500])
    for i in range(STORED, IMAGES):
        os.link(folder / f"{i % STORED}.jpg", folder / f"{i}.jpg")
    return str(folder)


@contextmanager
def every_image_kept() -> Iterator[None]:
    """In a cache of its own, from the start."""

    def begin(self, *given):
        kept_from_then_on(self, *given)
        for index in range(len(self.files)):
            self(index)

    kept_from_then_on = Decoded.__init__
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.object(Decoded, "__init__", begin),
        mock.patch.dict(os.environ, {"RELIEF_CACHE": cache}),
    ):
        yield


class Drawn(Exception):
    """Ends a fit with the function that draws its steps."""


def draws_of(module: str, fit: Callable[[], Any], phase: str = "train") -> Callable[[int], Any]:
    """What a fit gives to `optimise` to draw its steps with, samples apart."""

    def instead(name, net, optimiser, schedule, run, draw, loss, own="train", *args, **kwargs):
        if own == phase:
            raise Drawn(draw)

    def on_the_device(device, samples):
        return lambda indices: None

    with ExitStack() as changed:
        changed.enter_context(mock.patch(f"{module}.optimise", instead))
        if not module.endswith("stage"):
            changed.enter_context(mock.patch(f"{module}.batches_on", on_the_device))
        try:
            fit()
        except Drawn as found:
            return found.args[0]
    raise AssertionError(f"{module} has no phase {phase}")


def milliseconds(call: Callable[[int], Any], times: int) -> float:
    """CPU time of all threads, a call: the median of a few."""
    call(0)
    taken = []
    for i in range(1, times + 1):
        started = time.process_time()
        call(i)
        taken.append(time.process_time() - started)
    return 1000 * float(np.median(taken))


def view(size: int) -> Samples:
    rng = np.random.default_rng(0)
    shape = (SAMPLES, size, size)
    arrays = {
        "rgb": rng.integers(0, 256, (*shape, 3), np.uint8),
        "depth": rng.random(shape, np.float32),
        "foreground": rng.random(shape) < 0.5,
    }
    return Samples(arrays, tuple(map(str, range(SAMPLES))))


@dataclass(frozen=True)
class Row:
    """A training: what is prepared of a step by its number, FLOPs of the step, and its samples."""

    name: str
    batch: int
    prepare: Callable[[int], Any]
    flops: float
    samples: Samples | None = None

    def gather(self, step: int) -> None:
        """What a device does that holds the samples."""
        if self.samples:
            self.samples.batch((np.arange(self.batch) + step) % SAMPLES)


def image_method(name: str, module: str, folder: str) -> Row:
    """DAS3D and DBRN, whose cells have one training."""
    s = settings_of(name, [f"{name}.texture.folder={folder}"])
    made, samples = methods.get(name)(s, "rgb+3d", Run()), view(s.prep.size)
    draw = draws_of(module, lambda: made.fit(samples, samples))
    one, two = (replace(s, train=replace(s.train, steps=n)) for n in (1, 2))
    count = work.CELLS[name]
    flops = count(two, "rgb+3d", 9, 0).flops - count(one, "rgb+3d", 9, 0).flops
    return Row(f"{name} rgb+3d", s.train.batch, draw, flops, samples)


def dada(folder: str, images: str) -> Row:
    s = settings_of("3dsr", [f"3dsr.dada.images.folder={folder}"])
    cls = methods.get("3dsr")
    own = cls.stage_settings(s, "rgb+3d")["dada"]
    draw = draws_of("methods.dsr3d.stage", lambda: cls.stages["dada"](own, Run()).fit({}))
    t = own.dada.train
    flops = work.dada(own, 0).flops / t.steps
    return Row(f"3dsr rgb+3d, stage 1 (DADA), images {images}", t.batch, draw, flops)


def dsr3d(modality: str, phase: str, what: str) -> Row:
    """Stage 2 of 3DSR and of DSR, and DSR's upsampler."""

    def settings(steps: int) -> Any:
        changed = f"{phase}.steps={steps}"
        return settings_of(
            "3dsr", [f"3dsr.rgb.{changed}" if modality == "rgb" else f"3dsr.{changed}"]
        )

    s, cls = settings(2), methods.get("3dsr")
    made, samples = cls(s, modality, Run()), view(s.size_of(modality))
    with mock.patch.object(made, "_load_dada"):
        name = "train" if phase == "train" else "upsample"
        draw = draws_of("methods.dsr3d.method", lambda: made.fit(samples, samples), name)
    p = s.of(modality)
    batch = (p.train if phase == "train" else p.upsampler.train).batch
    two, one = (work.dsr3d(settings(n), modality, 9, 0).flops for n in (2, 1))
    return Row(what, batch, draw, two - one, samples)


def uff() -> Row:
    """Features of its images are read in the step."""
    s = settings_of("m3dm", ["m3dm.weights.rgb=random-init", "m3dm.weights.point=random-init"])
    own = methods.get("m3dm").stage_settings(s, "rgb+3d")["uff"]
    u, count = own.uff, 2500  # training samples of ten categories
    flops = work.uff(own, count).flops / (len(updates(count, u)) * u.accumulation)
    arrays = {
        "rgb": np.zeros((SAMPLES, 784, 768), np.float32),
        "points": np.zeros((SAMPLES, 1024, 1152), np.float32),
    }
    features = Samples(arrays, tuple(map(str, range(SAMPLES))))

    def read(step: int) -> None:
        sample_order(count, step, u, 0)
        features.batch(np.arange(u.batch) % SAMPLES)

    return Row("m3dm, a batch of UFF", u.batch, read, flops)


def shape_expert() -> Row:
    """Queries are drawn in the step."""
    expert = ShapeExpert(ExpertSettings(), Run())
    t, points = expert.settings.train, expert.settings.patches.points

    def queries(step: int) -> None:
        expert._order(step, PATCHES)
        generator = torch.Generator().manual_seed(step)
        torch.rand(t.batch, generator=generator)
        torch.randn((t.batch, points, 3), generator=generator)

    flops = work.shape_expert(replace(expert.settings, train=replace(t, steps=1)), 2500).flops
    return Row("shape_guided, shape expert", t.batch, queries, flops)


def rows(folder: str) -> Iterator[Row]:
    with every_image_kept():
        yield image_method("das3d", "methods.das3d.method", folder)
        yield image_method("dbrn", "methods.dbrn.method", folder)
        yield dada(folder, "kept")
    with mock.patch.dict(os.environ, {GIB: "0"}):
        yield dada(folder, "decoded")
    yield dsr3d("rgb+3d", "train", "3dsr rgb+3d, stage 2")
    yield dsr3d("rgb", "train", "3dsr rgb (DSR), stage 2")
    yield dsr3d("rgb", "upsampler.train", "3dsr rgb (DSR), upsampler")
    yield uff()
    yield shape_expert()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=9, help="steps that are prepared")
    times = parser.parse_args().times
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    columns = "training", "batch", "drawn, CPU ms", "gathered", "step, ms", f"of {CORES} cores"
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        made = jpegs(Path(folder))
        for row in rows(made):
            drawn, step = milliseconds(row.prepare, times), 1000 * row.flops / FLOPS_S
            gathered = f"{milliseconds(row.gather, times):.1f}" if row.samples else ""
            cells = f"{drawn:.1f} | {gathered} | {step:.1f} | {drawn / CORES / step:.0%}"
            print(f"| {row.name} | {row.batch} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
