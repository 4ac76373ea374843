"""Speed of Shape-Guided beside a plain transcription of it, as Markdown tables.

    python -m tests.benchmarks.bench_shape_guided [--only demo,half,paper] [--device cuda]

Both use the same networks (random weights: time does not depend on them) on made clouds, and the
same banks, as large as those of the images of a category: a few images are remembered, and the
rest are copies of them with noise. Times are CPU seconds of one thread (on a GPU, where only ours
runs, seconds). "search and maps": all but cutting and the networks. "maps agree": pixels of the
fused map, before the 8-bit blur, that differ by less than 1e-4 of its maximum, given the same
features; rarely, a near-tie lets a sparse code tip over. "limit": how much faster than the plain
one ours would be if it did nothing but its multiply-adds, at the rate of one large product.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.planning import config
from methods.contract import Run, settings_from
from methods.shape_guided import inference
from methods.shape_guided.appearance import normalised
from methods.shape_guided.memory import Memory
from methods.shape_guided.method import ShapeGuided
from methods.shape_guided.patches import cut_cloud, first_centre
from methods.shape_guided.settings import Settings
from tests.conftest import Parity
from tests.methods.shape_guided_oracle import Plain
from tests.methods.shape_guided_scenes import scenes

RANDOM = {"rgb": "random-init", "sdf": "random-init"}
SIZES = {  # name -> settings, images a category; None: those of configs/demo.yaml
    "demo": (None, 60),
    "half": (
        {
            "prep": {"size": 160},
            "patches": {"points": 250},
            "rgb": {"backbone": "resnet34"},
            "net": {
                "points": [32, 64, 512],
                "hidden": 256,
                "feature": 64,
                "width": 256,
                "depth": 5,
            },
        },
        130,
    ),
    "paper": ({}, 266),  # 2,656 images in 10 categories
}
REMEMBERED = 2
PAPER = {"features searched": "26,452", "of": "208,230"}  # its Table 3


class Clock:
    """CPU seconds; on a GPU seconds, with its queue empty at both ends."""

    def __init__(self, device: str):
        self.gpu = device.startswith("cuda")

    def now(self) -> float:
        if self.gpu:
            torch.cuda.synchronize()
        return time.perf_counter() if self.gpu else time.process_time()

    def best(self, function, repeats: int) -> float:
        times = []
        for _ in range(repeats):
            start = self.now()
            function()
            times.append(self.now() - start)
        return min(times)


def enlarged(memory: Memory, images: int) -> Memory:
    """The memory of `images` images, which are those of `memory` over and over, with noise."""
    copies = images // REMEMBERED
    generator = torch.Generator(memory.sdf.device).manual_seed(0)

    def repeated(rows):
        noise = torch.randn(
            copies * len(rows), rows.shape[1], generator=generator, device=rows.device
        )
        return rows.repeat(copies, 1).addcmul_(noise, rows.std(dim=0).expand_as(noise), value=0.3)

    shift = len(memory.rgb) * torch.arange(copies, device=memory.cells.device)
    cells = torch.where(memory.cells < 0, -1, memory.cells + shift.view(-1, 1, 1)).flatten(0, 1)
    owners = (owner.repeat(copies) for owner in (memory.sdf_owner, memory.rgb_owner))
    return Memory(repeated(memory.sdf), next(owners), cells, repeated(memory.rgb), next(owners))


def matmul_rate(clock: Clock, device: str) -> float:
    """Multiply-adds a second of float32 products of a layer at the paper's size."""
    x, w = torch.rand(16_000, 512, device=device), torch.rand(512, 512, device=device)
    clock.best(lambda: x @ w, 2)
    return x.numel() * 512 / clock.best(lambda: x @ w, 10)


