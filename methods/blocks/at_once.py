"""How much is computed at once: what fits the cache of a CPU, or fills an accelerator."""

from __future__ import annotations

from typing import NamedTuple

import torch


class AtOnce(NamedTuple):
    """A size of blocks, for a CPU and for any accelerator, whose launches are what costs."""

    cpu: int
    accelerator: int

    def on(self, device: torch.device) -> int:
        return self.cpu if device.type == "cpu" else self.accelerator
