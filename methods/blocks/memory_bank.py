"""Nearest rows of a memory bank, exactly, without all the distances; PatchCore's re-weighting.

Rotate so that most of what varies lies in a few leading directions. For q and b with leading
parts p and the lengths r of what is left of them,

    |q - b|^2 >= |p_q - p_b|^2 + (r_q - r_b)^2,

a product of the leading width + 2 instead of the full one. Rows are grouped into leaves of a k-d
tree over the first directions. The nearest leaves give a good candidate; only leaves whose box is
not farther are multiplied, and only rows whose bound is not larger are measured, by direct
differences. The published code multiplies everything with everything and then suffers from
cancellation where a query equals a row (methods/m3dm/README.md, section 7). This is the search of a
CPU; blocks/bank_of_products is that of accelerators.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from methods.blocks.at_once import AtOnce

STEP, WIDEST = 32, 384  # leading directions: multiples of, at most
LEFT = 3e-4  # of the variance; more directions get it below
SAMPLE = 4096  # rows they are found from; any choice is exact
BOX = 16  # directions that leaves are boxes of
LEAF = 512  # rows of a leaf, at most
FIRST = 2  # leaves that a first candidate is found in
ENTRIES = AtOnce(cpu=1 << 21, accelerator=1 << 27)  # numbers of a product held at once
ERROR = 4e-6  # of a float32 product, relative to |q|^2 + |b|^2
CROWD = 64  # candidates: one in so many rows; then multiply


class Nearest(NamedTuple):
    distance: torch.Tensor  # (Q,) float32
    index: torch.Tensor  # (Q,) int64


def distinct(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of rows (N, C) that differ, and for each row (N,) which of them it equals.

    rows[some][which] is rows. Equal rows can rarely stay apart, where others share the number
    they are sorted by.
    """
    key, order = rows[:, 0].sort(stable=True)
    maybe = (key[1:] == key[:-1]).nonzero()[:, 0]
    first = torch.ones_like(key, dtype=torch.bool)
    first[maybe + 1] = (rows[order[maybe + 1]] != rows[order[maybe]]).any(dim=1)
    which = torch.empty_like(order)
    which[order] = first.cumsum(0) - 1
    return order[first], which


