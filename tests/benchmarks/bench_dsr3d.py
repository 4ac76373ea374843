"""Speed of 3DSR: inference and training, plain against channels last, compiled and bfloat16.

    python -m tests.benchmarks.bench_dsr3d [--device cuda] [--size 384] [--batch 16] [--setting 3d]
        [--rounds 3] [--threads 1] [--quick] [--compile]

The networks are those of the paper unless --quick; plain is float32, contiguous tensors, eager.
Inference: one image at a time through autoencoder, restriction, decoder, U-Net and smoothing,
preprocessing excluded. Training: stage 2's whole step, simulated anomalies, losses, backward and
Adam, from arrays in memory. The ways take turns, each has the median of its rounds, so that a
busy machine is unfair to none; one thread on a CPU is timed in CPU seconds.

Rounding can turn a vector to another code, which changes the map around it, so maps are compared
by their mean absolute difference and losses relatively. What leaves the tolerance ends the program
with an error.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from methods.contract import Run, Samples, settings_from
from methods.dsr3d.method import Dsr3d
from methods.dsr3d.model import smooth
from methods.dsr3d.settings import Settings

PAPER_FPS = 33  # Table 6, on an RTX A4500
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.02}
NARROW = {
    "dada": {"net": {"hidden": 32, "residual_hidden": 16, "dim": 32, "codes": 256}},
    "restriction_base": 16,
    "unet_base": 8,
    "decoder": {"width": 32, "bottleneck": 16, "hidden": 32, "residual_hidden": 16},
}


class Way:
    """The same networks and data, run in one way."""

    def __init__(self, a: argparse.Namespace, last: bool, low=False, compiled=False):
        values = NARROW if a.quick else {}
        values = values | {"prep": {"size": a.size}, "train": {"batch": a.batch, "steps": 1}}
        self.method = Dsr3d(settings_from(Settings, values), a.setting, Run(device=a.device))
        self.memory = torch.channels_last if last else torch.contiguous_format
        self.low, self.device = low, torch.device(a.device)
        self.net = self.method.net.to(memory_format=self.memory)
        if compiled:
            # Weights that no gradient needs are frozen, as they may be at prediction.
            self.net.compare = torch.compile(self.net.compare, options={"freezing": True})
        self.samples = made_up(a.size, max(4, a.batch))
        trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=0.0, fused=True)  # stays comparable
        channels = {"rgb": 3, "3d": 1, "rgb+3d": 4}[a.setting]
        x = torch.rand(1, channels, a.size, a.size, generator=torch.Generator().manual_seed(1))
        self.x = x.to(self.device, memory_format=self.memory)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.low)

    @torch.inference_mode()
    def infer(self) -> torch.Tensor:
        with self.autocast():
            coded = self.net.autoencoder(self.x)
            logits = self.net.compare(coded.lo.q, coded.hi.q, coded.recon).logits
        maps = logits.float().softmax(dim=1)[:, 1]
        return smooth(maps, self.method.pipeline.score, self.method.setting)

    def train(self) -> torch.Tensor:
        rng = np.random.default_rng(0)
        image, feature = self.method._stage2_draws(rng, len(self.samples))
        batch = self.samples.batch(image.index, self.device)
        drawn = image.to(self.device), feature.to(self.device)
        with self.autocast():
            loss = self.method._stage2_loss(batch, *drawn)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def seconds(self, work: Callable) -> float:
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.perf_counter
        self.wait()
        start = clock()
        work()
        self.wait()
        return clock() - start

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def made_up(size: int, count: int) -> Samples:
    rng = np.random.default_rng(0)
    arrays = {
        "rgb": rng.integers(0, 256, (count, size, size, 3), np.uint8),
        "depth": rng.random((count, size, size), np.float32),
        "foreground": np.ones((count, size, size), bool),
    }
    return Samples(arrays, tuple(map(str, range(count))))


def measure(ways: dict[str, Way], what: str, rounds: int) -> bool:
    """Print a table of `what` ("infer" or "train"); -> whether all ways agree."""
    results, times = {}, {name: [] for name in ways}
    for number in range(rounds + 1):  # the first warms up
        for name, way in ways.items():
            found = []
            seconds = way.seconds(lambda: found.append(getattr(way, what)()))
            results[name] = found[0]
            if number:
                times[name].append(seconds)
    median = {name: float(np.median(t)) for name, t in times.items()}
    plain, agree = results["plain"], True
    images = 1 if what == "infer" else next(iter(ways.values())).method.pipeline.train.batch
    unit = "images/s" if what == "infer" else "steps/s"
    print(f"| {what} | s | {unit} | times as fast | difference | tolerance |")
    print("|---|---|---|---|---|---|")
    for name, way in ways.items():
        scale = 1 if what == "infer" else float(plain.abs())
        difference = float((results[name] - plain).abs().mean()) / scale
        tolerance = TOLERANCES["bfloat16" if way.low else "float32"]
        agree &= difference <= tolerance
        print(
            f"| {name} | {median[name]:.3f} | {1 / median[name]:.3f} | "
            f"{median['plain'] / median[name]:.2f} | {difference:.1e} | {tolerance} |",
            flush=True,
        )
    if what == "train":
        best = min(median.values())
        print(f"training: {images / best:.2f} images/s at best")
    else:
        best = 1 / min(median.values())
        print(f"FPS at best {best:.2f}; the paper prints {PAPER_FPS} (RTX A4500, 384 px)")
    print()
    return agree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=384, help="px; the paper's code: 384")
    parser.add_argument("--batch", type=int, default=16, help="of training")
    parser.add_argument("--setting", default="rgb+3d")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the narrow networks of the demo")
    parser.add_argument("--compile", action="store_true", help="also torch.compile of stage 2")
    parser.add_argument("--only", choices=("infer", "train"), help="one of the two")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    ways = {
        "plain": Way(a, last=False),
        "channels last (default)": Way(a, last=True),
        "channels last, bfloat16": Way(a, last=True, low=True),
    }
    if a.compile:
        ways["channels last, compiled"] = Way(a, last=True, compiled=True)
    with FlopCounterMode(display=False) as counter:
        ways["plain"].infer()
    flops = counter.get_total_flops() / 1e9
    cpu = platform.processor() or platform.machine()
    where = torch.cuda.get_device_name() if a.device == "cuda" else f"{cpu}, {a.threads} threads"
    print(
        f"{'narrow' if a.quick else 'full'} networks, {a.setting}, {a.size} px, training batch "
        f"{a.batch}, {flops:.3g} GFLOP an image; {where}, torch {torch.__version__}\n"
    )
    agree = [measure(ways, what, a.rounds) for what in ("infer", "train") if a.only in (None, what)]
    if not all(agree):
        raise SystemExit("results differ by more than their tolerance")


if __name__ == "__main__":
    main()
