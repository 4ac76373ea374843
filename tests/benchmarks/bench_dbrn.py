"""Speed of DBRN: the four networks of Table VI, and eager against compiled and bfloat16 inference.

    python -m tests.benchmarks.bench_dbrn [--quick] [--device cuda] [--base 64] [--threads 1]
                                          [--rounds 3] [--no-compile]

FPS: batch 1, both branches, enlargement, discriminator and averaging, preprocessing excluded;
dropped skips are drawn on the device (methods/dbrn/README.md, section 9). The combinations take
turns, and each has the median of its rounds; with one thread on a CPU the clock counts the thread's
own time, so that a busy machine is unfair to none of them. MACs are counted by torch's flop counter
on the same pass through tensors without data. Needs torch and NumPy only.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from methods.blocks.swin_unet import Drops
from methods.contract import settings_from
from methods.dbrn.dropout import multipliers, onto, training_drops
from methods.dbrn.network import AllDrops, DbrnNet, init_weights
from methods.dbrn.settings import Settings

COMBINATIONS = {  # Table VI: name: (recon, disc, printed FPS on an RTX 3060)
    "Res-UNet + Swin-Unet": ("res_unet", "swin_unet", 6.91),
    "Res-UNet + UNet": ("res_unet", "unet", 6.64),
    "Swin-Unet + Swin-Unet": ("swin_unet", "swin_unet", 37.46),
    "Swin-Unet + UNet": ("swin_unet", "unet", 48.93),
}
NARROW = {
    "prep": {"size": 64},
    "swin": {"width": 24, "window": 4},
    "recon": {"width": 32},
}
TOLERANCES = {"compiled": 1e-4, "bfloat16": 0.03, "compiled bfloat16": 0.03}  # of the maps


class Pass:
    """One sample through the networks: tensors on the device in, map on the device out."""

    def __init__(self, settings: Settings, device: str):
        self.net = DbrnNet(settings)
        init_weights(self.net, torch.Generator().manual_seed(0), settings.swin.init_std)
        self.net.to(device, memory_format=torch.channels_last).eval()
        self.device, self.dropout = torch.device(device), settings.dropout
        self.generator = torch.Generator().manual_seed(0)
        side = settings.prep.size
        random = torch.Generator().manual_seed(1)
        self.rgb = torch.rand(1, 3, side, side, generator=random).to(device)
        self.depth = torch.rand(1, 1, side, side, generator=random).to(device)
        self.map = self.net.anomaly_map

    def drops(self) -> AllDrops:
        drawn = (
            Drops(training_drops(net, 1, self.dropout, self.generator).skips)
            for net in self.net.branches.values()
        )
        return multipliers(onto(AllDrops(*drawn), self.device), self.dropout)

    @torch.inference_mode()
    def __call__(self, drops: AllDrops | None = None, low: bool = False) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            return self.map(self.rgb, self.depth, drops or self.drops())

    def seconds(self, low: bool = False) -> float:
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.thread_time if alone else time.perf_counter
        self._wait()
        start = clock()
        self(low=low)
        self._wait()
        return clock() - start

    def _wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def gmacs(self) -> float:
        meta = copy.deepcopy(self.net).to("meta")
        with FlopCounterMode(display=False) as counter:
            meta.anomaly_map(self.rgb.to("meta"), self.depth.to("meta"))
        return counter.get_total_flops() / 2e9

    def parameters_m(self) -> float:
        return sum(p.numel() for p in self.net.parameters()) / 1e6


def settings_for(narrow: bool, base: int, **parts: str) -> Settings:
    values = {k: dict(v) for k, v in NARROW.items()} if narrow else {}
    values["disc"] = {"base": base}
    for name, net in parts.items():
        values.setdefault(name, {})["net"] = net
    return settings_from(Settings, values)


def in_turns(passes: dict, rounds: int, **how) -> dict[str, float]:
    """Median seconds of each, after a round to warm up."""
    times = {name: [] for name in passes}
    for number in range(rounds + 1):
        for name, p in passes.items():
            seconds = p.seconds(**how)
            if number:
                times[name].append(seconds)
    return {name: float(np.median(t)) for name, t in times.items()}


def print_table(head: list[str], rows: list[list]) -> None:
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print()


def table_6(narrow: bool, base: int, rounds: int, device: str) -> None:
    passes = {
        name: Pass(settings_for(narrow, base, recon=recon, disc=disc), device)
        for name, (recon, disc, _) in COMBINATIONS.items()
    }
    seconds = in_turns(passes, rounds)
    rows = [
        [
            name,
            f"{p.parameters_m():.1f}",
            f"{p.gmacs():.1f}",
            f"{seconds[name] * 1e3:.1f}",
            f"{1 / seconds[name]:.2f}",
            COMBINATIONS[name][2],
        ]
        for name, p in passes.items()
    ]
    print_table(
        ["reconstruction + discriminator", "M parameters", "GMAC", "ms", "FPS", "FPS printed"], rows
    )
    order = sorted(passes, key=lambda name: seconds[name])
    printed = sorted(passes, key=lambda name: -COMBINATIONS[name][2])
    print(f"fastest first: {'; '.join(order)} ({'as' if order == printed else 'not as'} printed)\n")


def modes(narrow: bool, base: int, rounds: int, device: str, compiling: bool) -> None:
    """Forms of inference of the default networks, on the same dropped skips."""
    eager = Pass(settings_for(narrow, base), device)
    forms = [("eager", eager, False), ("bfloat16", eager, True)]
    if compiling:
        compiled = Pass(settings_for(narrow, base), device)
        compiled.net.load_state_dict(eager.net.state_dict())
        compiled.map = torch.compile(compiled.net.anomaly_map, options={"freezing": True})
        start = time.perf_counter()
        compiled()
        print(f"compilation took {time.perf_counter() - start:.0f} s\n")
        forms += [("compiled", compiled, False), ("compiled bfloat16", compiled, True)]
    drops = eager.drops()
    reference = eager(drops)
    rows = []
    for name, p, low in forms:
        difference = float((p(drops, low) - reference).abs().max())
        rows.append([name, p, low, difference])
    taken = {name: [] for name, *_ in rows}
    for _ in range(rounds):
        for name, p, low, _ in rows:
            taken[name].append(p.seconds(low))
    times = [float(np.median(t)) for t in taken.values()]
    print_table(
        ["inference", "ms", "times as fast", "largest difference of maps", "tolerance"],
        [
            [
                name,
                f"{t * 1e3:.1f}",
                f"{times[0] / t:.2f}",
                f"{difference:.1e}",
                TOLERANCES.get(name, ""),
            ]
            for (name, _, _, difference), t in zip(rows, times)
        ],
    )
    off = [name for name, _, _, d in rows if d > TOLERANCES.get(name, 0)]
    if off:
        raise SystemExit(f"maps differ by more than their tolerance: {', '.join(off)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="narrow networks, few rounds")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--base", type=int, default=64, help="channels of the UNet's first block")
    parser.add_argument("--rounds", type=int, help="default 3 on the CPU, 50 on a GPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    where = platform.processor() or platform.machine()
    if on_gpu := arguments.device.startswith("cuda"):
        where = torch.cuda.get_device_name()
    narrow = arguments.quick
    size = settings_for(narrow, arguments.base).prep.size
    rounds = arguments.rounds or (50 if on_gpu else 3)
    print(
        f"{where}, {arguments.threads} threads, torch {torch.__version__}, {size} px, "
        f"UNet base {arguments.base}, single scale, batch 1, median of {rounds}\n"
    )
    table_6(narrow, arguments.base, rounds, arguments.device)
    modes(narrow, arguments.base, rounds, arguments.device, not arguments.no_compile)


if __name__ == "__main__":
    main()