def _width(variances: torch.Tensor) -> int:
    """How many of the directions the bound looks at, from their rising variances (C,)."""
    C = len(variances)
    left = variances.clamp(min=0).cumsum(0)
    few = int((left > LEFT * left[-1]).sum())
    return min(-(-few // STEP) * STEP, max(STEP, C // 3), WIDEST, C)


def _leaves(points: torch.Tensor, most: int) -> list[torch.Tensor]:
    """Indices of points (N, d) in groups of at most `most`, split where they spread widest."""
    groups, leaves = [torch.arange(len(points))], []
    while groups:
        group = groups.pop()
        if len(group) <= most:
            leaves.append(group)
            continue
        x = points[group]
        order = x[:, (x.amax(dim=0) - x.amin(dim=0)).argmax()].argsort(stable=True)
        groups += group[order].tensor_split(2)
    return leaves


class MemoryBank:
    """rows (M, C) float32, on the host. The index is made from the rows alone and never saved."""

    def __init__(self, rows: torch.Tensor):
        self.rows, self.entries = rows, ENTRIES.within(rows.device, 4)
        self.middle = rows.mean(dim=0)
        sample = rows[:: max(1, len(rows) // SAMPLE)] - self.middle
        values, vectors = torch.linalg.eigh((sample.T @ sample).double())
        self.basis = vectors.flip(1)[:, : _width(values)].float()  # (C, k)
        parts = rows.split(self._at_once(rows.shape[1]))
        leading, squared = zip(*(self._leading(part) for part in parts))
        leading, self.squared = torch.cat(leading), torch.cat(squared)
        left = (self.squared - leading.square().sum(dim=1)).clamp_(min=0).sqrt_()
        index = torch.cat([leading, left[:, None], self.squared[:, None]], dim=1)
        box = leading[:, :BOX]
        self.leaves = _leaves(box, LEAF)
        self.blocks = [index[leaf].T.contiguous() for leaf in self.leaves]  # (k + 2, m) each
        self.low = torch.stack([box[leaf].amin(dim=0) for leaf in self.leaves])  # (L, BOX)
        self.high = torch.stack([box[leaf].amax(dim=0) for leaf in self.leaves])

    def __len__(self) -> int:
        return len(self.rows)

    def _at_once(self, width: int) -> int:
        return max(1, self.entries // width)

    def _leading(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (N, C) -> its leading part (N, k) and the square of its length, about the middle."""
        x = x - self.middle
        return x @ self.basis, x.square().sum(dim=1)

    def _wide(self, leading: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """(Q, k + 2): times a block it is the bound on |q - b|^2, less |q|^2."""
        left = (squared - leading.square().sum(dim=1)).clamp_(min=0).sqrt_()
        return torch.cat([-2 * leading, -2 * left[:, None], torch.ones_like(left)[:, None]], dim=1)

    def _box_distance(self, leading: torch.Tensor) -> torch.Tensor:
        """Squared distances (Q, L) to the boxes of the leaves."""
        total = leading.new_zeros(len(leading), len(self.leaves))
        for x, low, high in zip(leading[:, :BOX].T, self.low.T, self.high.T):
            outside = torch.maximum(low - x[:, None], x[:, None] - high)
            total += outside.clamp_(min=0).square_()
        return total

    def nearest(self, queries: torch.Tensor) -> Nearest:
        """The nearest row of each query (Q, C); the first of equals.

        Equal queries, such as patches without a point, are searched once.
        """
        some, which = distinct(queries)
        at_once = self._at_once(LEAF)
        found = [self._search(q) for q in queries[some].split(at_once)]
        distance, index = (torch.cat(part) for part in zip(*found))
        return Nearest(distance[which], index[which])

    def _search(self, q: torch.Tensor) -> Nearest:
        leading, squared = self._leading(q)
        wide, box = self._wide(leading, squared), self._box_distance(leading)
        distance, best = self._candidates(q, wide, box)
        # All rows whose bound lies within the distance; the slack allows for rounding of products.
        slack = ERROR * (squared + self.squared.max())
        reach = distance.square() + slack
        query, row, value = [], [], []  # candidates, and their bound or square - |q|^2
        for i, leaf in enumerate(self.leaves):
            some = (box[:, i] <= reach + slack).nonzero()[:, 0]
            if not len(some):
                continue
            low = wide[some] @ self.blocks[i]
            at, column = (low <= (reach - squared)[some, None]).nonzero(as_tuple=True)
            count = torch.bincount(at, minlength=len(some))
            crowded = count > max(1, len(leaf) // CROWD)
            if int(count[crowded].sum()) > 2 * len(leaf):
                few, crowd = ~crowded[at], some[crowded]
                at, column = at[few], column[few]
                near, there, close = self._nearly(q[crowd], leaf)
                query.append(crowd[near])
                row.append(leaf[there])
                value.append(close - squared[crowd][near])
            query.append(some[at])
            row.append(leaf[column])
            value.append(low[at, column])
        query, row, value = torch.cat(query), torch.cat(row), torch.cat(value)
        # The most promising of each query first, then those that its distance does not rule out.
        most = torch.full_like(distance, torch.inf).scatter_reduce_(0, query, value, "amin")
        exact = torch.full_like(value, torch.inf)
        for _ in range(2):
            now = ((value <= most[query]) & exact.isinf()).nonzero()[:, 0]
            for some in now.split(self._at_once(q.shape[1])):
                exact[some] = self.distances(q[query[some]], row[some])
            distance = distance.scatter_reduce(0, query, exact, "amin")
            most = distance.square() + slack - squared
        hit = exact == distance[query]
        first = torch.full_like(best, len(self.rows))
        first.scatter_reduce_(0, query[hit], row[hit], "amin")
        return Nearest(distance, torch.where(first < len(self.rows), first, best))

    def _candidates(self, q, wide, box) -> tuple[torch.Tensor, torch.Tensor]:
        """A row near each query, by the bound in its nearest leaves: distance and index (Q,)"""
        least = q.new_full((len(q),), torch.inf)
        best = torch.zeros(len(q), dtype=torch.long)
        for near in box.topk(min(FIRST, len(self.leaves)), largest=False).indices.T:
            for i in near.unique().tolist():
                some = (near == i).nonzero()[:, 0]
                low, column = (wide[some] @ self.blocks[i]).min(dim=1)
                better = low < least[some]
                some = some[better]
                least[some], best[some] = low[better], self.leaves[i][column[better]]
        return self.distances(q, best), best

    def _nearly(self, q, leaf) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs that may be nearest in the leaf: query, place in it, square of the distance.

        By full products, measured from a row of the leaf, where little cancels.
        """
        rows = self.rows[leaf]
        centre = rows[0].clone()
        rows, q = rows.sub_(centre), q - centre
        own = rows.norm(dim=1).square()
        low = torch.addmm(own[None], q, rows.T, alpha=-2)
        squared = q.norm(dim=1).square()
        slack = 2 * ERROR * (squared + own.max())
        near, there = (low <= (low.amin(dim=1) + slack)[:, None]).nonzero(as_tuple=True)
        return near, there, low[near, there] + squared[near]

    def distances(self, q: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Of queries to the rows at `index`, by direct differences."""
        return (q - self.rows[index]).norm(dim=-1)

    def neighbours(self, query: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `count` nearest rows of one row or query (C,), nearest first."""
        count = min(count, len(self.rows))
        leading, squared = self._leading(query[None])
        wide = self._wide(leading, squared)[0]
        rows, low = torch.cat(self.leaves), torch.cat([wide @ block for block in self.blocks])
        some = low.topk(min(max(CROWD, count), len(low)), largest=False).indices
        reach = self._of_one(query, rows[some]).topk(count, largest=False).values[-1]
        slack = 2 * ERROR * (squared + self.squared.max())
        rows = rows[low <= reach.square() - squared + slack].sort().values
        found = self._of_one(query, rows).sort(stable=True)  # the first of equals
        return found.values[:count], rows[found.indices[:count]]

    def _of_one(self, query: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Of one query (C,) to the rows at `index`."""
        parts = index.split(self._at_once(self.rows.shape[1]))
        return torch.cat([self.distances(query, part) for part in parts])


def reweighted_score(
    bank: MemoryBank,
    patches: torch.Tensor,
    nearest: Nearest,
    neighbours: int = 3,
    eps: float = 0.0,
    divisor: float = 1.0,
) -> torch.Tensor:
    """PatchCore's image score from patches (P, C) and their nearest rows, as BTF and M3DM code it.

    The largest distance s, times 1 - exp(s / sqrt C) / (sum exp(d_i / sqrt C) + eps), where d_i
    are the distances of that patch to the rows next to its nearest row, that row left out.
    divisor: of all these distances (1000 in M3DM's two-bank method).
    """
    worst = nearest.distance.argmax(keepdim=True)  # as an index of one, which nothing waits for
    s = nearest.distance[worst][0] / divisor
    _, index = bank.neighbours(bank.rows[nearest.index[worst]][0], neighbours)
    around = bank.distances(patches[worst][0], index[1:]) / divisor
    root = patches.shape[1] ** 0.5
    return (1 - torch.exp(s / root) / (torch.exp(around / root).sum() + eps)) * s
