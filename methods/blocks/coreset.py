"""Greedy coresets (PatchCore): rows each farthest from those chosen before, exactly and fast.

The published loop reads all N rows to add one. Distances to the chosen rows only ever shrink, so
the rows that are farthest now can be tried against each other first: while the best of them stays
ahead of every other row, it is the next choice, whatever the others' new distances are. All
choices of such a round then meet all rows in one matrix product. Products only say which
distances may have shrunk; those few are computed by direct differences, so the chosen rows are
those of the published loop, in float32 or in its float16 arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim

from methods.blocks.at_once import AtOnce

ENTRIES = AtOnce(cpu=1 << 20, accelerator=1 << 27)  # numbers of a matrix product held at once
MIN_TRIED, MAX_TRIED = 32, 1024  # rows tried against each other in a round
PRODUCT_ERROR = 4e-6  # of |a|^2 + |b|^2 - 2ab over |a|^2 + |b|^2, float32
HALF_ERROR = 4e-3  # relative, of a float16 distance's square


def projection_matrix(rows: int, channels: int, eps: float, seed: int) -> np.ndarray | None:
    """Sparse random projection (k, channels) that keeps distances of `rows` rows within eps.

    k by Johnson and Lindenstrauss; None where that is more than there are channels: the
    published code then goes on without a projection.
    """
    wanted = int(johnson_lindenstrauss_min_dim(rows, eps=eps))
    if wanted > channels:
        return None
    projection = SparseRandomProjection(wanted, random_state=np.random.RandomState(seed % 2**32))
    projection.fit(np.zeros((1, channels), np.float32))
    return projection.components_.toarray().astype(np.float32)


def greedy_coreset(
    z: torch.Tensor,
    count: int,
    dtype: str = "float32",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Indices (count,) of rows of z (N, D), float32: row 0, then always the farthest row.

    dtype "float16" repeats the published arithmetic: halved differences, summed in float32, and
    a distance rounded to half. The first of equally far rows is taken.
    """
    if not 0 < count <= len(z):
        raise ValueError(f"a coreset of {count} rows out of {len(z)} is not possible")
    half = dtype == "float16"
    far = _distance(z, z[:1], half=False)
    if half:
        z = z.half().float()
        far = far.half().float()
    state = _Distances(z, far, half)
    state.update(torch.zeros(1, dtype=torch.long, device=z.device))
    chosen, tried = [0], 2 * MIN_TRIED
    while len(chosen) < count:
        new = state.next_choices(min(tried, len(z)), count - len(chosen))
        tried = min(max(tried * 2 if 2 * len(new) > tried else 4 * len(new), MIN_TRIED), MAX_TRIED)
        chosen += new
        if len(chosen) < count:
            state.update(torch.tensor(new, device=z.device))
        report(len(chosen), count)
    return torch.tensor(chosen, device=z.device)


def _distance(a: torch.Tensor, b: torch.Tensor, half: bool) -> torch.Tensor:
    """|a - b| along the last axis; `half`: as float16 tensors have it, held in float32."""
    difference = a - b
    if half:
        difference = difference.half().float()
    distance = difference.square_().sum(dim=-1).sqrt_()
    return distance.half().float() if half else distance


class _Distances:
    """Of every row to the nearest chosen one; chosen rows have 0."""

    def __init__(self, z: torch.Tensor, far: torch.Tensor, half: bool):
        self.z, self.far, self.half = z, far, half
        self.at_once = ENTRIES.within(z.device, 4)
        self.middle = z.mean(dim=0)
        self.squared = torch.cat([(rows - self.middle).square().sum(1) for rows in z.split(65536)])

    def next_choices(self, tried: int, most: int) -> list[int]:
        """The next choices in order, as many as a look at the `tried` farthest rows can tell."""
        bound = self.far.topk(tried).values[-1]
        above = (self.far > bound).nonzero()[:, 0]
        equal = (self.far == bound).nonzero()[:, 0]
        rows = torch.cat([above, equal[: tried - len(above)]]).sort().values
        left = equal[tried - len(above) :]
        first_left = int(left[0]) if len(left) else len(self.z)
        z = self.z[rows]
        between = torch.stack([_distance(z, row, self.half) for row in z]).cpu().numpy()
        index, far, bound = rows.tolist(), self.far[rows].cpu().numpy(), float(bound)
        chosen = []
        while len(chosen) < most:
            best = int(far.argmax())  # the first of equals
            if far[best] < bound or (far[best] == bound and index[best] > first_left):
                break
            chosen.append(index[best])
            # The published loop zeroes the choice before it takes the minimum with its distances.
            far[best] = 0
            np.minimum(far, between[best], out=far)
        return chosen

    def update(self, chosen: torch.Tensor) -> None:
        """Take the minimum with the distances to the chosen rows."""
        centres = self.z[chosen]
        moved = centres - self.middle
        rows_at_once = max(1, self.at_once // max(len(chosen), self.z.shape[1]))
        slack = HALF_ERROR if self.half else 0.0
        error = PRODUCT_ERROR * self.squared[chosen]
        for start in range(0, len(self.z), rows_at_once):
            part = slice(start, start + rows_at_once)
            z, far = self.z[part], self.far[part]
            own = self.squared[part]
            # A lower bound of the squared distances less the row's own square: (rows, centres)
            less = (self.squared[chosen] - error)[None]
            low = torch.addmm(less, z - self.middle, moved.T, alpha=-2)
            most = far.square() * (1 + slack) - own * (1 - PRODUCT_ERROR)
            row, centre = (low <= most[:, None]).nonzero(as_tuple=True)
            for some in torch.arange(len(row), device=z.device).split(rows_at_once):
                exact = _distance(z[row[some]], centres[centre[some]], self.half)
                far.scatter_reduce_(0, row[some], exact, "amin")
        self.far[chosen] = 0
