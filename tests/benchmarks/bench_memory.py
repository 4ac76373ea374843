"""Memory of a training step at the published size: python -m tests.benchmarks.bench_memory

Computed: weights and both moments of Adam, and the most that a step's other tensors, gradients
among them, take at once (the step is run on tensors without memory). Not in it: libraries'
workspaces, what simulates defects, losses. `--measure N` runs two steps with so many samples on the
CPU, too, and prints by how much the process grew.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.engine.measure import Memory
from harness.planning.config import settings_of
from methods.blocks.quantiser import Quantiser

GIB = 2**30
MOMENTS_BYTES = 8  # of Adam, a trained parameter


@dataclass(frozen=True)
class Step:
    """A training: its network, inputs of a batch, and the sum that is made small."""

    name: str
    batch: int
    make: Callable[[], nn.Module]
    shapes: Callable[[int], tuple[tuple[int, ...], ...]]
    call: Callable[..., Any]
    frozen: Callable[[nn.Module], nn.Module | None] = lambda net: None


class Live(TorchDispatchMode):
    """The most bytes of tensors that are there at once, of those made under it."""

    def __init__(self) -> None:
        super().__init__()
        self.there: dict[int, tuple[StorageWeakRef, int]] = {}
        self.bytes = self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for key in [k for k, (ref, _) in self.there.items() if ref.expired()]:
            self.bytes -= self.there.pop(key)[1]
        for x in tree_leaves(out):
            if (
                isinstance(x, torch.Tensor)
                and (key := x.untyped_storage()._cdata) not in self.there
            ):
                size = x.untyped_storage().nbytes()
                self.there[key] = StorageWeakRef(x.untyped_storage()), size
                self.bytes += size
        self.most = max(self.most, self.bytes)
        return out


def computed(step: Step, batch: int) -> tuple[int, int]:
    """Bytes of weights and moments, and the most that a step's tensors take besides."""
    with torch.device("meta"):
        net = step.make()
    net.train()
    if (part := step.frozen(net)) is not None:
        part.requires_grad_(False)
    for module in net.modules():  # running means of codes, which look at values, keep nothing
        if isinstance(module, Quantiser):
            module.eval()
    inputs = [torch.empty(s, device="meta") for s in step.shapes(batch)]
    with Live() as live:
        total(step.call(net, *inputs)).backward()
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    weights = sum(p.numel() * p.element_size() for p in [*net.parameters(), *net.buffers()])
    return weights + MOMENTS_BYTES * trained, live.most


def measured(step: Step, batch: int) -> int:
    """Bytes by which the process grew from before the network to its second step of Adam."""
    nn.Conv2d(3, 8, 3)(torch.rand(1, 3, 16, 16)).sum().backward()  # loads the libraries
    gc.collect()
    memory = Memory(torch.device("cpu"))
    start = memory.peaks()["host_peak_bytes"] or 0
    torch.manual_seed(0)
    net = step.make().train()
    if (part := step.frozen(net)) is not None:
        part.requires_grad_(False)
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    inputs = [torch.rand(s) for s in step.shapes(batch)]
    for _ in range(2):  # in the first there are no moments yet
        optimiser.zero_grad()
        total(step.call(net, *inputs)).backward()
        optimiser.step()
    return (memory.peaks()["host_peak_bytes"] or 0) - start


def total(value: Any) -> torch.Tensor:
    """One number of all tensors in an output."""
    if isinstance(value, torch.Tensor):
        return value.float().square().mean()
    parts = value if isinstance(value, tuple | list) else vars(value).values()
    return torch.stack([total(p) for p in parts if p is not None and _counts(p)]).sum()


def _counts(part: Any) -> bool:
    """Whether it has a gradient."""
    return not isinstance(part, torch.Tensor) or part.requires_grad


