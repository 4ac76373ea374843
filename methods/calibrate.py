"""What a device keeps up, measured in some seconds (methods/load.py): python -m methods.calibrate

Convolutions of 64 channels, batch norms of 8 channels and additions of a few numbers, all with
their backward passes, and sums over what no cache holds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from methods.load import Machine

AT_LEAST_S = 0.3  # of each measurement


def measured(device: str) -> Machine:
    """ "cpu": of one core, in CPU seconds; "cuda": of the GPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        size = 64 if device == "cpu" else 256
        return Machine(
            flops_s=_convolutions(device, size),
            bytes_s=_norms(device, size),
            reads_s=_sums(device),
            launch_s=_additions(device),
        )
    finally:
        torch.set_num_threads(threads)


def _seconds(device: str, once: Callable[[], object]) -> float:
    """Of one call, after two others."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    once(), once()
    _wait(device)
    started, calls = clock(), 0
    while (spent := clock() - started) < AT_LEAST_S or calls < 3:
        once()
        _wait(device)
        calls += 1
    return spent / calls


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _image(device: str, channels: int, size: int) -> torch.Tensor:
    x = torch.randn(4, channels, size, size, device=device)
    return x.to(memory_format=torch.channels_last).requires_grad_()


def _convolutions(device: str, size: int) -> float:
    x, w = _image(device, 64, size), torch.randn(64, 64, 3, 3, device=device, requires_grad=True)
    back = torch.ones_like(F.conv2d(x, w, padding=1))
    seconds = _seconds(device, lambda: F.conv2d(x, w, padding=1).backward(back))
    return 3 * 2 * 4 * size**2 * w.numel() / seconds


def _norms(device: str, size: int) -> float:
    """Forward reads one and makes one image, backward reads two and makes one."""
    x = _image(device, 8, 2 * size)
    w, b = (torch.ones(8, device=device, requires_grad=True) for _ in range(2))
    back = torch.ones_like(x)
    seconds = _seconds(device, lambda: F.batch_norm(x, None, None, w, b, True).backward(back))
    return 5 * 4 * x.numel() / seconds


def _sums(device: str) -> float:
    x = torch.ones(2**25, device=device)
    return 4 * x.numel() / _seconds(device, x.sum)


def _additions(device: str) -> float:
    """An operation and its gradient are two."""
    x, back = torch.ones(8, device=device, requires_grad=True), torch.ones(8, device=device)

    def chain() -> None:
        y = x
        for _ in range(50):
            y = y * 1.01
        y.backward(back)

    return _seconds(device, chain) / 100


if __name__ == "__main__":
    found = measured(sys.argv[1] if len(sys.argv) > 1 else "cpu")
    print(
        f"convolutions {found.flops_s / 1e12:.3g} TFLOP/s (relief plan --tflops), bytes moved "
        f"{found.bytes_s / 1e9:.3g} GB/s, read {found.reads_s / 1e9:.3g} GB/s, an operation "
        f"{1e6 * found.launch_s:.3g} us"
    )
