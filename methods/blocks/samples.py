"""From a batch of a view to the networks' input, and the random numbers of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Self

import numpy as np
import torch

from methods.blocks.perlin import rotate
from methods.blocks.transfer import constant, moved
from methods.contract import Batch


def unit_rgb(rgb: torch.Tensor) -> torch.Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S) in [0, 1]."""
    return rgb.permute(0, 3, 1, 2).float() / 255


def standardised(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Images (B, 3, S, S) with a mean and deviation of each channel removed."""
    mean, std = (constant(v, images).view(3, 1, 1) for v in (mean, std))
    return (images - mean) / std


def rgbd(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """rgb (B, 3, S, S) in [0, 1], depth and foreground (B, 1, S, S), float32."""
    return unit_rgb(batch["rgb"]), batch["depth"][:, None], batch["foreground"][:, None].float()


def turn(rgb, depth, foreground, degrees, background: float):
    """Turn the clean pair; what comes from outside is background: RGB 0, and a depth."""
    stacked = rotate(torch.cat([rgb, depth - background, foreground], dim=1), degrees)
    rgb, depth, foreground = stacked.split([3, 1, 1], dim=1)
    return rgb, depth + background, (foreground > 0.5).to(rgb.dtype)


class Tensors:
    """A dataclass of tensors that go together, such as the random numbers of a batch."""

    @classmethod
    def stacked(cls, samples: Iterable[tuple]) -> Self:
        """From the arrays and numbers of each sample, in the order of the fields."""
        return cls(*(torch.from_numpy(np.stack(column)) for column in zip(*samples)))

    def to(self, device: torch.device | str) -> Self:
        """All tensors on `device`; what is none stays where it is."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        inner = {k: v.to(device) for k, v in values.items() if isinstance(v, Tensors)}
        held = {k: v for k, v in values.items() if isinstance(v, torch.Tensor)}
        return replace(self, **inner, **dict(zip(held, moved(list(held.values()), device))))