def counted(function) -> tuple[object, float]:
    """What the function returns, and its multiply-adds."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = function()
    return result, counter.get_total_flops() / 2


def measured(values, images: int, device: str) -> dict[str, str]:
    settings = (
        config.load("demo").options["shape_guided"]
        if values is None
        else (settings_from(Settings, {"weights": RANDOM, **values}))
    )
    settings = settings_from(Settings, {**vars(settings), "weights": RANDOM})
    size, repeats, clock = settings.prep.size, 2, Clock(device)
    radius = 0.22 if size > 200 else 0.3  # N as in the paper: about 7,500 points at 224 px
    train, test = (scenes(n, size, seed, radius=radius) for n, seed in ((REMEMBERED, 0), (1, 9)))
    method = ShapeGuided(settings, "rgb+3d", Run(device=device))
    Parity("shape_guided").fill(method.shape)  # initial features would be all but alike
    fit_s = clock.best(lambda: method.fit(train, train), 1)
    method.memory = enlarged(method.memory, images)
    method.searched = [0, 0]

    batch = test.batch([0], device)
    _, our_macs = counted(lambda: method.predict(batch))
    with torch.inference_mode():
        (x,) = method._describe(batch)
        ours_s = clock.best(lambda: method.predict(batch), repeats)
        cut_s = clock.best(lambda: cut_cloud(batch["xyz"][0], settings.patches, 0), repeats)
        maps, _ = method._maps(x, None, size)
        fused = torch.maximum(inference.aligned(maps["rgb"], method.a, method.b), maps["sdf"])
    sizes = method.sizes()
    facts = {
        "patches, of points": f"{len(x.pixels)}, {x.pixels.shape[1]}",
        "SDF bank, rows": f"{sizes['sdf_bank_rows']:,}",
        "RGB bank, rows (cells under patches)": f"{sizes['rgb_bank_rows']:,}",
        "RGB features searched (all of them)": f"{sizes['rgb_features_searched']:,} "
        f"({images * len(x.rgb):,})",
        "banks": f"{sizes['bank_bytes'] / 2**20:.0f} MiB",
        "fit, an image (remember and align)": f"{fit_s / REMEMBERED:.2f} s",
        "inference, ours": f"{ours_s:.3f} s",
        "of it cutting": f"{cut_s * 1e3:.0f} ms",
    }
    if clock.gpu:
        return facts

    plain = Plain(method.shape, method.appearance, settings, lambda count: first_centre(count, 0))
    memory = method.memory
    plain.sdf, plain.rgb, plain.a, plain.b = memory.sdf, memory.rgb, method.a, method.b
    plain.dictionaries = [row[row >= 0] for row in memory.cells.numpy()]
    image = normalised(torch.from_numpy(test.arrays["rgb"]), settings.rgb)[0]
    cloud = test.arrays["xyz"][0]
    (points, _, _), look_macs = counted(lambda: plain.look(image, cloud))
    looked = points, x.sdf, x.rgb
    found, maps_macs = counted(lambda: plain.maps(looked, size))
    off = np.abs(fused.numpy() - plain.fuse(*found)[0]) / fused.max().item()
    plain_macs = look_macs + maps_macs
    plain_s = clock.best(lambda: plain.predict(image, cloud), 1)
    rate = matmul_rate(clock, device)
    with torch.inference_mode():
        width = method.shape.NIF.fc3.out_features
        method.shape.NIF = Nothing(width)
        search_s = clock.best(lambda: method.assess(x, size), repeats)
        plain_search_s = clock.best(lambda: plain.judge(looked, size, Nothing.signed), 1)
    return facts | {
        "inference, plain": f"{plain_s:.3f} s",
        "**faster**": f"**{plain_s / ours_s:.1f}**",
        "search and maps, plain; ours": f"{plain_search_s * 1e3:.0f}; {search_s * 1e3:.0f} ms",
        "**faster** there": f"**{plain_search_s / search_s:.1f}**",
        "multiply-adds, plain; ours": f"{plain_macs / 1e9:.2f}; {our_macs / 1e9:.2f} G",
        "a second, ours; one large product": f"{our_macs / ours_s / 1e9:.0f}; {rate / 1e9:.0f} G",
        "limit": f"{plain_s / (our_macs / rate):.1f}",
        "maps agree": f"{(off < 1e-4).mean():.3%}",
    }


class Nothing(torch.nn.Module):
    """In place of the implicit function, to time all but it."""

    def __init__(self, width: int):
        super().__init__()
        self.fc3 = torch.nn.Linear(1, width)  # its width decides how patches are grouped

    def forward(self, feature, queries):
        return queries[..., 0]

    @staticmethod
    def signed(nif, feature, queries):
        return queries[..., 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(SIZES), help="sizes, with commas between")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where = platform.processor() or platform.machine()
    if arguments.device.startswith("cuda"):
        where = torch.cuda.get_device_name()
    print(f"{where}, {torch.get_num_threads()} thread, torch {torch.__version__}, float32. The")
    print(f"paper's Table 3: {PAPER['features searched']} of {PAPER['of']} features searched.\n")
    for name in arguments.only.split(","):
        print(f"| Shape-Guided, rgb+3d | {name} |\n|---|---|")
        for fact, value in measured(*SIZES[name], arguments.device).items():
            print(f"| {fact} | {value} |")
        print(flush=True)


if __name__ == "__main__":
    main()
