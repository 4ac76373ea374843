"""Nearest rows of a memory bank, exactly, without all the distances; PatchCore's re-weighting.

Rotate so that most of what varies lies in a few leading directions. For q and b with leading
parts p and the lengths r of what is left of them,

    |q - b|^2 >= |p_q - p_b|^2 + (r_q - r_b)^2,

a product of the leading width + 2 instead of the full one. Only rows whose bound does not exceed
the distance to one good candidate can be nearer; these few are measured by direct differences. The
published code multiplies everything with everything and then suffers from cancellation where a
query equals a row (specs/m3dm.md section 9.2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

STEP, LARGEST = 32, 3                          # leading directions: multiples of, share 1 / of C
LEFT = 0.002                                   # of the variance; more directions get it below
SAMPLE = 4096                                  # rows they are found from; any choice is exact
ENTRIES = {"cpu": 1 << 21, "cuda": 1 << 27}    # numbers of a product held at once
ERROR = 4e-6                                   # of a float32 product, relative to |q|^2 + |b|^2
CROWD = 64                                     # candidates, or one in so many rows: then multiply


class Nearest(NamedTuple):
    distance: torch.Tensor    # (Q,) float32
    index: torch.Tensor       # (Q,) int64


def distinct_runs(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First rows (N,) bool of runs of equal rows, and the run each row is in (N,).

    rows[first][run] is rows.
    """
    first = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    first[1:] = (rows[1:] != rows[:-1]).any(dim=1)
    return first, first.cumsum(0) - 1


