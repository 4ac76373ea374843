"""M3DM against a plain transcription of the published algorithm, as Markdown tables.

    python -m tests.benchmarks.bench_m3dm [--quick] [--images 200] [--device cuda]

Both run on the same features of random networks of the published size, one thread as OMP says.
Inference is measured from kept features to score and map (all three banks, UFF, DLF), and the
extraction apart. Banks have the size that `--images` training images give, made of the patches of
a few: rows of those images, moved a little along themselves. Greedy selection is measured over its
first steps and, for ours, also where many rows are chosen: it grows faster, the plain loop does not.
"""

from __future__ import annotations

import argparse
import resource
import threading
import time

import numpy as np
import torch

from methods.blocks.coreset import greedy_coreset, projection_matrix
from methods.blocks.memory_bank import MemoryBank
from methods.contract import Run, Samples, settings_from
from methods.m3dm.method import M3dm
from methods.m3dm.settings import RANDOM, Settings
from methods.m3dm.weights import make_uff
from tests.methods import m3dm_oracle as oracle

SIZE, GRID = 224, 56
COVER = 88                                     # px, radius of the object: half of the image


def make_samples(count: int) -> Samples:
    """Bumpy discs half a metre away, with textured colours."""
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) * 0.0005
    shape = (count, SIZE, SIZE)
    inside = np.hypot(x, y)[None] < COVER * 0.0005 * rng.uniform(0.98, 1.02, (count, 1, 1))
    phase = rng.uniform(0, 6, (count, 1, 1))
    bumps = 0.006 * np.sin(90 * x + phase) * np.cos(70 * y - phase)
    z = 0.5 - bumps + rng.normal(0, 2e-4, shape)
    xyz = np.stack([np.broadcast_to(x + 1e-6, shape), np.broadcast_to(y + 1e-6, shape), z], axis=-1)
    shade = 120 + 60 * np.sin(60 * x + 40 * y + phase)[..., None] + rng.normal(0, 12, (*shape, 3))
    arrays = {
        "rgb": (shade.clip(0, 255) * inside[..., None]).astype(np.uint8),
        "xyz": (xyz * inside[..., None]).astype(np.float32),
    }
    return Samples(arrays, tuple(map(str, range(count))))


