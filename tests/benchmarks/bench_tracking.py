"""What MLflow costs: a launch of many cells synced first, unchanged, and with one cell changed.

python -m tests.benchmarks.bench_tracking [--cells 2000] [--metrics 50] [--points 0] [--client]

The store is made: records as cells leave them, without arrays. Each sync is a process of its own;
CPU seconds are its whole time, beside those of importing MLflow alone. --points: of a curve of
losses that each cell has; --client: every run by MLflow's client, the plain way.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.store import Store
from harness.store.curve import FILE as LOSSES

IMPORT = "import mlflow; from mlflow import MlflowClient"
SYNC = """
from harness.store import Store
from harness.tracking import sync
store = Store({path!r})
done = sync(store, store.launch())
print(done.written, done.unchanged)
"""
BY_CLIENT = """
from harness.tracking import client
client.is_database = lambda uri: False
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--metrics", type=int, default=50)
    parser.add_argument("--points", type=int, default=0)
    parser.add_argument("--client", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store = Store(folder)
        keys = make(store, arguments.cells, arguments.metrics, arguments.points)
        code = (BY_CLIENT if arguments.client else "") + SYNC.format(path=folder)
        print(f"{len(keys)} cells, {arguments.metrics} metrics, {arguments.points} points\n")
        print("| | CPU s | wall s | peak MB | written, unchanged |\n|---|---|---|---|---|")
        row("importing MLflow", IMPORT)
        row("first", code)
        row("unchanged", code)
        publish(store, keys[0], arguments.metrics, arguments.points, value=0.25)
        row("one changed", code)


def make(store: Store, cells: int, metrics: int, points: int) -> list[str]:
    """A launch that is done; -> the keys of its cells."""
    os.fsync = lambda handle: None  # thousands of them, and no power cut here
    rows = [
        {
            "method": ("das3d", "m3dm", "dbrn", "3dsr")[i % 4],
            "variant": "",
            "setting": ("rgb", "3d", "rgb+3d")[i // 4 % 3],
            "dataset": "synthetic",
            "category": f"c{i // 12 % 20:02d}",
            "seed": i // 240,
            "key": f"{i:016x}",
        }
        for i in range(cells)
    ]
    for row in rows:
        publish(store, row["key"], metrics, points)
    parameters = {f"das3d.loss.w_{i}": i / 7 for i in range(10)}
    store.write_launch(
        {
            "id": "bench-00000000",
            "name": "bench",
            "demo": False,
            "started": 1.7e9,
            "cells": rows,
            "config": {},
            "parameters": dict.fromkeys(("das3d", "m3dm", "dbrn", "3dsr"), parameters),
        }
    )
    return [row["key"] for row in rows]


def publish(store: Store, key: str, metrics: int, points: int, value: float = 0.5) -> None:
    work = store.work(key)
    (work / "scores.parquet").write_bytes(os.urandom(8000))
    if points:
        rows = "".join(f"train,{i + 1},{1 / (i + 1):.6g}\n" for i in range(points))
        (work / LOSSES).write_text("phase,step,loss\n" + rows)
    settings = {"train": {"steps": 300, "lr": 1e-3}, "loss": {f"w_{i}": i / 7 for i in range(10)}}
    result = {
        "key": key,
        "kind": "cell",
        "status": "done",
        "spec": {"kind": "cell", "method": "das3d", "settings": settings, "needs": {}},
        "metrics": {f"metric_{i}": value for i in range(metrics)},
        "signatures": {f"metric_{i}": f"metric_{i}|res:224x224|v:1" for i in range(metrics)},
        "environment": {"device": "cpu", "host": "here", "commit": "0123456789ab"},
        "log": [f"line {i} of the log of a job, as long as these are" for i in range(40)],
        "started": 1.75e9,
        "ended": 1.75e9 + 90,
    }
    store.publish(key, result)


def row(name: str, code: str) -> None:
    """Run it in a process of its own and print what it took."""
    root = Path(__file__).parents[2]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = after.ru_maxrss / 1024  # of all so far
    print(f"| {name} | {cpu:.2f} | {wall:.1f} | {peak:.0f} | {done.stdout.strip()} |", flush=True)


if __name__ == "__main__":
    main()
