"""Expected against measured CPU seconds of ten jobs: python -m tests.benchmarks.bench_work

The speed is that of a few convolutions, forward and backward, in the same process; seconds are
those of all threads, so that others on the machine do not matter much.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from harness.engine.job import run_job
from harness.planning import config
from harness.planning.expand import build
from harness.planning.work import Work
from harness.store import Store

METHODS = "methods=[das3d,dbrn,3dsr,shape_guided]"
CHANGES = [
    METHODS,
    "settings=[rgb,3d,rgb+3d]",
    "datasets.synthetic.categories=[cookie]",
    "datasets.synthetic.synthetic={size: 100, train: 12, validation: 1, good: 2, per_defect: 1}",
    "protocol.latency_samples=0",
    "das3d.recon.width=32",
    "das3d.disc.base=32",
    "das3d.train.steps=10",
    "dbrn.train.steps=10",
    "dbrn.train.norm_batches=1",
    "3dsr.dada.train.steps=20",
    "3dsr.rgb.dada.train.steps=20",
    "3dsr.dada.net.hidden=64",
    "3dsr.train.steps=10",
    "3dsr.rgb.train.steps=10",
    "3dsr.rgb.upsampler.train.steps=10",
    "shape_guided.train.steps=60",
]


def tflops() -> float:
    """Of convolutions with backward passes, per CPU second."""
    x = torch.randn(4, 64, 48, 48, requires_grad=True)
    w = torch.randn(64, 64, 3, 3, requires_grad=True)
    work, started = 0.0, 0.0
    for i in range(12):
        if i == 2:
            started = time.process_time()
        F.conv2d(x, w, padding=1).square().mean().backward()
        work += 2 * 3 * x[:, 0].numel() * w.numel() * (i >= 2)
    return work / (time.process_time() - started) / 1e12


def main() -> None:
    plan = build(config.load("demo", CHANGES))
    speed = tflops()
    model = Work(plan.jobs.values(), speed)
    print(f"{1000 * speed:.1f} GFLOP per CPU second")
    with tempfile.TemporaryDirectory() as folder:
        store, ratios = Store(Path(folder)), []
        for job in plan.jobs.values():
            started = time.process_time()
            run_job(job.describe(), str(store.path))
            took, expected = time.process_time() - started, model(job)
            if expected and store.done(job.key):
                ratios.append(expected / took)
                print(f"{job.title:44} {took:7.2f} s, expected {expected:7.2f} s, {ratios[-1]:.2f}")
        within = sum(0.5 <= r <= 2 for r in ratios)
        print(f"{within} of {len(ratios)} within a factor of 2")


if __name__ == "__main__":
    main()
