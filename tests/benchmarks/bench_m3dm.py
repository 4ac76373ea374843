"""M3DM against a plain transcription of the published algorithm, as Markdown tables.

    python -m tests.benchmarks.bench_m3dm [--quick] [--images 200] [--device cuda]

Random networks of the published size, one thread as OMP_NUM_THREADS=1 says. Times are CPU seconds
of this process (on CUDA: elapsed ones), so that other work on the machine does not count.
Scoring goes from the networks' outputs to score and map: alignment, UFF, all three banks, DLF.
Extraction comes before it: grouping and networks; both versions share the code of the two
transformers. Banks have the size that `--images` training images give, made of the patches of a
few: rows of those images, moved a little towards others. Greedy selection is measured over its
first steps and, for ours, also where many rows are chosen: it grows faster, the plain loop not.
Memory is that of the fit's heaviest phases on random features, extrapolated from two sizes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from methods.blocks.bank_of_products import memory_bank
from methods.blocks.coreset import greedy_coreset, projection_matrix
from methods.blocks.memory_bank import distinct
from methods.contract import Run, Samples, settings_from
from methods.m3dm.fusion import fit_svm
from methods.m3dm.method import M3dm
from methods.m3dm.settings import Dlf, Settings
from methods.m3dm.weights import make_uff
from methods.marks import RANDOM_INIT
from tests.methods import m3dm_oracle as oracle

SIZE, GRID = 224, 56
QUERIES = 2  # images scored at once
COVER = 88  # px, radius of the object: half of the image


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
    """Rows like those of `patches` (N, C): each a patch, a little towards another one.

    No two are equal, as in a coreset.
    """
    g = torch.Generator().manual_seed(0)
    patches = patches[distinct(patches)[0]]
    a, b = (torch.randint(len(patches), (rows,), generator=g) for _ in range(2))
    step = 0.15 * torch.rand(rows, 1, generator=g)
    a, b, step = a.to(patches.device), b.to(patches.device), step.to(patches)
    return torch.lerp(patches[a], patches[b], step)


def seconds(function, repeats: int, device: str) -> tuple[float, object]:
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    times = []
    for _ in range(repeats):
        start = clock()
        result = function()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(clock() - start)
    return float(np.median(times)), result


def full_settings() -> Settings:
    return settings_from(
        Settings, {"weights": {"rgb": RANDOM_INIT, "point": RANDOM_INIT, "uff": RANDOM_INIT}}
    )


def ready_method(images: int, samples: Samples, device: str):
    """A method with banks of the published sizes, whose features are kept; what made them."""
    method = M3dm(full_settings(), "rgb+3d", Run(device=device))
    method.patches.uff = make_uff(1152, 768, 4, 256).to(device).eval().requires_grad_(False)
    extract = method.patches.features
    kept = [extract(samples.batch([i], device)) for i in range(len(samples))]

    def lookup(batch, late=False):
        found = [kept[int(name)] for name in batch.ids]
        return {k: torch.cat([f[k] for f in found]) for k in found[0]}

    method.patches.features = lookup
    batch = samples.batch(range(len(samples) - QUERIES), device)
    found = method.patches(batch, method.names)
    scale = float(found["rgb"].std())
    shift = float(found["xyz"].mean())
    method.moments = dict.fromkeys(method.names, (shift, scale))
    reduced = images * GRID * GRID // 10
    sizes = {"xyz": reduced, "rgb": reduced // 10, "fusion": reduced // 10}
    for name, count in sizes.items():
        rows = method._normalised(name, found[name].flatten(0, 1))
        method.banks[name] = memory_bank(grown(rows, count))
    method.decision = {k: torch.tensor([0.1, 0.1, 1.0], device=device) for k in ("scores", "maps")}
    return method, extract


def plain_extraction(extract, batch, i: int) -> dict[str, torch.Tensor]:
    rgb, point = (extract.extractors[f"{name}_features"] for name in ("rgb", "point"))
    s = rgb.settings.rgb
    image = batch["rgb"][i].permute(2, 0, 1).float() / 255
    image = (image - torch.tensor(s.mean)[:, None, None]) / torch.tensor(s.std)[:, None, None]
    s = point.settings.point
    found = oracle.extracted(image, batch["xyz"][i], rgb.net, point.net, s.groups, s.group_size)
    return dict(zip(("rgb", "centres", "point"), found))


def plain_prediction(method: M3dm, batch, i: int, nearest=None):
    """Score () and map of one image. nearest: (patches, rows) -> distances, indices; none: cdist"""
    found, s = {k: v[i] for k, v in method.patches.features(batch).items()}, method.settings
    xyz = oracle.xyz_patches(batch["xyz"][i], found["centres"], found["point"], GRID)
    rgb = oracle.rgb_patches(found["rgb"], GRID)
    patches = {
        "xyz": xyz,
        "rgb": oracle.rgb_patches(found["rgb"], 28),
        "fusion": method.patches.uff(xyz, rgb),
    }
    score, image = 0, 0
    for name, weight in (("xyz", 1.0), ("rgb", 0.1), ("fusion", 1.0)):
        x, rows = method._normalised(name, patches[name]), method.banks[name].rows
        if nearest is None:
            one, plain = oracle.score(x, rows, SIZE, s.score)
        else:
            one, plain = oracle.score_of(*nearest(x, rows), x, rows, SIZE, s.score)
        column = method.names.index(name)
        score = score + weight * method.decision["scores"][column] * one
        image = image + weight * method.decision["maps"][column] * plain
    return score, image


def exactly(x: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest rows by float64 products, which have none of the cancellation of float32 ones."""
    rows = rows.double()
    found = [torch.cdist(part.double(), rows).min(dim=1) for part in x.split(512)]
    return torch.cat([f.values for f in found]).float(), torch.cat([f.indices for f in found])


