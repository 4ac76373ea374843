"""Tensors from the host's memory to a device's, so that neither waits for the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def shares_memory(device: torch.device) -> bool:
    """Whether its memory is the host's, so that nothing has to be copied ahead."""
    return device.type in ("cpu", "mps")


def moved(tensors: Sequence[torch.Tensor], device: torch.device | str) -> list[torch.Tensor]:
    """Tensors on a device, the host's by one copy for all that have one type.

    An accelerator copies from pinned memory while the host goes on; a copy from any other is one
    that the host waits for, until all that it asked for before is done. torch keeps pinned memory
    that is not used any more, and gives none that is still copied from.
    """
    device, found = torch.device(device), list(tensors)
    if shares_memory(device):
        return [tensor.to(device) for tensor in found]
    away = [i for i, tensor in enumerate(tensors) if tensor.is_cpu]
    for dtype in {tensors[i].dtype: None for i in away}:
        places = [i for i in away if tensors[i].dtype == dtype]
        some = [tensors[i] for i in places]
        counts = [tensor.numel() for tensor in some]
        host = torch.empty(sum(counts), dtype=dtype, pin_memory=True)
        torch.cat([tensor.flatten() for tensor in some], out=host)
        for i, part in zip(places, host.to(device, non_blocking=True).split(counts)):
            found[i] = part.view(tensors[i].shape)
    return found


def sent(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """One of the host's, as `moved`."""
    return moved([tensor], device)[0]


def constant(values: Sequence, like: torch.Tensor) -> torch.Tensor:
    """Numbers, nested or not, of the type of another tensor, and where it is."""
    return sent(torch.tensor(values, dtype=like.dtype), like.device)
