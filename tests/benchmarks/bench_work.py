"""Expected against measured CPU seconds of jobs: python -m tests.benchmarks.bench_work

Seconds are those of all threads, so that others on the machine do not matter much. Expected twice:
at the speed that a few convolutions reach in the same process, and at the speed that the method's
first job reached, as a measured GPU would be asked for with --tflops.
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


LEAST_S = 0.3  # less is not the networks' work


def tflops() -> float:
    """Of convolutions with backward passes, per CPU second."""
    x = torch.randn(4, 64, 64, 64).to(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(64, 64, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    work, started = 0.0, 0.0
    for i in range(20):
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
        store = Store(Path(folder))
        given, reached = [], {}
        ratios: list[float] = []
        for job in plan.jobs.values():
            started = time.process_time()
            run_job(job.describe(), str(store.path))
            took, expected = time.process_time() - started, model(job)
            if not expected or took < LEAST_S or not store.done(job.key):
                continue
            first = reached.setdefault(job.about.method, took / expected)
            given.append(expected / took)
            ratios += [first * expected / took] if first != took / expected else []
            print(
                f"{job.title:40} {took:7.2f} s, expected {expected:7.2f} s ({given[-1]:.2f}), "
                f"at the speed of {job.about.method}'s first {first * expected:7.2f} s"
            )
        for name, found in (("of convolutions", given), ("of the method's first job", ratios)):
            within = sum(0.5 <= r <= 2 for r in found)
            print(f"at the speed {name}: {within} of {len(found)} within a factor of 2")


if __name__ == "__main__":
    main()