def grown(patches: torch.Tensor, rows: int) -> torch.Tensor:
    """Rows like those of `patches`: each a patch, a little towards another one."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randint(len(patches), (rows,), generator=g) for _ in range(2))
    step = 0.15 * torch.rand(rows, 1, generator=g)
    return torch.lerp(patches[a.to(patches.device)], patches[b.to(patches.device)], step.to(patches))


def seconds(function, repeats: int, device: str) -> tuple[float, object]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times)), result


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Peak:
    """Largest resident size while in the block, GB."""

    def __enter__(self) -> Peak:
        self.gb, self.on = 0.0, True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.on:
            with open("/proc/self/statm") as file:
                self.gb = max(self.gb, int(file.read().split()[1]) * resource.getpagesize() / 2**30)
            time.sleep(0.02)

    def __exit__(self, *_) -> None:
        self.on = False
        self.thread.join()


def full_settings() -> Settings:
    return settings_from(Settings, {"weights": {"rgb": RANDOM, "point": RANDOM, "uff": RANDOM}})


def ready_method(images: int, samples: Samples, device: str) -> tuple[M3dm, dict, float]:
    """A method with banks of the published sizes, the features of the samples, extraction s."""
    method = M3dm(full_settings(), "rgb+3d", Run(device=device))
    method.patches.uff = make_uff(1152, 768, 4, 256).to(device).eval().requires_grad_(False)
    extract = method.patches.features
    start = time.perf_counter()
    kept = [extract(samples.batch([i], device)) for i in range(len(samples))]
    extraction = (time.perf_counter() - start) / len(samples)

    def lookup(batch, late=False):
        found = [kept[int(name)] for name in batch.ids]
        return {k: torch.cat([f[k] for f in found]) for k in found[0]}

    method.patches.features = lookup
    batch = samples.batch(range(len(samples)), device)
    found = method.patches(batch, method.names)
    scale = float(found["rgb"].std())
    shift = float(found["xyz"].mean())
    method.moments = {name: (shift, scale) for name in method.names}
    reduced = images * GRID * GRID // 10
    sizes = {"xyz": reduced, "rgb": reduced // 10, "fusion": reduced // 10}
    for name, count in sizes.items():
        rows = method._normalised(name, found[name][:-1].flatten(0, 1))
        method.banks[name] = MemoryBank(grown(rows, count))
    method.decision = {k: torch.tensor([0.1, 0.1, 1.0], device=device) for k in ("scores", "maps")}
    return method, kept, extraction


def plain_prediction(method: M3dm, batch) -> tuple[torch.Tensor, torch.Tensor]:
    found, s = method.patches.features(batch), method.settings
    xyz = oracle.xyz_patches(batch["xyz"][0], found["centres"][0], found["point"][0], GRID)
    rgb = oracle.rgb_patches(found["rgb"][0], GRID)
    patches = {
        "xyz": xyz, "rgb": oracle.rgb_patches(found["rgb"][0], 28),
        "fusion": method.patches.uff(xyz, rgb),
    }
    score, image = 0, 0
    for name, weight in (("xyz", 1.0), ("rgb", 0.1), ("fusion", 1.0)):
        x = method._normalised(name, patches[name])
        one, plain = oracle.score(x, method.banks[name].rows, SIZE, s.score)
        column = method.names.index(name)
        score = score + weight * method.decision["scores"][column] * one
        image = image + weight * method.decision["maps"][column] * plain
    return score, image


def inference(images: int, quick: bool, device: str):
    samples = make_samples(3)
    method, _, extraction = ready_method(images, samples, device)
    batch = samples.batch([2], device)                       # not among the rows of the banks
    repeats = 1 if quick else 3
    with torch.inference_mode():
        method.predict(batch)
        fast, found = seconds(lambda: method.predict(batch), repeats, device)
        plain, (score, image) = seconds(lambda: plain_prediction(method, batch), repeats, device)
    off = float((found.scores[0] - score).abs() / score)
    far = (found.maps[0] - image).abs() / image.max()
    yield ["scoring, s an image", f"{plain:.3g}", f"{fast:.3g}", f"{plain / fast:.1f}x"]
    yield ["images/s, features kept (plain extracts)", f"{1 / (plain + extraction):.3g}",
           f"{1 / fast:.3g}", f"{(plain + extraction) / fast:.1f}x"]  # fmt: skip
    yield ["images/s, features computed", f"{1 / (plain + extraction):.3g}",
           f"{1 / (fast + extraction):.3g}",
           f"{(plain + extraction) / (fast + extraction):.1f}x"]  # fmt: skip
    yield ["score: relative difference", "", f"{off:.1e}", ""]
    yield ["map: mean and largest difference / max", "", f"{far.mean():.1e}, {far.max():.1e}", ""]


def selection(images: int, quick: bool, device: str):
    rows = images * GRID * GRID
    matrix = projection_matrix(rows, 1152, 0.9, 0)
    samples = make_samples(2)
    method = M3dm(full_settings(), "3d", Run(device=device))
    patches = method.patches(samples.batch(range(2), device), ("xyz",))["xyz"].flatten(0, 1)
    patches = patches @ torch.from_numpy(matrix).to(device).T
    z = grown(patches, rows)
    z[::2] = patches[0]                                      # half of the patches have no point
    few, many = (5, 200) if quick else (20, 2000)
    plain, slow = seconds(lambda: oracle.coreset(z, few), 1, device)
    plain /= few
    times, marks = time.perf_counter(), []
    chosen = greedy_coreset(
        z, many, report=lambda done, _: marks.append((done, time.perf_counter() - times))
    )
    same = torch.equal(chosen[:few].cpu(), slow.cpu())
    total = marks[-1][1]
    half = next((d, t) for d, t in marks if d >= many // 2)
    late = (total - half[1]) / max(1, many - half[0]) if many > half[0] else total / many
    yield [f"coreset of {rows} x {z.shape[1]}, s a row", f"{plain:.3g}", f"{total / many:.3g}",
           f"{plain * many / total:.1f}x over {many}"]  # fmt: skip
    yield ["the same, late rows", f"{plain:.3g}", f"{late:.3g}", f"{plain / late:.1f}x"]
    yield [f"first {few} rows are the same", "", str(same), ""]
    wanted = rows // 10
    yield ["whole xyz bank, s (extrapolated)", f"{plain * wanted:.3g}", f"{total + late * (wanted - many):.3g}", ""]


def memory(images: int):
    """Fit of the largest bank: what is held at once, and what the plain version holds."""
    rows, width = images * GRID * GRID, 1152
    k = len(projection_matrix(rows, width, 0.9, 0))
    raw = 4 * (rows * (1152 + 1920) + rows // 4 * 768) / 2**30
    ours = 4 * (rows * k + rows // 10 * width * 2 + rows * 8) / 2**30
    yield [f"banks of {images} images, GB (estimate)", f"{raw:.1f} raw, x 4 to 5 in use", f"{ours:.1f}", ""]


def measured_memory(images: int, device: str):
    """Peak of the selection and the gathering of one xyz bank, features made on the fly."""
    rows = images * GRID * GRID
    k = len(projection_matrix(rows, 1152, 0.9, 0))
    z = torch.randn(rows, k, device=device)
    with Peak() as peak:
        greedy_coreset(z, 64)
    yield [f"peak of a selection at {images} images, GB (measured)", "", f"{peak.gb:.2f}", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats, for a smoke test")
    parser.add_argument("--images", type=int, default=200, help="training images of the banks")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32\n")
    head = [f"M3DM rgb+3d, {arguments.images} images", "plain", "ours", "ratio"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    images, quick, device = arguments.images, arguments.quick, arguments.device
    parts = (
        inference(images, quick, device), selection(images, quick, device), memory(361),
        measured_memory(images, device),
    )
    for part in parts:
        for row in part:
            print("| " + " | ".join(row) + " |", flush=True)
    print(f"\npeak of the process: {peak_gb():.1f} GB")


if __name__ == "__main__":
    main()
