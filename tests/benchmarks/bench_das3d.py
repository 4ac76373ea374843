"""Speed of DAS3D: training, latency and synthesis, as a Markdown table.

    python -m tests.benchmarks.bench_das3d [--quick] [--device cuda]

Steps draw their random numbers themselves here; in a fit, a thread draws them one step ahead.
Needs torch, NumPy and OpenCV; without SciPy the comparison with the slow synthesis is left out,
without Pillow the textures are not augmented. Latency: batch 1, tensors on the device in, map
and score on the device out; warm-up 10 samples, then >= 50 samples and >= 10 s
(harness/metrics/README.md, section 5).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import platform
import time

import numpy as np
import torch

from methods.blocks.samples import rgbd
from methods.contract import Run, Samples, settings_from
from methods.das3d.method import Das3d
from methods.das3d.settings import Settings
from methods.das3d.synthesis import draw_samples, synthesise

SIZES = {  # name: side px, width, base, batch
    "paper": (256, 128, 64, 8),
    "narrow": (64, 16, 16, 8),
}


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def make_settings(size: int, width: int, base: int, batch: int) -> Settings:
    return settings_from(
        Settings,
        {
            "prep": {"size": size},
            "recon": {"width": width},
            "disc": {"base": base},
            "texture": {"source": "procedural", "augment": has("PIL")},
            "train": {"batch": batch},
        },
    )


def make_samples(count: int, size: int) -> Samples:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = np.broadcast_to(np.hypot(x, y) < 0.4 * size, (count, size, size))
    return Samples(
        {
            "rgb": rng.integers(0, 256, (count, size, size, 3), np.uint8) * inside[..., None],
            "depth": np.where(inside, rng.random((count, size, size)), 1).astype(np.float32),
            "foreground": inside.copy(),
        },
        tuple(map(str, range(count))),
    )


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def training_step_s(method: Das3d, samples: Samples, steps: int) -> tuple[float, float]:
    """Median seconds of a training step, and of the simulation that is part of it."""
    device, s = method.run.device, method.settings
    optimiser = torch.optim.Adam(method.net.parameters(), lr=s.train.lr, fused=True)
    texture = method._texture()

    def draw(step):
        seeds = [method._seed("simulate", step, index) for index in range(s.train.batch)]
        return draw_samples(seeds, s, method.setting, texture)

    def simulate(step):
        batch = samples.batch(method._order(step, len(samples)), device)
        synthesise(*rgbd(batch), draw(step).to(device), s)

    def train(step):
        optimiser.zero_grad()
        batch = samples.batch(method._order(step, len(samples)), device)
        method._loss(batch, draw(step).to(device)).backward()
        optimiser.step()

    method.net.train()
    seconds = [median_s(function, steps, device) for function in (train, simulate)]
    method.net.eval()
    return tuple(seconds)


def median_s(function, repeats: int, device: str) -> float:
    times, warm_up = [], min(repeats, 3)
    for step in range(warm_up + repeats):
        synchronise(device)
        start = time.perf_counter()
        function(step)
        synchronise(device)
        times.append(time.perf_counter() - start)
    return float(np.median(times[warm_up:]))


def latency_s(method: Das3d, samples: Samples, warm_up: int, least: int, least_s: float):
    """Seconds of single predictions."""
    device = method.run.device
    batches = [samples.batch([i], device) for i in range(len(samples))]
    times, begun = [], None
    for i in itertools.count():
        synchronise(device)
        start = time.perf_counter()
        begun = start if i == warm_up else begun
        method.predict(batches[i % len(batches)])
        synchronise(device)
        end = time.perf_counter()
        if i >= warm_up:
            times.append(end - start)
            if len(times) >= least and end - begun >= least_s:
                return np.array(times)


def slow_over_fast(settings: Settings, samples: Samples, count: int) -> float:
    """How many times faster the batched synthesis is than one sample at a time in NumPy."""
    from tests.methods import das3d_oracle as oracle

    draws = draw_samples(range(count), settings, "3d", None)
    batch = samples.batch(np.arange(count) % len(samples))
    synthesise(*rgbd(batch), draws, settings)
    start = time.perf_counter()
    synthesise(*rgbd(batch), draws, settings)
    fast = time.perf_counter() - start
    arrays = [batch[name].numpy() for name in ("rgb", "depth", "foreground")]
    start = time.perf_counter()
    for i in range(count):
        oracle.synthesise(arrays[0][i] / 255, arrays[1][i], arrays[2][i], draws, i, settings)
    return (time.perf_counter() - start) / fast


def rows(device: str, quick: bool):
    for name, (size, width, base, batch) in SIZES.items():
        on_cpu_large = device == "cpu" and size > 64
        if on_cpu_large:
            batch = 1 if quick else 2
        settings = make_settings(size, width, base, batch)
        method = Das3d(settings, "rgb+3d", Run(device=device))
        samples = make_samples(8, size)
        step_s, simulation_s = training_step_s(method, samples, 1 if on_cpu_large or quick else 20)
        protocol = (1, 3, 0.0) if quick else (10, 50, 10.0)
        times = latency_s(method, samples, *protocol)
        ratio = f"{slow_over_fast(settings, samples, 8):.0f}x" if has("scipy") else "-"
        yield [
            f"{name}: {size} px, w {width}, base {base}, batch {batch}",
            f"{1 / step_s:.3g}",
            f"{batch / step_s:.3g}",
            f"{simulation_s / step_s:.0%}",
            f"{np.median(times) * 1e3:.1f}",
            f"{np.quantile(times, 0.95) * 1e3:.1f}",
            ratio,
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats, for a smoke test")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    where = platform.processor() or platform.machine()
    if arguments.device.startswith("cuda"):
        where = torch.cuda.get_device_name()
    print(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32\n")
    head = [
        "DAS3D rgb+3d",
        "steps/s",
        "images/s",
        "simulation",
        "p50 ms",
        "p95 ms",
        "slow synthesis",
    ]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows(arguments.device, arguments.quick):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
