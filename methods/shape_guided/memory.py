"""The two memory banks and the relation between them (methods/shape_guided/README.md, section 4).

The SDF bank holds the feature of every patch of the training samples, the RGB bank the features
of cells; each patch knows the cells it lies on, its dictionary, as rows of the RGB bank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from methods.blocks.samples import Tensors


def cells_of(
    pixels: torch.Tensor, size: int, grid: int, expand: int = 2, expansion: str = "shift"
) -> torch.Tensor:
    """Which of the grid * grid cells of a size x size image belong to each patch.

    pixels (P, K) ids row * size + column -> bool (P, grid * grid). "shift": the cells moved by
    `expand` to the four sides on the flat index, so that sides run into the next row, without the
    cells themselves (what the code's clipping of other ids comes to); "dilate": all cells within
    `expand`.
    """
    step = size // grid
    cells = pixels // size // step * grid + pixels % size // step
    mask = torch.zeros(len(pixels), grid * grid, dtype=torch.bool, device=pixels.device)
    mask.scatter_(1, cells, True)
    if expansion == "dilate":
        square = mask.view(-1, 1, grid, grid).float()
        return F.max_pool2d(square, 2 * expand + 1, 1, expand).flatten(1) > 0
    moved = torch.zeros_like(mask)
    for shift in (expand, expand * grid):
        moved[:, shift:] |= mask[:, : mask.shape[1] - shift]
        moved[:, : mask.shape[1] - shift] |= mask[:, shift:]
    return moved


@dataclass(frozen=True)
class Memory(Tensors):
    """Banks without one modality have no rows of it."""

    sdf: torch.Tensor  # (M, F) features of patches
    sdf_owner: torch.Tensor  # (M,) int64, number of the training sample
    cells: torch.Tensor  # (M, E) int64 rows of rgb, -1 where a patch has fewer than E
    rgb: torch.Tensor  # (R, C) features of cells
    rgb_owner: torch.Tensor  # (R,) int64

    def dictionary(self, patches: torch.Tensor) -> torch.Tensor:
        """Rows of rgb that belong to any of these rows of sdf, ascending."""
        wanted = torch.zeros(len(self.rgb) + 1, dtype=torch.bool, device=self.rgb.device)
        wanted[self.cells[patches.flatten()]] = True  # -1 is the last entry
        return wanted[:-1].nonzero()[:, 0]

    def state(self) -> dict[str, torch.Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def bytes(self) -> int:
        return sum(v.numel() * v.element_size() for v in self.state().values())


class Builder:
    """Collects samples one by one and joins them at the end.

    keep_all: keep all cells of a sample, not only those that belong to a patch.
    """

    def __init__(self, keep_all: bool = False):
        self.keep_all = keep_all
        self.parts: list[Mapping[str, torch.Tensor]] = []
        self.rows = 0

    def __len__(self) -> int:
        return len(self.parts)

    def add(self, sdf: torch.Tensor, rgb: torch.Tensor, cells: torch.Tensor) -> None:
        """sdf (P, F), rgb (G, C) and cells (P, G) bool of one sample; G = 0 without images."""
        kept = torch.ones_like(cells[0]) if self.keep_all else cells.any(dim=0)
        row_of = self.rows - 1 + kept.long().cumsum(0)  # (G,)
        self.parts.append({"sdf": sdf, "cells": _table(cells, row_of), "rgb": rgb[kept]})
        self.rows += int(kept.sum())

    def state(self) -> list[Mapping[str, torch.Tensor]]:
        return self.parts

    def restore(self, parts: list[Mapping[str, torch.Tensor]]) -> None:
        self.parts, self.rows = list(parts), sum(len(part["rgb"]) for part in parts)

    def join(self) -> Memory:
        """The memory of all samples; gives up the parts, so that features are not held twice."""
        widest = max(part["cells"].shape[1] for part in self.parts)
        cells = [F.pad(p["cells"], (0, widest - p["cells"].shape[1]), value=-1) for p in self.parts]
        owners = {
            name: torch.cat(
                [
                    torch.full((len(part[name]),), i, device=part[name].device)
                    for i, part in enumerate(self.parts)
                ]
            )
            for name in ("sdf", "rgb")
        }
        sdf = torch.cat([part.pop("sdf") for part in self.parts])
        rgb = torch.cat([part.pop("rgb") for part in self.parts])
        self.parts = []
        return Memory(sdf, owners["sdf"], torch.cat(cells), rgb, owners["rgb"])


def _table(cells, row_of):
    """bool (P, G) -> (P, E): row_of[cell] of each patch's cells, ascending, then -1."""
    place = cells.long().cumsum(1) - 1
    patch, cell = cells.nonzero(as_tuple=True)
    widest = int(cells.sum(1).max()) if cells.numel() else 0
    table = torch.full((len(cells), widest), -1, device=cells.device)
    table[patch, place[patch, cell]] = row_of[cell]
    return table
