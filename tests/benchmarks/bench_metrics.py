"""All pixel metrics of a category in one pass, against the plain way to get them.

    python -m tests.benchmarks.bench_metrics [--quick | --sensor]

Plain: the 100-threshold AUPRO computed anew for each limit, the exact curve from a sort of all
pixels and integrated to each limit, scikit-learn for P-AUROC and P-AP (P-F1max, which ours adds,
is left out). Each runs in a fresh process on the same 110 maps, loaded before the clock starts;
the best of the repeats counts. Prints one Markdown table. --sensor: the common protocol alone, maps
of 224 px brought back to sensors of 800 px one by one and scored there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, roc_auc_score

from harness.metrics import LIMITS, PixelScores, pixel_metrics
from harness.metrics.images import Images
from harness.store.frames import Frame

IMAGES, NORMAL = 110, 22


def write_category(folder: Path, side: int) -> None:
    """Maps float32 (110, side, side) and masks uint8: smooth background, noise, 1 to 3 defects.

    Defects are ellipses that differ in strength and are hit only in part, as real ones are.
    """
    rng = np.random.default_rng(0)
    maps = np.empty((IMAGES, side, side), np.float32)
    masks = np.zeros((IMAGES, side, side), np.uint8)
    for i in range(IMAGES):
        coarse = rng.standard_normal((12, 12)).astype(np.float32)
        maps[i] = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        for _ in range(rng.integers(1, 4) if i >= NORMAL else 0):
            x, y = rng.integers(side // 8, side - side // 8, 2).tolist()
            axes = rng.integers(side // 50, side // 12, 2).tolist()
            angle = float(rng.uniform(0, 180))
            cv2.ellipse(masks[i], (x, y), axes, angle, 0, 360, 255, -1)
            found = np.zeros((side, side), np.float32)
            shift = rng.integers(-axes[0], axes[0] + 1, 2)
            center = (int(x + shift[0] // 2), int(y + shift[1] // 2))
            cv2.ellipse(found, center, axes, angle, 0, 360, float(rng.uniform(0.5, 4)), -1)
            maps[i] += cv2.GaussianBlur(found, (0, 0), side / 100)
        maps[i] += 0.3 * rng.standard_normal((side, side), dtype=np.float32)
    np.save(folder / f"maps_{side}.npy", maps)
    np.save(folder / f"masks_{side}.npy", masks)


def one_pass(maps, masks) -> dict[str, float]:
    return pixel_metrics(PixelScores.of(maps, masks))


def plain(maps, masks) -> dict[str, float]:
    values = {f"aupro_{limit:g}": area(*plain_100(maps, masks), limit) for limit in LIMITS}
    curve = plain_exact(maps, masks)
    values |= {f"aupro_exact_{limit:g}": area(*curve, limit) for limit in LIMITS}
    truth, scores = (masks > 0).ravel(), maps.ravel()
    return values | {
        "p_auroc": roc_auc_score(truth, scores),
        "p_ap": average_precision_score(truth, scores),
    }


def plain_100(maps, masks):
    """PRO at 100 positions of the sorted normal scores, every region counted at every threshold."""
    regions = []
    for scores, mask in zip(maps, masks):
        labels, count = label(mask > 0, structure=np.ones((3, 3)))
        regions += [np.sort(scores[labels == r]) for r in range(1, count + 1)]
    normal = np.sort(maps[masks == 0].astype(np.float64))
    position = np.linspace(0, normal.size - 1, 100, dtype=np.int64)[::-1]
    pro = [
        np.mean([1 - np.searchsorted(r, t, "right") / r.size for r in regions])
        for t in normal[position]
    ]
    return np.append(1 - (position + 1) / normal.size, 1.0), np.append(pro, 1.0)


def plain_exact(maps, masks):
    """PRO at every distinct score: sort all pixels, cumulate what each adds."""
    adds, regions = np.zeros(masks.shape), 0
    for i, mask in enumerate(masks):
        labels, count = label(mask > 0, structure=np.ones((3, 3)))
        size = np.maximum(np.bincount(labels.ravel()), 1)
        adds[i] = np.where(labels > 0, 1.0 / size[labels], 0.0)
        regions += count
    order = np.argsort(maps, axis=None)[::-1]
    normal = (masks == 0).ravel()[order]
    pro = np.cumsum(adds.ravel()[order]) / regions
    fpr = np.cumsum(normal) / np.count_nonzero(normal)
    scores = maps.ravel()[order]
    last = np.append(scores[1:] != scores[:-1], True)
    return np.append(0.0, fpr[last]), np.append(0.0, pro[last])


def area(fpr, pro, limit: float) -> float:
    kept = fpr <= limit
    at_limit = np.interp(limit, fpr, pro)
    return np.trapezoid(np.append(pro[kept], at_limit), np.append(fpr[kept], limit)) / limit


def at_sensor(maps, masks) -> dict[str, float]:
    """Maps (n, 224, 224) against masks at the sensor's pixels."""
    size = masks.shape[1:]
    frame = Frame.whole(size)
    images = Images(lambda i: frame.back(maps[i], size), [size] * len(maps), np.float32)
    return one_pass(images, masks)