def steps() -> Iterator[Step]:
    from methods.das3d.network import Das3dNet
    from methods.dbrn.network import DbrnNet
    from methods.dsr3d.dada import Autoencoder
    from methods.dsr3d.model import CHANNELS, Dsr3dNet
    from methods.m3dm.uff import FeatureFusion, _by_blocks, contrastive_loss
    from methods.shape_guided.declaration import ExpertSettings
    from methods.shape_guided.sdf import ShapeNet, pull_loss

    def pair(size: int) -> Callable[[int], tuple[tuple[int, ...], ...]]:
        return lambda b: ((b, 3, size, size), (b, 1, size, size))

    def plain(net: nn.Module, *x: torch.Tensor) -> Any:
        return net(*x)

    def judged(net: nn.Module, *x: torch.Tensor) -> Any:
        output = net(*x)  # its features have no part in the loss
        return output.recon_rgb, output.recon_depth, output.logits

    a, d = settings_of("das3d"), settings_of("dbrn")
    size, batch = a.prep.size, a.train.batch
    yield Step("das3d rgb+3d", batch, lambda: Das3dNet(a, "rgb+3d"), pair(size), judged)
    size, batch = d.prep.size, d.train.batch
    yield Step("dbrn rgb+3d", batch, lambda: DbrnNet(d, "rgb+3d"), pair(size), plain)
    s = settings_of("3dsr")
    for name, p, modality, px in (
        ("3dsr", s, "rgb+3d", s.prep.size),
        ("DSR", s.rgb, "rgb", s.size_of("rgb")),
    ):
        c, side = CHANNELS[modality], p.dada.size

        def coder(p=p, modality=modality) -> nn.Module:
            return Autoencoder(p.dada.net, modality)

        def whole(p=p, modality=modality) -> nn.Module:
            return Dsr3dNet(p, modality)

        shape = lambda b, c=c, side=side: ((b, c, side, side),)  # noqa: E731
        yield Step(f"{name}, stage 1 {modality}", p.dada.train.batch, coder, shape, plain)
        shape = lambda b, c=c, px=px: ((b, c, px, px),)  # noqa: E731
        frozen = lambda net: net.autoencoder  # noqa: E731
        yield Step(f"{name}, stage 2 {modality}", p.train.batch, whole, shape, plain, frozen)
    m = settings_of("m3dm")
    rows = int(m.pfa.grid**2 * 2 * 0.15)  # a sample's patches with a point (methods/work.py)
    wide = lambda b: ((b * rows, 1152), (b * rows, 768))  # noqa: E731

    def fusion(net: nn.Module, xyz: torch.Tensor, rgb: torch.Tensor) -> torch.Tensor:
        query = _by_blocks(lambda x: net.rgb_head(net.rgb(x)), rgb)  # as `loss`, all rows kept
        return contrastive_loss(query, _by_blocks(lambda x: net.xyz_head(net.xyz(x)), xyz))

    yield Step("m3dm, UFF", m.uff.batch, lambda: FeatureFusion(), wide, fusion)
    e = ExpertSettings()
    k = e.patches.points
    pulled = lambda net, x: pull_loss(net, x, x.clone().requires_grad_(), x)  # noqa: E731
    yield Step(
        "shape_guided, shape expert",
        e.train.batch,
        lambda: ShapeNet(e.net),
        lambda b: ((b, k, 3),),
        pulled,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=int, default=0, help="samples of a step that is run")
    parser.add_argument("--only", default="", help="trainings whose name has this")
    options = parser.parse_args()
    for step in steps():
        if options.only not in step.name:
            continue
        state, live = computed(step, step.batch)
        line = f"| {step.name} | {step.batch} | {state / GIB:.2f} | {live / GIB:.2f} | "
        line += f"{(state + live) / GIB:.2f} |"
        if n := options.measure:
            line += f" {n}: {sum(computed(step, n)) / GIB:.3f} computed, "
            line += f"{measured(step, n) / GIB:.3f} measured |"
        print(line, flush=True)


if __name__ == "__main__":
    main()
