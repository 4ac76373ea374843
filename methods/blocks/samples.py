"""From a view to batches, from these to the networks' input, and the random numbers of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Self

import numpy as np
import torch

from methods.blocks.at_once import free_bytes
from methods.blocks.perlin import rotate
from methods.blocks.transfer import constant, moved, sent, shares_memory
from methods.contract import Batch, Samples

HELD = 1 / 8  # of an accelerator's free memory: a training's own takes most of it
COPIED = 64  # samples at once, through pinned memory

Drawn = Callable[[Sequence[int] | np.ndarray], Batch]  # indices of samples, repeats allowed


def batches_on(device: torch.device | str, samples: Samples) -> Drawn:
    """Gives the samples at some indices, for a training that draws them in every step.

    An accelerator holds all of them, if they take no more than a part of what is free there, and
    gathers them by itself; else each batch is gathered here and copied.
    """
    device = torch.device(device)
    free = None if shares_memory(device) else free_bytes(device)
    size = sum(array.nbytes for array in samples.arrays.values())
    if free is None or size > HELD * free:
        return lambda indices: samples.batch(indices, device)
    there = _held(samples, device)

    def gathered(indices):
        index = sent(torch.as_tensor(np.asarray(indices, np.int64)), device)
        arrays = {name: rows.index_select(0, index) for name, rows in there.items()}
        return Batch(arrays, tuple(samples.ids[i] for i in indices))

    return gathered


def _held(samples: Samples, device: torch.device) -> dict[str, torch.Tensor]:
    """All samples on a device."""
    there: dict[str, torch.Tensor] = {}
    for start in range(0, len(samples), COPIED):
        some = samples.batch(range(start, min(start + COPIED, len(samples))), device)
        for name, rows in some.arrays.items():
            if name not in there:
                there[name] = rows.new_empty((len(samples), *rows.shape[1:]))
            there[name][start : start + len(rows)] = rows
    return there


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
