"""Scoring many finished cells again, without a fit, by all cores.

    python -m tests.benchmarks.bench_rescore [--cells 1500] [--images 110] [--sensor 400]

Makes a store of cells with maps of 224 px (all under one file, by links) whose records lack the
common protocol, as cells of an earlier version do, and computes (1) a limit of AUPRO at the
views' pixels, with every map read and checked, and (2) all metrics at the sensor's pixels. Prints
one Markdown table: wall clock, and CPU seconds and memory of one cell.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from harness.data.truth import write_truth
from harness.engine import rescore as engine
from harness.engine.measure import Memory
from harness.engine.on_ray import OnRay
from harness.metrics import get, known_metrics
from harness.store import COMMON, DONE, PAPER, Store, key_of, write_json
from harness.store.frames import Frame, frames_told
from harness.store.records import MAPS, write_maps, write_scores
from tests.benchmarks.bench_metrics import write_category

SIDE = 224  # px, of the maps


def write_store(path: Path, cells: int, images: int, sensor: int) -> tuple[Store, list[str]]:
    """A store with a view, its ground truth and `cells` cells that have one set of maps."""
    store = Store(path)
    write_category(path, SIDE)
    maps = np.load(path / f"maps_{SIDE}.npy")[-images:]
    masks = np.load(path / f"masks_{SIDE}.npy")[-images:] > 0
    ids = [f"test/{'hole' if mask.any() else 'good'}/{i:03d}" for i, mask in enumerate(masks)]
    defects, labels = [id.split("/")[1] for id in ids], masks.any(axis=(1, 2)).astype(np.int64)
    sizes = [(sensor, sensor)] * len(ids)
    view = _publish_view(store, ids, defects, labels, masks, sizes)
    truth = _publish_truth(store, ids, defects, labels, masks, sizes)
    keys: list[str] = []
    for i in range(cells):
        spec = {"kind": "cell", "category": "bagel", "seed": i, "needs": {"view": view}}
        key = key_of(spec)
        work = store.work(key)
        if not keys:
            write_maps(work, ids, maps)
        else:
            first = store.folder(keys[0])
            os.link(first / MAPS, work / MAPS)
            write_json(work / "maps.json", {"ids": ids})
        write_scores(work, ids, defects, labels, maps.max(axis=(1, 2)))
        record = {"key": key, "kind": "cell", "status": DONE, "spec": spec, "truth": truth}
        store.publish(key, record | {"metrics": {}, "signatures": {}, "timings": {}})
        keys.append(key)
    return store, keys


def _publish_view(store, ids, defects, labels, masks, sizes) -> str:
    spec = {"kind": "view", "category": "bagel", "view": {"name": "m3dm", "size": SIDE}}
    key = key_of(spec)
    folder = store.work(key) / "test"
    folder.mkdir()
    np.save(folder / "mask.npy", masks)
    index = {"ids": ids, "defects": defects, "labels": labels.tolist()}
    index |= {"native_sizes": [list(size) for size in sizes]}
    index |= {"arrays": {"mask": ["bool", list(masks.shape)]}}
    (folder / "index.json").write_text(json.dumps(index))
    summary = {"frames": frames_told((size, Frame.whole(size)) for size in sizes)}
    record = {"key": key, "kind": "view", "status": DONE, "spec": spec, "summary": summary}
    store.publish(key, record)
    return key


def _publish_truth(store, ids, defects, labels, masks, sizes) -> str:
    spec = {"kind": "truth", "category": "bagel"}
    key = key_of(spec)
    packed = [np.packbits(Frame.whole(size).back(mask.astype(np.uint8), size) > 0)
              for mask, size in zip(masks, sizes)]  # fmt: skip
    write_truth(store.work(key), list(zip(ids, defects, labels.tolist())), sizes, packed)
    store.publish(key, {"key": key, "kind": "truth", "status": DONE, "spec": spec})
    return key


def measure(store: Store, keys: list[str], wanted, protocol: str, executor: OnRay) -> float:
    """Seconds for all cells."""
    since = time.perf_counter()
    records = [store.finished(key) for key in keys]
    jobs = engine.jobs_for(store, {}, records, wanted, [protocol])
    assert len(jobs) == len(keys)
    ended = engine.rescore(store, jobs, executor)
    assert all(one.status == DONE for one in ended), ended[0]
    return time.perf_counter() - since


def cost_of_one(store: Store, key: str, wanted, protocol: str) -> tuple[float, float]:
    """CPU seconds of one cell in this process, and MB at its peak above what was there before."""
    (job,) = engine.jobs_for(store, {}, [store.finished(key)], wanted, [protocol], anew=True)
    memory, since = Memory(torch.device("cpu")), time.process_time()
    before = memory.peaks()["host_peak_bytes"] or 0  # just reset: what there is now
    engine.rescore_cell(job.describe(), str(store.path))
    peak = memory.peaks()["host_peak_bytes"] or 0
    return time.process_time() - since, (peak - before) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1500)
    parser.add_argument("--images", type=int, default=110)
    parser.add_argument("--sensor", type=int, default=400, help="side of the sensor's images, px")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, keys = write_store(Path(folder), given.cells, given.images, given.sensor)
        executor = OnRay(cpus=os.cpu_count(), isolation="worker", task=engine.rescore_cell)
        rows = []
        try:
            for what, wanted, protocol in (
                ("AUPRO@0.15 exact at 224 px", [get("aupro_exact_0.15")], PAPER),
                (f"all metrics at {given.sensor} px (common)", known_metrics(), COMMON),
            ):
                seconds = measure(store, keys, wanted, protocol, executor)
                rows.append((what, seconds, *cost_of_one(store, keys[0], wanted, protocol)))
        finally:
            executor.close()
        fits = len(list(store.path.glob("work/*")))
    title = f"{given.cells} cells of {given.images} maps, {os.cpu_count()} cores"
    print(f"| {title} | s | CPU s a cell | MB a cell |\n|---|---|---|---|")
    for what, seconds, cpu, megabytes in rows:
        print(f"| {what} | {seconds:.0f} | {cpu:.2f} | {megabytes:.0f} |")
    print(f"\nload {os.getloadavg()[0]:.1f}, fits: {fits}")


if __name__ == "__main__":
    main()
