"""How much a computation asks of a machine, and how long a machine takes for it.

The time is the sum of five: arithmetic, bytes moved, bytes only read, operations started, and what
the CPU does beside the device. Real machines overlap them, which is at most a factor of two where
two are equal.
"""

from __future__ import annotations

import operator
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Load:
    """What has to be done; loads are added, and multiplied by how often."""

    flops: float = 0.0  # of products and convolutions
    bytes: float = 0.0  # moved by operations whose results are new
    reads: float = 0.0  # bytes that are only read, over and over
    launches: float = 0.0  # operations that torch starts
    host_s: float = 0.0  # of one CPU core, beside the device

    def __add__(self, other: Load) -> Load:
        return Load(*map(operator.add, astuple(self), astuple(other)))

    def __mul__(self, times: float) -> Load:
        return Load(*(part * times for part in astuple(self)))

    __rmul__ = __mul__

    def __sub__(self, other: Load) -> Load:
        return self + -1.0 * other


@dataclass(frozen=True)
class Machine:
    """What a device keeps up."""

    flops_s: float  # FLOP/s of convolutions
    bytes_s: float  # B/s of a training's operations that only move numbers
    reads_s: float  # B/s that are only read; of a CPU without the cost of new memory
    launch_s: float  # s an operation

    def seconds(self, load: Load, share: float = 1.0) -> float:
        """share: of the device, for jobs that share it."""
        device = load.flops / self.flops_s + load.bytes / self.bytes_s + load.reads / self.reads_s
        return device / share + load.launches * self.launch_s + load.host_s

    @classmethod
    def gpu(cls, tflops: float) -> Machine:
        """A GPU that keeps up so many TFLOP/s, and of the rest what such GPUs do."""
        return cls(tflops * 1e12, *[tflops * 1e12 / FLOPS_A_BYTE] * 2, GPU_LAUNCH_S)


# Between A100 and RTX 3090: half of the TFLOP/s that their data sheets print (156 TF32; 36 float32)
# over two thirds of the TB/s (1.6; 0.94), which is about what trainings get: 75 and 29.
FLOPS_A_BYTE = 50.0
GPU_LAUNCH_S = 8e-6  # eager PyTorch: an operation's way from Python to the device
GPU_TFLOPS = 20.0  # of a GPU of which nothing is known: float32 convolutions of an RTX 3090 or A100
# One core of a server: measured (tests/benchmarks/README.md)
CORE = Machine(90e9, 4e9, 20e9, 6e-6)