WAYS = {"plain": plain, "ours": one_pass, "common": at_sensor}


def measure_here(way: str, folder: Path, side: int) -> dict:
    small = 224 if way == "common" else side
    maps, masks = np.load(folder / f"maps_{small}.npy"), np.load(folder / f"masks_{side}.npy")
    loaded_mb, cpu, wall = memory_mb("VmRSS"), time.process_time(), time.perf_counter()
    values = WAYS[way](maps, masks)
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "extra_mb": memory_mb("VmHWM") - loaded_mb,
        "values": {name: float(value) for name, value in values.items()},
    }


def memory_mb(field: str) -> float:
    """VmRSS (now) or VmHWM (highest so far) of this process; Linux only.

    getrusage would do elsewhere, but its peak is inherited from the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def measure(way: str, folder: Path, side: int, repeats: int) -> dict:
    command = [sys.executable, "-m", "tests.benchmarks.bench_metrics", "--measure", way]
    command += ["--folder", str(folder), "--side", str(side)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(repeats)
    ]
    best = {key: min(run[key] for run in runs) for key in ("cpu_s", "wall_s", "extra_mb")}
    return best | {"values": runs[0]["values"]}


def compare(side: int, repeats: int) -> str:
    """Two rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        write_category(Path(folder), side)
        found = {way: measure(way, Path(folder), side, repeats) for way in ("plain", "ours")}
    a, b = found["plain"]["values"], found["ours"]["values"]
    differ = max(abs(a[name] - b[name]) for name in a)
    rows = []
    for way, m in found.items():
        less = [found["plain"][key] / m[key] for key in ("cpu_s", "wall_s", "extra_mb")]
        cells = [f"{IMAGES} x {side} x {side}", way, f"{m['cpu_s']:.2f}", f"{m['wall_s']:.2f}"]
        cells += [f"{m['extra_mb']:.0f}", *(f"{ratio:.1f}x" for ratio in less), f"{differ:.0e}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def common() -> str:
    """CPU and wall seconds, and memory over maps and masks, of a full category."""
    with tempfile.TemporaryDirectory() as folder:
        for side in (224, 800):
            write_category(Path(folder), side)
        m = measure("common", Path(folder), 800, repeats=1)
    return (
        f"{IMAGES} maps of 224 px at 800 x 800: {m['cpu_s']:.1f} CPU s, {m['wall_s']:.1f} s, "
        f"{m['extra_mb']:.0f} MB over maps and masks"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="224 x 224 only: seconds, not minutes")
    parser.add_argument("--sensor", action="store_true", help="the common protocol alone")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_here(args.measure, args.folder, args.side)))
        return
    if args.sensor:
        print(common())
        return
    head = "maps, way, CPU s, wall s, MB over maps, less CPU, less wall, less memory, values differ"
    print(f"| {head.replace(', ', ' | ')} |\n|{'---|' * len(head.split(', '))}")
    print(compare(224, repeats=3), flush=True)
    if not args.quick:
        print(compare(800, repeats=1))


if __name__ == "__main__":
    main()
