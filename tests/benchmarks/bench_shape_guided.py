"""Speed of Shape-Guided beside a plain transcription of it, as a Markdown table.

    python -m tests.benchmarks.bench_shape_guided [--quick] [--device cuda] [--train N]

Both use the same networks (random weights: time does not depend on them) on made clouds, on the
same device for ours and the CPU for the plain one. "maps agree": share of pixels of the fused map,
before the 8-bit blur, that differ by less than 1e-4 of its maximum. "search and
maps" leaves out cutting and both experts' networks, which cost the same multiply-adds either way.
The paper's Table 3 (MVTec 3D-AD means): 26,452 features searched of 208,230.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import torch

from methods.contract import Run, settings_from
from methods.shape_guided.appearance import normalised
from methods.shape_guided import inference
from methods.shape_guided.method import ShapeGuided
from methods.shape_guided.patches import first_centre
from methods.shape_guided.settings import Settings
from tests.conftest import Parity
from tests.methods.shape_guided_oracle import Plain
from tests.methods.shape_guided_scenes import scenes

RANDOM = {"rgb": "random-init", "sdf": "random-init"}
CONFIGURATIONS = {
    "paper: 224 px, K 500, WRN-50-2": {"prep": {"size": 224}},
    "narrow: 96 px, K 64, ResNet-18": {
        "prep": {"size": 96}, "patches": {"points": 64}, "rgb": {"backbone": "resnet18"},
        "net": {"points": [16, 32, 64], "hidden": 64, "feature": 32, "width": 48, "depth": 3},
    },
}


def synchronise(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(function, repeats, device):
    function()
    times = []
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        function()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def row(name, values, train_count, repeats, device):
    settings = settings_from(Settings, {"weights": RANDOM, **values})
    size = settings.prep.size
    radius = 0.22 if size > 100 else 0.3          # N as in the paper: about 7,500 points at 224 px
    train, test = scenes(train_count, size, 0, radius=radius), scenes(1, size, 9, radius=radius)
    method = ShapeGuided(settings, "rgb+3d", Run(device=device))
    Parity("shape_guided").fill(method.shape)          # initial features would be all but alike
    start = time.perf_counter()
    method.fit(train, train)
    synchronise(device)
    fit_s = time.perf_counter() - start

    plain = Plain(
        method.shape.to("cpu"), method.appearance.to("cpu"), settings,
        lambda count: first_centre(count, 0),
    )
    images = normalised(torch.from_numpy(test.arrays["rgb"]), settings.rgb)
    rgb = normalised(torch.from_numpy(train.arrays["rgb"]), settings.rgb)
    plain.remember(list(zip(rgb, train.arrays["xyz"])))
    plain.a, plain.b = method.a, method.b
    looked = plain.look(images[0], test.arrays["xyz"][0])
    start = time.perf_counter()
    plain.predict(images[0], test.arrays["xyz"][0])
    slow_s = time.perf_counter() - start
    slow_map, _ = plain.fuse(*plain.maps(looked, size))
    plain.shape.NIF, nif = Nothing(), plain.shape.NIF
    slow_search_s = seconds(lambda: plain.judge(looked, size), 1, "cpu")
    plain.shape.NIF = nif

    method.shape.to(device), method.appearance.to(device)
    batch = test.batch([0], device)
    with torch.inference_mode():
        (x,) = method._describe(batch)
        maps, _ = method._maps(x, None, size)
        fused = torch.maximum(inference.aligned(maps["rgb"], method.a, method.b), maps["sdf"])
        off = np.abs(fused.cpu().numpy() - slow_map) / slow_map.max()
        fast_s = seconds(lambda: method.predict(batch), repeats, device)
        method.shape.distances = lambda f, p: p[..., 0]
        search_s = seconds(lambda: method.assess(x, size), repeats, device)
        del method.shape.distances
    agree = (off < 1e-4).mean()              # rarely, a near-tie lets a sparse code tip over
    sizes = method.sizes()
    return [
        name, f"{len(x.pixels)}", f"{fit_s:.1f}", f"{1 / slow_s:.3g}", f"{1 / fast_s:.3g}",
        f"{slow_s / fast_s:.1f}x", f"{slow_search_s * 1e3:.0f}", f"{search_s * 1e3:.0f}",
        f"{slow_search_s / search_s:.1f}x", f"{agree:.3%}",
        f"{sizes['sdf_bank_rows']:,}", f"{sizes['rgb_bank_rows']:,}",
        f"{sizes['rgb_features_searched']:,}", f"{sizes['bank_bytes'] / 2**20:.0f}",
    ]


class Nothing(torch.nn.Module):
    """In place of the implicit function, to time all but it."""

    def forward(self, feature, queries):
        return queries[..., 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="narrow only, for a smoke test")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--train", type=int, default=None, help="training samples")
    arguments = parser.parse_args()
    where = platform.processor() or platform.machine()
    if arguments.device.startswith("cuda"):
        where = torch.cuda.get_device_name()
    print(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32\n")
    head = ["Shape-Guided rgb+3d", "patches", "fit s", "plain images/s", "images/s", "faster",
            "plain search and maps ms", "ms", "faster", "maps agree", "SDF bank",
            "RGB bank", "searched", "banks MiB"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, values in CONFIGURATIONS.items():
        narrow = name.startswith("narrow")
        if arguments.quick and not narrow:
            continue
        count = arguments.train or (8 if arguments.quick else 60 if narrow else 12)
        cells = row(name, values, count, 3 if not narrow else 20, arguments.device)
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