def inference(images: int, quick: bool, device: str):
    samples = make_samples(2 + QUERIES)
    method, extract = ready_method(images, samples, device)
    batch = samples.batch(range(2, 2 + QUERIES), device)  # not among the rows of the banks
    repeats = 1 if quick else 2
    with torch.inference_mode():
        fast_out, features = seconds(lambda: extract(batch), 1, device)
        plain_out, same = seconds(lambda: plain_extraction(extract, batch, 0), 1, device)
        off = {k: float((features[k][0] - same[k]).abs().max() / same[k].abs().max()) for k in same}
        method.predict(batch)
        fast, found = seconds(lambda: method.predict(batch), repeats, device)
        plain, _ = seconds(lambda: plain_prediction(method, batch, 0), 1, device)
    fast_out, fast = fast_out / QUERIES, fast / QUERIES
    for what, slow, ours in (
        ("extraction", plain_out, fast_out),
        ("scoring", plain, fast),
        ("both", plain_out + plain, fast_out + fast),
    ):
        yield [f"{what}, s an image", f"{slow:.3g}", f"{ours:.3g}", f"{slow / ours:.1f}x"]
    yield ["images/s, features kept", f"{1 / plain:.3g}", f"{1 / fast:.3g}", f"{plain / fast:.1f}x"]
    yield ["features: largest difference / max", "", f"{max(off.values()):.1e}", ""]
    if quick:
        return
    known = {}

    def once(x, rows):
        if id(rows) not in known:
            known[id(rows)] = exactly(x, rows)
        return known[id(rows)]

    # Without the 8-bit blur, too, where a difference of 1e-7 can tip a level of 1 / 255.
    for blur in ("none", "pil8"):
        score = replace(method.settings.score, blur=blur)
        method.settings = replace(method.settings, score=score)
        with torch.inference_mode():
            found = method.predict(batch)
            score, image = plain_prediction(method, batch, 0, once)
        apart = (found.maps[0] - image).abs() / image.max()
        off = float((found.scores[0] - score).abs() / score)
        yield [f"blur={blur}: score, relative difference", "", f"{off:.1e}", ""]
        yield [f"blur={blur}: map, largest difference / max", "", f"{float(apart.max()):.1e}", ""]
        more = float((apart > 1e-4).float().mean())
        yield [f"blur={blur}: pixels more than 1e-4 apart", "", f"{more:.2%}", ""]


