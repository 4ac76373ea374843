"""The loads of networks (methods/load.py).

A network is run on tensors without memory or arithmetic, and every operation that torch starts for
it is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from methods.load import Load

ADAM_BYTES = 28  # a parameter: weight, gradient, both moments read; weight and moments written
VIEWS = """detach view _unsafe_view reshape expand permute transpose t slice select squeeze
unsqueeze split split_with_sizes chunk unbind as_strided alias empty unfold"""
MOVE_NOTHING = frozenset(f"aten::{name}" for name in VIEWS.split())


class Operations(TorchDispatchMode):
    """Counts what runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self.load = Load()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name not in MOVE_NOTHING:
            counted = flop_registry.get(func._overloadpacket)
            flops = counted(*args, **(kwargs or {}), out_val=out) if counted else 0
            self.load += Load(flops, _bytes(args) + _bytes(out), launches=1)
        return out


def _bytes(values: Any) -> int:
    """Of the tensors in these arguments or results; of expanded ones what there is to read."""
    if isinstance(values, torch.Tensor):
        return values.numel() * values.element_size()
    if isinstance(values, tuple | list):
        return sum(map(_bytes, values))
    return 0


# A step in passes, forward and backward: counted with both on DAS3D's and DBRN's networks, of the
# demo and as published.
BACKWARD = Load(flops=3.0, bytes=2.75, launches=2.4)


@dataclass(frozen=True)
class Passes:
    """A network on a batch."""

    load: Load  # of one pass
    parameters: int

    def trained(self) -> Load:
        """Of a step: forward, backward, Adam."""
        return Load(
            BACKWARD.flops * self.load.flops,
            BACKWARD.bytes * self.load.bytes + ADAM_BYTES * self.parameters,
            launches=BACKWARD.launches * self.load.launches + 1,
        )


def counted(
    make: Callable[[], nn.Module],
    *shapes: tuple[int, ...] | None,
    looks: bool = False,
    call: Callable[..., Any] | None = None,
) -> Passes:
    """A network on inputs of these shapes (None: no input).

    looks: making the network looks at values, so that one with memory is made first; call:
    (network, inputs) instead of its forward
    """
    with nullcontext() if looks else torch.device("meta"):
        net = make()
    net = net.to("meta").eval()
    inputs = [None if s is None else torch.empty(s, device="meta") for s in shapes]
    with Operations() as ops, torch.no_grad():
        call(net, *inputs) if call else net(*inputs)
    return Passes(ops.load, sum(p.numel() for p in net.parameters() if p.requires_grad))
