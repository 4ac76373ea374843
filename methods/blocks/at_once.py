"""What computing here costs, and so how much is done at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

PART = 1 / 8  # of an accelerator's free memory: what is made of a block takes three times its size


def starts_fast(device: torch.device) -> bool:
    """Whether a small operation takes its own time alone, and its result is there at once.

    A CPU's does. An accelerator's takes some microseconds to start, and to look at a result, or to
    have its size depend on one, is to wait until all that was asked for before is done.
    """
    return device.type == "cpu"


def free_bytes(device: torch.device) -> int | None:
    """What this process may still take of an accelerator's memory; None where nobody tells.

    Of its share (harness/engine/allocation.py: bound) and of what others leave free, with what
    torch holds ready. No result is waited for. torch lists all its statistics for an answer, so it
    is not asked for every block.
    """
    module: Any = torch.get_device_module(device)
    if not hasattr(module, "get_per_process_memory_fraction"):
        return None
    # by its number, without which a share is not told
    number = module.current_device() if device.index is None else device.index
    free, total = module.mem_get_info(number)
    share = int(module.get_per_process_memory_fraction(number) * total)
    stats = module.memory_stats(number)
    held, used = (stats.get(f"{name}_bytes.all.current", 0) for name in ("reserved", "allocated"))
    return max(0, min(share, held + free) - used)


class AtOnce(NamedTuple):
    """A size of blocks: what fits the cache of a CPU, or fills any accelerator."""

    cpu: int
    accelerator: int

    def on(self, device: torch.device) -> int:
        return self.cpu if starts_fast(device) else self.accelerator

    def within(self, device: torch.device, each: int) -> int:
        """As `on`, less where an accelerator has no room for it. For blocks whose size changes no
        result by more than the rounding of a product.

        each: bytes that one of these takes
        """
        free = None if starts_fast(device) else free_bytes(device)
        most = self.on(device)
        return most if free is None else max(1, min(most, int(PART * free) // each))