def selection(images: int, quick: bool, device: str):
    rows = images * GRID * GRID
    matrix = projection_matrix(rows, 1152, 0.9, 0)
    samples = make_samples(2)
    method = M3dm(full_settings(), "3d", Run(device=device))
    patches = method.patches(samples.batch(range(2), device), ("xyz",))["xyz"].flatten(0, 1)
    patches = patches @ torch.from_numpy(matrix).to(device).T
    z = grown(patches, rows)
    z[::2] = patches[0]  # half of the patches have no point
    few, many = (3, 200) if quick else (8, 1000)
    plain, slow = seconds(lambda: oracle.coreset(z, few), 1, device)
    plain /= few
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    start, marks = clock(), []
    chosen = greedy_coreset(z, many, report=lambda done, _: marks.append((done, clock() - start)))
    same = torch.equal(chosen[:few].cpu(), slow.cpu())
    total = marks[-1][1]
    half = next((d, t) for d, t in marks if d >= many // 2)
    late = (total - half[1]) / max(1, many - half[0]) if many > half[0] else total / many
    yield [
        f"coreset of {rows} x {z.shape[1]}, s a row",
        f"{plain:.3g}",
        f"{total / many:.3g}",
        f"{plain * many / total:.1f}x over {many}",
    ]
    yield ["the same, late rows", f"{plain:.3g}", f"{late:.3g}", f"{plain / late:.1f}x"]
    yield [f"first {few} rows are the same", "", str(same), ""]
    wanted = rows // 10
    yield [
        "whole xyz bank, s (extrapolated)",
        f"{plain * wanted:.3g}",
        f"{total + late * (wanted - many):.3g}",
        "",
    ]


def selected_alike(quick: bool, device: str):
    """A whole coreset of a small bank: the same rows, and how long they take."""
    rows, count = (4_000, 400) if quick else (12_000, 1_200)
    g = torch.Generator().manual_seed(0)
    z = torch.tanh(torch.randn(rows, 12, generator=g)) @ torch.randn(12, 240, generator=g)
    z = (z + 0.1 * torch.randn(rows, 240, generator=g)).to(device)
    slow, plain = seconds(lambda: oracle.coreset(z, count), 1, device)
    fast, ours = seconds(lambda: greedy_coreset(z, count), 1, device)
    yield [
        f"coreset of {rows} x 240: all {count} rows, s",
        f"{slow:.3g}",
        f"{fast:.3g}",
        f"{slow / fast:.1f}x",
    ]
    yield ["all are the same", "", str(torch.equal(plain, ours)), ""]


def hold_selection(images: int) -> None:
    """Projected rows and the first rounds on them, beside the bank before and the operators."""
    rows = images * GRID * GRID
    z = torch.randn(rows, len(projection_matrix(rows, 1152, 0.9, 0)))
    kept = [torch.ones(rows // 10, 1152), torch.ones(images, 100_000)]
    greedy_coreset(z, 64)
    del kept


def hold_banks(images: int) -> None:
    """Gathered rows become banks and meet the patches of one batch."""
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(16, 1920, generator=g)
    reduced = images * GRID * GRID // 10
    shapes = {"xyz": (reduced, 1152), "rgb": (reduced // 10, 768), "fusion": (reduced // 10, 1920)}
    rows = {k: torch.randn(n, 16, generator=g) @ mix[:, :c] for k, (n, c) in shapes.items()}
    method = M3dm(full_settings(), "rgb+3d", Run())
    banks = method._banks(rows)
    patches = {
        k: torch.randn(4 * GRID * GRID, 16, generator=g) @ mix[:, :c]
        for k, (_, c) in shapes.items()
    }
    for name, bank in banks.items():
        bank.nearest(patches[name])


def hold_decision(images: int) -> None:
    """Score maps of all training images and their SVM, beside the banks."""
    banks = torch.ones(images * GRID * GRID // 10, 1152 + 77 + 192)
    maps = np.random.default_rng(0).random((images * SIZE * SIZE, 3), np.float32)
    fit_svm(maps, Dlf())
    del banks


def hold_fusion(images: int) -> None:
    """One step of the fusion's training, with `images` samples a batch."""
    net = make_uff(1152, 768, 4, 256)
    rows = images * GRID * GRID
    optimiser = torch.optim.AdamW(net.parameters())
    net.loss(torch.randn(rows, 1152), torch.randn(rows, 768)).backward()
    optimiser.step()


PHASES = {  # of the fit: what holds memory, at two sizes and at the one wanted
    "selection": (hold_selection, 61, 122, 244),
    "banks": (hold_banks, 61, 122, 244),
    "decision": (hold_decision, 61, 122, 244),
    "fusion training": (hold_fusion, 4, 16, 16),
}


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def memory(quick: bool):
    """Peaks of fresh processes; linear in the number of images beyond what is always there."""
    highest = 0.0
    for name, (_, small, large, wanted) in PHASES.items():
        if quick:
            small, large = small // 16 + 1, large // 16 + 2
        peaks = []
        for count in (small, large):
            run = [sys.executable, "-m", "tests.benchmarks.bench_m3dm", "--phase", name]
            done = subprocess.run([*run, "--images", str(count)], capture_output=True, check=True)
            peaks.append(float(done.stdout))
        whole = peaks[1] + (peaks[1] - peaks[0]) / (large - small) * (wanted - large)
        highest = max(highest, whole)
        yield [
            f"{name}, {small} and {large} images, peak GB",
            "",
            f"{peaks[0]:.2f}, {peaks[1]:.2f}",
            f"{whole:.2f} at {wanted}",
        ]
    rows = 244 * GRID * GRID
    raw = 4 * (rows * (1152 + 1920) + rows // 4 * 768) / 2**30
    yield ["fit of 244 images, peak GB", f"{raw:.1f} of raw banks alone", f"{highest:.2f}", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats, for a smoke test")
    parser.add_argument("--images", type=int, default=200, help="training images of the banks")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--part", choices=PARTS, help="only this one")
    parser.add_argument("--phase", choices=PHASES, help="print the peak of one phase, GB")
    arguments = parser.parse_args()
    if arguments.phase:
        PHASES[arguments.phase][0](arguments.images)
        print(peak_gb())
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32\n")
    head = [f"M3DM rgb+3d, {arguments.images} images", "plain", "ours", "ratio"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, part in PARTS.items():
        if arguments.part in (None, name):
            for row in part(arguments):
                print("| " + " | ".join(row) + " |", flush=True)


PARTS = {
    "inference": lambda a: inference(a.images, a.quick, a.device),
    "alike": lambda a: selected_alike(a.quick, a.device),
    "coreset": lambda a: selection(a.images, a.quick, a.device),
    "memory": lambda a: memory(a.quick),
}


if __name__ == "__main__":
    main()
