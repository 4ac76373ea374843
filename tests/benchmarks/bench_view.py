"""What DAS3D's view costs per sample, against the plain way, and what the cache saves.

    python -m tests.benchmarks.bench_view [--quick]

The plain way: RANSAC one hypothesis at a time, scikit-learn's DBSCAN. Its memory grows with the
pairs of neighbours, so on the large image it gets every third row and column only; its time
there is a lower bound. Best of a few calls in one process, files in the page cache.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image
from sklearn.cluster import DBSCAN

from harness.data.cache import open_split
from harness.data.datasets import open_dataset
from harness.data.samples import Category
from harness.data.views import build_view, das3d
from harness.data.views.clusters import dbscan, largest_cluster
from harness.data.views.plane import border_points, fit_planes, ransac_plane
from methods.views import Das3dView

VIEW = Das3dView()
WIDTH_M = 0.13    # seen by the whole image, as in the real scans


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
            Image.fromarray(rgb.astype(np.uint8)).save(folder / "rgb" / f"{i:03}.png")
            tifffile.imwrite(folder / "xyz" / f"{i:03}.tiff", xyz, photometric="rgb")
    return open_dataset("auto", root).category("dome")


def loop_ransac(points: np.ndarray, inlier: float, size: int, iterations: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    best, most = None, -1
    for _ in range(iterations):
        plane = fit_planes(points[rng.choice(len(points), size, replace=False)][None])[0]
        count = (np.abs(points @ plane[:3] + plane[3]) < inlier).sum()
        if count > most:
            best, most = plane, count
    return best


def seconds(function: Callable, repeats: int) -> float:
    """Best of `repeats` calls: the machine may be shared."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(size: int, count: int, repeats: int) -> list[tuple[str, str, str, str]]:
    rows = []

    def add(step: str, ours: float, plain: float | None = None, note: str = "") -> None:
        ratio = f"{plain / ours:.1f}{' at least' * bool(note)}" if plain else ""
        rows.append((f"{size} px, {step}", f"{plain:.3f} s{note}" if plain else "",
                     f"{ours:.4f} s", ratio))  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        category = write_scene(Path(folder) / "data", size, count)
        ref = category.samples("train")[0]
        sample = ref.read()
        border = border_points(sample.xyz, VIEW.plane_border_px)
        arguments = (VIEW.plane_inlier_m, VIEW.plane_points, VIEW.plane_iterations)
        plane = ransac_plane(border, *arguments, np.random.default_rng(0))
        xyz, rgb = sample.xyz.copy(), sample.rgb.copy()
        das3d.remove(das3d.on_plane(xyz, plane, VIEW.plane_distance_m), xyz, rgb)
        points = xyz[(xyz != 0).all(axis=2)]
        bearable = 1 if len(points) < 40_000 else 3
        thinned = xyz[::bearable, ::bearable]
        thinned = thinned[(thinned != 0).all(axis=2)]
        note = f" (on {len(thinned)} points)" if bearable > 1 else ""

        read = seconds(ref.read, repeats)
        ours_plane = seconds(
            lambda: ransac_plane(border, *arguments, np.random.default_rng(0)), repeats
        )
        plain_plane = seconds(lambda: loop_ransac(border, *arguments), 1)
        eps, min_points = VIEW.dbscan_eps_m, VIEW.dbscan_min_points
        ours_cluster = seconds(lambda: largest_cluster(dbscan(points, eps, min_points)), repeats)
        plain_cluster = seconds(
            lambda: DBSCAN(eps=eps, min_samples=min_points).fit(thinned.astype(np.float64)), 1
        )
        whole = seconds(lambda: das3d.prepare(ref.read(), VIEW, 0), repeats)
        rest = max(whole - read - ours_plane - ours_cluster, 0.0)
        add("read and check", read)
        add(f"plane, {len(border)} points", ours_plane, plain_plane)
        add(f"clusters, {len(points)} points", ours_cluster, plain_cluster, note)
        plain = read + plain_plane + plain_cluster + rest
        add("whole sample", whole, plain, " at least" * bool(note))

        build_view(category, VIEW, Path(folder) / "view")
        samples, _ = open_split(Path(folder) / "view", "train")
        order = np.random.default_rng(0).permutation(len(samples))
        loaded = seconds(lambda: [samples.batch([i]) for i in order], repeats)
        size_mb = sum(a.nbytes for a in samples.arrays.values()) / 1e6
        each = loaded / len(samples)
        rows.append((
            f"{size} px, the same sample from the cache", f"{whole:.3f} s (prepared again)",
            f"{each * 1000:.2f} ms, {size_mb / loaded:.0f} MB/s", f"{whole / each:.0f}",
        ))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small image only, fewer repeats")
    quick = parser.parse_args().quick
    cv2.setNumThreads(1)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| per sample | plain | ours | plain / ours |\n|---|---|---|---|")
    for size in (256,) if quick else (256, 800):
        for row in measure(size, count=4 if quick else 12, repeats=2 if quick else 3):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