def _width(variances: torch.Tensor) -> int:
    """How many of the directions the bound looks at, from their rising variances (C,)."""
    C = len(variances)
    left = variances.clamp(min=0).cumsum(0)
    few = int((left > LEFT * left[-1]).sum())
    return min(-(-few // STEP) * STEP, max(STEP, C // LARGEST), C)


class MemoryBank:
    """rows (M, C) float32. The index is made from the rows alone and never saved."""

    def __init__(self, rows: torch.Tensor):
        self.rows = rows
        self.middle = rows.mean(dim=0)
        sample = rows[:: max(1, len(rows) // SAMPLE)] - self.middle
        values, vectors = torch.linalg.eigh((sample.T @ sample).double())
        self.basis = vectors[:, -_width(values) :].float()               # (C, k)
        parts = rows.split(self._at_once(rows.shape[1]))
        leading, squared = zip(*(self._leading(part) for part in parts))
        leading, self.squared = torch.cat(leading), torch.cat(squared)
        left = (self.squared - leading.square().sum(dim=1)).clamp_(min=0).sqrt_()
        self.index = torch.cat([leading, left[:, None], self.squared[:, None]], dim=1).T
        self.index = self.index.contiguous()                             # (k + 2, M)

    def __len__(self) -> int:
        return len(self.rows)

    def _at_once(self, width: int) -> int:
        return max(1, ENTRIES[self.rows.device.type] // width)

    def _leading(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (N, C) -> its leading part (N, k) and the square of its length, about the middle."""
        x = x - self.middle
        return x @ self.basis, x.square().sum(dim=1)

    def _wide(self, leading: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """(Q, k + 2): times the index it is the bound on |q - b|^2, less |q|^2."""
        left = (squared - leading.square().sum(dim=1)).clamp_(min=0).sqrt_()
        return torch.cat([-2 * leading, -2 * left[:, None], torch.ones_like(left)[:, None]], dim=1)

    def nearest(self, queries: torch.Tensor) -> Nearest:
        """The nearest row of each query (Q, C).

        Equal neighbours, such as patches without a point, are searched once.
        """
        fresh, run = distinct_runs(queries)
        found = [self._search(q) for q in queries[fresh].split(self._at_once(2048))]
        distance, index = (torch.cat(part) for part in zip(*found))
        return Nearest(distance[run], index[run])

    def _search(self, q: torch.Tensor) -> Nearest:
        leading, squared = self._leading(q)
        wide = self._wide(leading, squared)
        width = max(1, self._at_once(len(q)))
        blocks = self.index.split(width, dim=1)
        lows = torch.stack([(wide @ block).amin(dim=1) for block in blocks], dim=1)
        best = torch.zeros(len(q), dtype=torch.long, device=q.device)
        home = lows.argmin(dim=1)
        for i, block in enumerate(blocks):
            some = (home == i).nonzero()[:, 0]
            best[some] = (wide[some] @ block).argmin(dim=1) + i * width
        distance = self._direct(q, best)
        # All rows whose bound lies within the distance; ERROR allows for rounding of the bound.
        slack = ERROR * (squared + self.squared.max())
        limit = distance.square() - squared + slack
        query, row = [], []
        for i, block in enumerate(blocks):
            some = (lows[:, i] <= limit + slack).nonzero()[:, 0]
            at, column = (wide[some] @ block <= limit[some, None]).nonzero(as_tuple=True)
            query.append(some[at])
            row.append(column + i * width)
        return self._refine(q, torch.cat(query), torch.cat(row), distance, best)

    def _refine(self, q, query, row, distance, best) -> Nearest:
        """Measure the candidates (query, row); crowds of them by a product over the bank."""
        crowded = torch.bincount(query, minlength=len(q)) > max(CROWD, len(self.rows) // CROWD)
        few = ~crowded[query]
        query, row = query[few], row[few]
        if crowded.any():
            some = crowded.nonzero()[:, 0]
            at = self._by_product(q[some])
            query, row = torch.cat([query, some]), torch.cat([row, at])
        steps = torch.arange(len(query), device=q.device).split(self._at_once(q.shape[1]))
        exact = torch.cat([(q[query[s]] - self.rows[row[s]]).norm(dim=1) for s in steps])
        distance = distance.scatter_reduce(0, query, exact, "amin")
        hit = exact == distance[query]                                   # the first of equals
        best = torch.full_like(best, len(self.rows))
        best = best.scatter_reduce_(0, query[hit], row[hit], "amin")
        return Nearest(distance, best)

    def _by_product(self, q: torch.Tensor) -> torch.Tensor:
        low = q.new_full((len(q),), torch.inf)
        best = torch.zeros(len(q), dtype=torch.long, device=q.device)
        moved, start = -2 * (q - self.middle), 0
        width = self._at_once(len(q))
        for rows, squared in zip(self.rows.split(width), self.squared.split(width)):
            least, at = torch.addmm(squared[None], moved, (rows - self.middle).T).min(dim=1)
            best = torch.where(least < low, at + start, best)
            low = torch.minimum(least, low)
            start += len(rows)
        return best

    def _direct(self, q: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return (q - self.rows[index]).norm(dim=1)

    def neighbours(self, query: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `count` nearest rows of one row or query (C,), nearest first."""
        count = min(count, len(self.rows))
        leading, squared = self._leading(query[None])
        wide = self._wide(leading, squared)[0]
        low = wide @ self.index                                          # (M,)
        some = low.topk(min(max(CROWD, count), len(low)), largest=False).indices
        reach = self._distances(query, some).topk(count, largest=False).values[-1]
        slack = 2 * ERROR * (squared + self.squared.max())
        some = (low <= reach.square() - squared + slack).nonzero()[:, 0]
        found = self._distances(query, some).sort(stable=True)           # the first of equals
        return found.values[:count], some[found.indices[:count]]

    def _distances(self, query: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Of one query (C,) to the rows at `index`."""
        parts = index.split(self._at_once(self.rows.shape[1]))
        return torch.cat([(self.rows[part] - query).norm(dim=1) for part in parts])


def reweighted_score(
    bank: MemoryBank, patches: torch.Tensor, nearest: Nearest, neighbours: int = 3,
    eps: float = 0.0, divisor: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """PatchCore's image score from patches (P, C) and their nearest rows, as BTF and M3DM code it.

    The largest distance s, times 1 - exp(s / sqrt C) / (sum exp(d_i / sqrt C) + eps), where d_i
    are the distances of that patch to the rows next to its nearest row, that row left out.
    divisor: of all these distances (1000 in M3DM's two-bank method).
    """
    worst = nearest.distance.argmax()
    s = nearest.distance[worst] / divisor
    _, index = bank.neighbours(bank.rows[nearest.index[worst]], neighbours)
    around = bank._direct(patches[worst], index[1:]) / divisor
    root = patches.shape[1] ** 0.5
    return (1 - torch.exp(s / root) / (torch.exp(around / root).sum() + eps)) * s
