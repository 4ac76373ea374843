"""A memory bank on an accelerator, where one large product costs less than choosing what to spare.

All rows are multiplied with all queries; the few whose products promise the least distance are
measured by direct differences, so that a query that equals a row has distance 0. A tree (blocks/
memory_bank) multiplies less, but looks at results a hundred times a search.

A nearest row is missed only where `FEW` others come within a product's rounding of it: by at most
2 * memory_bank.ERROR of |q - m|^2 + |b - m|^2 in the squared distance, m the mean of the rows.
"""

from __future__ import annotations

import torch

from methods.blocks.at_once import starts_fast
from methods.blocks.memory_bank import CROWD, ENTRIES, MemoryBank, Nearest

FEW = 8  # rows of a query that are measured, of those with the least products


def memory_bank(rows: torch.Tensor) -> MemoryBank:
    """Of rows (M, C), searched in the way that is fast where they are."""
    return MemoryBank(rows) if starts_fast(rows.device) else BankOfProducts(rows)


class BankOfProducts(MemoryBank):
    """rows (M, C) float32. Nothing here waits for a result."""

    def __init__(self, rows: torch.Tensor):
        self.rows, self.entries = rows, ENTRIES.within(rows.device, 4)
        self.middle = rows.mean(dim=0)
        parts = rows.split(self._at_once(rows.shape[1]))
        self.squared = torch.cat([(part - self.middle).square_().sum(dim=1) for part in parts])

    def nearest(self, queries: torch.Tensor) -> Nearest:
        """The nearest row of each query (Q, C); the first of equals."""
        parts = []
        for some in queries.split(self._at_once(FEW * queries.shape[1])):
            index = self._promising(some, FEW)
            distance, place = self.distances(some[:, None], index).min(dim=1, keepdim=True)
            parts.append((distance[:, 0], index.gather(1, place)[:, 0]))
        return Nearest(*(torch.cat(part) for part in zip(*parts)))

    def neighbours(self, query: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `count` nearest rows of one row or query (C,), nearest first."""
        index = self._promising(query[None], max(CROWD, count))[0]
        found = self.distances(query, index).sort(stable=True)  # the first of equals
        return found.values[:count], index[found.indices[:count]]

    def _promising(self, queries: torch.Tensor, count: int) -> torch.Tensor:
        """Rows (Q, count or M) with the least products, in ascending order."""
        moved = queries - self.middle
        at_once = self._at_once(max(len(moved), moved.shape[1]))
        least, index = [], []
        for start in range(0, len(self.rows), at_once):
            part = slice(start, start + at_once)
            rows = self.rows[part] - self.middle
            low = torch.addmm(self.squared[part][None], moved, rows.T, alpha=-2)  # less |q|^2
            found = low.topk(min(count, low.shape[1]), dim=1, largest=False)
            least.append(found.values)
            index.append(found.indices + start)
        least, index = torch.cat(least, dim=1), torch.cat(index, dim=1)
        if index.shape[1] > count:
            best = least.topk(count, dim=1, largest=False).indices
            index = index.gather(1, best)
        return index.sort(dim=1).values
