"""What a view costs per sample, against the plain way, and what the cache saves.

    python -m tests.benchmarks.bench_view [--quick] [--sizes PX ...]    prepared, and from the cache
    python -m tests.benchmarks.bench_view --memory N    memory while N samples of 64 px are prepared

The plain way to remove the background: RANSAC one hypothesis at a time, then DBSCAN with one
search in a k-d tree per point, as in Open3D, which the papers' code calls (but on several
threads, in C++). Here the searches are scikit-learn's, in blocks of a breadth-first search, so
that memory stays bounded. scikit-learn's own DBSCAN holds all pairs of neighbours at once; on
the large image it gets every second row and column only. CPU time on one thread, best of a few
calls (the plain ones: of one), files in the page cache.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image
from sklearn.cluster import DBSCAN
from sklearn.neighbors import KDTree

from harness.data.cache import open_split
from harness.data.datasets import open_dataset
from harness.data.samples import Category, Sample
from harness.data.views.background import near_plane, object_pixels
from harness.data.views.build import build_view
from harness.data.views.clusters import dbscan, largest_cluster
from harness.data.views.plane import border_points, fit_planes, ransac_plane
from harness.data.views.registry import builder_of
from methods.views import BtfView, Das3dView, M3dmView

VIEWS = (Das3dView(), M3dmView())
VIEW = BtfView()
RANSAC = (VIEW.plane_inlier_m, VIEW.plane_points, VIEW.plane_iterations)
CLUSTERS = (VIEW.dbscan_eps_m, VIEW.dbscan_min_points)
WIDTH_M = 0.13  # seen by the whole image, as in the real scans
BEARABLE = 50_000  # points whose pairs of neighbours scikit-learn's DBSCAN may hold
BLOCK = 512  # points searched for at once: up to 2 million neighbours, 16 MB


def write_scene(root: Path, size: int, count: int) -> Category:
    """A dome on a tilted plane, with sensor noise and salt-like missing points."""
    rng = np.random.default_rng(size)
    row, column = np.mgrid[:size, :size] / (size - 1) - 0.5
    for split, n in (("train", count), ("test", 1)):
        for i in range(n):
            radius = np.hypot(row - rng.normal(0, 0.03), column - rng.normal(0, 0.03))
            height = 0.026 * np.sqrt(np.clip(1 - (radius / 0.27) ** 2, 0, None))
            z = 0.6 + 0.012 * column - 0.008 * row - height + rng.normal(0, 4e-5, row.shape)
            xyz = np.stack([column * WIDTH_M, row * WIDTH_M, z], axis=2).astype(np.float32)
            xyz[rng.random(row.shape) < 0.02] = 0
            rgb = (120 + 4000 * height[..., None] + rng.normal(0, 2, (size, size, 3))).clip(0, 255)
            for part in ("rgb", "xyz"):
                (root / "dome" / split / "good" / part).mkdir(parents=True, exist_ok=True)
            folder = root / "dome" / split / "good"
            Image.fromarray(rgb.astype(np.uint8)).save(folder / "rgb" / f"{i:04}.png")
            tifffile.imwrite(folder / "xyz" / f"{i:04}.tiff", xyz, photometric="rgb")
    return open_dataset("auto", root).category("dome")


def loop_ransac(points: np.ndarray, inlier: float, size: int, iterations: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    best, most = None, -1
    for _ in range(iterations):
        plane = fit_planes(points[rng.choice(len(points), size, replace=False)][None])[0]
        near = np.abs(points @ plane[:3] + plane[3]) < inlier
        if (count := near.sum()) > most:
            best, most = near, count
    return fit_planes(points[best][None])[0]


def tree_dbscan(points: np.ndarray, eps: float, min_points: int) -> np.ndarray:
    """Breadth first from every point not yet reached; each point is searched around once."""
    tree, reached = KDTree(points), np.zeros(len(points), bool)
    labels, cluster = np.full(len(points), -1), 0
    for seed in range(len(points)):
        frontier = np.array([seed]) if not reached[seed] else np.empty(0, np.int64)
        reached[frontier] = True
        grown = False
        while frontier.size:
            block, frontier = frontier[:BLOCK], frontier[BLOCK:]
            near = np.zeros(len(points), bool)
            for found in tree.query_radius(points[block], eps):
                if len(found) >= min_points:
                    near[found] = grown = True
            labels[near & (labels < 0)] = cluster
            frontier = np.append(frontier, np.flatnonzero(near & ~reached))
            reached |= near
        cluster += grown
    return labels


def plain_object_pixels(sample: Sample) -> np.ndarray:
    plane = loop_ransac(border_points(sample.xyz, VIEW.plane_border_px), *RANSAC)
    rest = np.abs(sample.xyz @ plane[:3] + plane[3]) >= VIEW.plane_distance_m
    present = rest & (sample.xyz != 0).all(axis=2)
    labels = tree_dbscan(sample.xyz[present].astype(np.float64), *CLUSTERS)
    rest[present] = largest_cluster(labels)
    return rest


def seconds(function: Callable, repeats: int = 1) -> float:
    """Best of `repeats` calls, in CPU time: the machine may be shared."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def measure(size: int, count: int, repeats: int) -> None:
    def add(step: str, plain: float | None, ours: float, note: str = "") -> None:
        before, ratio = (f"{plain:.3f} s{note}", f"{plain / ours:.1f}") if plain else ("", "")
        print(f"| {size} px, {step} | {before} | {ours:.4f} s | {ratio} |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        category = write_scene(Path(folder) / "data", size, count)
        ref = category.samples("train")[0]
        sample = ref.read()
        border = border_points(sample.xyz, VIEW.plane_border_px)
        plane = ransac_plane(border, *RANSAC, np.random.default_rng(0))
        rest = ~near_plane(cv2.split(sample.xyz), plane, VIEW.plane_distance_m)
        rest &= (sample.xyz != 0).all(axis=2)
        points = sample.xyz[rest].astype(np.float64)
        step = 1 if len(points) < BEARABLE else 2
        thinned = sample.xyz[::step, ::step][rest[::step, ::step]].astype(np.float64)

        read = seconds(ref.read, repeats)
        add("read and check", None, read)
        ours = seconds(lambda: ransac_plane(border, *RANSAC, np.random.default_rng(0)), repeats)
        plain = seconds(lambda: loop_ransac(border, *RANSAC))
        add(f"plane from {len(border)} points", plain, ours)
        ours = seconds(lambda: dbscan(points, *CLUSTERS), repeats)
        labels = []
        plain = seconds(lambda: labels.append(tree_dbscan(points, *CLUSTERS)))
        assert np.array_equal(labels[0], dbscan(points, *CLUSTERS))
        add(f"clusters of {len(points)} points", plain, ours)
        plain = seconds(lambda: DBSCAN(eps=CLUSTERS[0], min_samples=CLUSTERS[1]).fit(thinned))
        note = f" (on {len(thinned)} points)" if step > 1 else ""
        add("clusters, scikit-learn's DBSCAN", plain, ours, note)
        background = seconds(lambda: object_pixels(sample, VIEW, 0), repeats)
        pixels = []
        plain = seconds(lambda: pixels.append(plain_object_pixels(sample)))
        differing = np.count_nonzero(pixels[0] != object_pixels(sample, VIEW, 0))
        add(f"background, {differing} pixels differ", plain, background)
        for view in VIEWS:
            whole = seconds(lambda: builder_of(type(view)).prepare(ref.read(), view, 0), repeats)
            add(f"whole sample, {view.name} view", whole - background + plain, whole)
            build_view(category, view, Path(folder) / view.name)
            samples, _ = open_split(Path(folder) / view.name, "train")
            order = np.random.default_rng(0).permutation(len(samples))
            loaded = seconds(lambda: [samples.batch([i]) for i in order], repeats)
            copies = [{k: v[i].copy() for k, v in samples.arrays.items()} for i in order]
            memory = seconds(lambda: [v.copy() for copy in copies for v in copy.values()], repeats)
            megabytes = sum(a.nbytes for a in samples.arrays.values()) / 1e6
            speed = f"{megabytes / loaded:.0f} MB/s (copying memory: {megabytes / memory:.0f})"
            add(f"the same from the cache at {speed}", whole, loaded / len(samples))


def measure_memory(count: int, size: int) -> None:
    """Resident memory while `count` scans are made into M3DM's view, and what the view weighs."""
    with tempfile.TemporaryDirectory() as folder:
        category = write_scene(Path(folder) / "data", size, count)
        marks, seen = {1, *(round(share * (count + 1)) for share in (0.1, 0.5, 1))}, []

        def report(done: int, total: int) -> None:
            if done in marks:
                seen.append(f"{resident_mb():.0f} MB after {done}")

        before = resident_mb()
        summary = build_view(category, VIEWS[1], Path(folder) / "view", report)
        size_mb = sum(p.stat().st_size for p in (Path(folder) / "view").rglob("*.npy")) / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        print(
            f"{count} scans of {size} px, a view of {size_mb:.0f} MB, "
            f"{1000 * summary['seconds_per_sample']:.1f} ms each"
        )
        print(f"resident: {before:.0f} MB before, {', '.join(seen)}, peak {peak:.0f} MB")


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small image only, fewer repeats")
    parser.add_argument("--memory", type=int, metavar="N", help="prepare N small samples instead")
    parser.add_argument("--sizes", type=int, nargs="+", default=(256, 400, 800), metavar="PX")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    if chosen.memory:
        return measure_memory(chosen.memory, size=64)
    print("| per sample | plain | ours | plain / ours |\n|---|---|---|---|")
    for size in (256,) if chosen.quick else chosen.sizes:
        measure(size, count=4 if chosen.quick else 12, repeats=2 if chosen.quick else 5)


if __name__ == "__main__":
    main()
