"""Expected against measured CPU seconds of ten jobs: python -m tests.benchmarks.bench_work

The ten are named in JOBS, all five methods, stages and cells, three settings. The machine's rates
are measured first (methods/calibrate.py); nothing is fitted to the jobs. Seconds are those of all
threads, one thread a job, so that others on the machine do not matter much.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from harness.engine.job import run_job
from harness.planning import config
from harness.planning.expand import build
from harness.planning.work import Speeds, Work
from harness.store import Store
from methods.calibrate import measured

CHANGES = [
    "methods=[das3d,dbrn,3dsr,m3dm,shape_guided]",
    "settings=[rgb,3d,rgb+3d]",
    "datasets.synthetic.categories=[cookie]",
    "datasets.synthetic.synthetic={size: 100, train: 24, validation: 2, good: 4, per_defect: 2}",
    "protocol.latency_samples=0",
    "das3d.recon.width=32",
    "das3d.disc.base=32",
    "das3d.train.steps=12",
    "dbrn.train.steps=16",
    "dbrn.train.norm_batches=2",
    "3dsr.dada.net.hidden=64",
    "3dsr.dada.train.steps=40",
    "3dsr.rgb.dada.train.steps=40",
    "3dsr.train.steps=24",
    "3dsr.rgb.train.steps=24",
    "3dsr.rgb.upsampler.train.steps=10",
    "shape_guided.train.steps=120",
]
JOBS = (  # method, stage, setting
    ("das3d", "", "rgb+3d"),
    ("das3d", "", "3d"),
    ("dbrn", "", "rgb+3d"),
    ("dbrn", "", "rgb"),
    ("3dsr", "dada", "rgb+3d"),
    ("3dsr", "", "rgb+3d"),
    ("3dsr", "", "rgb"),
    ("m3dm", "point_features", ""),
    ("m3dm", "", "rgb+3d"),
    ("shape_guided", "shape_expert", ""),
)


def main() -> None:
    plan = build(config.load("demo", CHANGES))
    core = measured("cpu")
    print(core)
    model, found = Work(plan.jobs.values(), Speeds(core=core)), []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for job in plan.jobs.values():
            started = time.process_time()
            run_job(job.describe(), str(store.path))
            took, expected, about = time.process_time() - started, model(job), job.about
            assert store.done(job.key), store.result(job.key)
            setting = about.setting or about.settings.get("setting", "")
            chosen = (about.method, about.stage, setting) in JOBS
            if expected is not None and took > 0:
                found += [expected / took] if chosen else []
                print(
                    f"{'*' if chosen else ' '} {job.title:42} {setting:7} {took:7.2f} s, expected "
                    f"{expected:7.2f} s ({expected / took:.2f})",
                    flush=True,
                )
    print(f"* the ten: {sum(0.5 <= r <= 2 for r in found)} of {len(found)} within a factor of 2")


if __name__ == "__main__":
    main()
