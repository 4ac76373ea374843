"""What computing here costs, and so how much is done at once."""

from __future__ import annotations

from typing import NamedTuple

import torch


def starts_fast(device: torch.device) -> bool:
    """Whether a small operation takes its own time alone, and its result is there at once.

    A CPU's does. An accelerator's takes some microseconds to start, and to look at a result, or to
    have its size depend on one, is to wait until all that was asked for before is done.
    """
    return device.type == "cpu"


class AtOnce(NamedTuple):
    """A size of blocks: what fits the cache of a CPU, or fills any accelerator."""

    cpu: int
    accelerator: int

    def on(self, device: torch.device) -> int:
        return self.cpu if starts_fast(device) else self.accelerator
