"""Shape-guided inference: neighbours, sparse codes, maps.

All queries of a sample are handled together, by matrix products and batched solves
(methods/shape_guided/README.md, section 5).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from methods.blocks.at_once import AtOnce

ENTRIES = AtOnce(cpu=2**24, accelerator=2**28)  # distances held at once


def nearest_rows(
    queries: torch.Tensor, bank: torch.Tensor, k: int, excluded: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the bank nearest to each query.

    queries (Q, d), bank (M, d), excluded: bool (M,) rows left out -> rows (Q, k) and distances
    (Q, k), ascending, with fewer columns where the bank has fewer rows.

    By matrix products, as published: they lose digits where |x - d| is small beside |x|, which
    decides between neighbours almost as far, so exact distances would give other scores.
    """
    wanted = min(k, len(bank) if excluded is None else len(bank) - int(excluded.sum()))
    if wanted == 0:
        raise ValueError("the memory bank has no row to compare with")
    step = max(k, ENTRIES.on(bank.device) // max(1, len(queries)))
    best, rows = [], []
    for start in range(0, len(bank), step):
        distances = torch.cdist(queries, bank[start : start + step])
        if excluded is not None:
            distances.masked_fill_(excluded[start : start + step], torch.inf)
        found = distances.topk(min(wanted, distances.shape[1]), dim=1, largest=False)
        best.append(found.values)
        rows.append(found.indices + start)
    if len(best) == 1:
        return rows[0], best[0]
    found = torch.cat(best, dim=1).topk(wanted, dim=1, largest=False)
    return torch.cat(rows, dim=1).gather(1, found.indices), found.values


def sparse_code(queries: torch.Tensor, atoms: torch.Tensor, count: int = 3) -> torch.Tensor:
    """Orthogonal matching pursuit: code (Q, n), float64, with at most `count` non-zeros.

    queries (Q, d), atoms (Q, n, d), used as they are: not of unit length. Like scikit-learn's
    (which the authors call), a query's pursuit ends early where the next atom is chosen already,
    its product with the rest is too small, or it depends on those chosen.
    """
    D = atoms.double()
    G = D @ D.transpose(1, 2)  # (Q, n, n)
    b = (D @ queries.double()[..., None])[..., 0]  # (Q, n)
    Q, n = b.shape
    eps = torch.finfo(torch.float64).eps
    alpha, going = b, torch.ones(Q, dtype=torch.bool, device=b.device)
    code, row = torch.zeros_like(b), torch.arange(Q, device=b.device)
    chosen = torch.zeros(Q, 0, dtype=torch.long, device=b.device)
    used = torch.zeros_like(chosen, dtype=torch.bool)
    L = b.new_zeros(Q, 0, 0)
    for s in range(min(count, n)):
        j = alpha.abs().argmax(dim=1)  # (Q,)
        going = going & ~(chosen == j[:, None]).any(dim=1) & (alpha[row, j] ** 2 >= eps)
        cross = G[row[:, None], chosen, j[:, None]]  # (Q, s)
        w = torch.linalg.solve_triangular(L, cross[..., None], upper=False)[..., 0]
        schur = G[row, j, j] - w.square().sum(dim=1)
        if s:
            going = going & (schur > eps)
        # A query that has ended gets a row of the identity and a zero on the right.
        L = F.pad(L, (0, 1, 0, 1))
        L[:, s, :s] = torch.where(going[:, None], w, 0)
        L[:, s, s] = torch.where(going, schur.clamp(min=eps).sqrt(), 1)
        chosen = torch.cat([chosen, j[:, None]], dim=1)
        right = b.gather(1, chosen)
        used = torch.cat([used, going[:, None]], dim=1)
        gamma = torch.cholesky_solve(torch.where(used, right, 0)[..., None], L)[..., 0]
        gamma = torch.where(used, gamma, 0)  # (Q, s + 1)
        code = torch.zeros_like(b).scatter_add_(1, chosen, gamma)
        alpha = b - (G @ code[..., None])[..., 0]
    return code


def reconstruct(
    queries: torch.Tensor, atoms: torch.Tensor, kind: str = "omp", count: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the atoms (Q, n, d), nearest first, make of queries (Q, d), and how far off that is.

    kind: "omp", a sparse code, or "nn", the first atom -> (Q, d), distances (Q,)
    """
    if kind == "nn":
        made = atoms[:, 0]
    else:
        code = sparse_code(queries, atoms, count).to(atoms.dtype)
        made = (code[:, None] @ atoms)[:, 0]
    return made, (queries - made).norm(dim=1)


def sdf_map(
    distances: torch.Tensor, pixels: torch.Tensor, size: int, overlap: str = "min"
) -> torch.Tensor:
    """(size, size) map of unsigned distances (P, K) at pixel ids (P, K); 0 where no patch is.

    A pixel in several patches gets the least, or the mean, of its distances.
    """
    values, ids = distances.abs().flatten(), pixels.flatten()
    if overlap == "mean":
        # Summed in float64, the order in which a GPU adds them does not show.
        total = torch.bincount(ids, values.double(), minlength=size * size)
        count = torch.bincount(ids, minlength=size * size)
        return (total / count.clamp(min=1)).float().view(size, size)
    least = values.new_full((size * size,), torch.inf).scatter_reduce_(0, ids, values, "amin")
    return torch.where(least.isinf(), 0, least).view(size, size)


def alignment(rgb: torch.Tensor, sdf: torch.Tensor) -> tuple[float, float]:
    """a, b so that a * rgb + b has the mean and deviation of sdf; zeros count in neither."""
    rgb, sdf = rgb[rgb != 0].double(), sdf[sdf != 0].double()
    if len(rgb) == 0 or len(sdf) == 0 or rgb.std(correction=0) == 0:
        raise ValueError(
            f"cannot align scores: {len(rgb)} RGB and {len(sdf)} SDF scores are not zero, or the "
            "RGB scores are all alike; are the training images empty or all the same?"
        )
    a = sdf.std(correction=0) / rgb.std(correction=0)
    return a.item(), (sdf.mean() - a * rgb.mean()).item()


def aligned(rgb: torch.Tensor, a: float, b: float, clip: bool = True) -> torch.Tensor:
    moved = a * rgb + b
    return moved.clamp(min=0) if clip else moved
