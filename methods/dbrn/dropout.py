"""What is dropped in a pass through the reconstruction networks.

DBRN's dropped skips stay active at test time, so a test pass is random. Its random numbers come
from generators named by the sample, drawn on the CPU: a result depends neither on the batch nor
on the order, worker or device. methods/dbrn/README.md, section 4.2 and "Random at test time".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from methods.blocks.swin_unet import Drops
from methods.blocks.transfer import moved
from methods.dbrn.network import AllDrops
from methods.dbrn.settings import Dropout

PIECE = 1 << 15  # numbers that are drawn at once
ONE = 1 << 24  # of as many parts numbers in [0, 1) are in float32


def training_drops(
    net, batch: int, dropout: Dropout, generator: torch.Generator, skips: bool = True
) -> Drops:
    """What a training step drops, drawn on the CPU, as its generator is: which numbers of the skips
    are kept, without what they are multiplied by, and multipliers of the residual branches."""
    rates = net.path_rates
    uniform = torch.rand(len(rates), batch, generator=generator)
    paths = (uniform >= rates[:, None]) / (1 - rates[:, None]) if len(rates) else None
    if not skips:
        return Drops(None, paths)
    return Drops(
        [
            kept((batch, *shape), rate, generator)
            for shape, rate in zip(mask_shapes(net, dropout.type), dropout.rates)
        ],
        paths,
    )


def onto(drops: AllDrops, device: torch.device | str) -> AllDrops:
    """The same on a device, by one copy of each type."""
    ahead = (tensor for one in drops for tensor in (*(one.skips or ()), one.paths))
    there = iter(moved([tensor for tensor in ahead if tensor is not None], device))

    def part(one: Drops) -> Drops:
        skips = None if one.skips is None else [next(there) for _ in one.skips]
        return Drops(skips, None if one.paths is None else next(there))

    return AllDrops(*map(part, drops))


def multipliers(drops: AllDrops, dropout: Dropout) -> AllDrops:
    """What the skips are multiplied by where they are kept, for a step's networks."""

    def part(one: Drops) -> Drops:
        skips = [kept / (1 - rate) for kept, rate in zip(one.skips or (), dropout.rates)]
        return one._replace(skips=skips or None)

    return AllDrops(*map(part, drops))


def inference_drops(
    net, seeds: Sequence[Callable[[int], int]], dropout: Dropout, device: torch.device | str
) -> Drops:
    """Dropped skips of test samples. seeds: one a sample, giving the seed of skip k."""
    found = []
    for k, (shape, rate) in enumerate(zip(mask_shapes(net, dropout.type), dropout.rates)):
        rows = np.empty((len(seeds), *shape), bool)
        for row, seed in zip(rows, seeds):
            draw_kept(row.reshape(-1), rate, np.random.default_rng(seed(k)))
        found.append(torch.from_numpy(rows))
    return Drops([rows / (1 - rate) for rows, rate in zip(moved(found, device), dropout.rates)])


def mask_shapes(net, kind: str) -> list[tuple[int, int]]:
    """(L or 1, C or 1) of each skip: "token" drops all of its channels, "channel" all tokens."""
    return [
        (1 if kind == "channel" else L, 1 if kind == "token" else C) for L, C in net.skip_shapes
    ]


def kept(shape: tuple[int, ...], rate: float, generator: torch.Generator) -> torch.Tensor:
    """Where what torch.rand(shape) draws is not below the rate, bool.

    torch.rand makes a float of the low 24 bits of each of the generator's words. They are compared
    as they are, and asked for in pairs, of which the first is the high half: half as long as one by
    one. Drawn into the same memory again and again: to fill new memory takes longer than to draw.
    """
    found = np.empty(math.prod(shape), bool)
    pairs = torch.empty(min(PIECE, len(found)) // 2, dtype=torch.int64)
    words = pairs.numpy().view(np.uint32)
    in_pairs = len(found) // 2 * 2
    for start in range(0, in_pairs, PIECE):
        some = found[start : min(start + PIECE, in_pairs)]
        pairs[: len(some) // 2].random_(generator=generator)
        drawn = words[: len(some)]
        np.bitwise_and(drawn, np.uint32(ONE - 1), out=drawn)
        np.greater_equal(drawn, least(rate), out=some)
        some.view(np.uint16).byteswap(inplace=True)
    if in_pairs < len(found):
        found[-1] = torch.rand(1, generator=generator).numpy() >= np.float32(rate)
    return torch.from_numpy(found).view(shape)


def draw_kept(found: np.ndarray, rate: float, rng: np.random.Generator) -> None:
    """Where what rng.random(len(found), float32) draws is not below the rate, into bool `found`.

    NumPy makes a float of the high 24 bits of each word, of a pair the low half first.
    """
    for start in range(0, len(found), PIECE):
        some = found[start : start + PIECE]
        words = rng.integers(0, 1 << 64, -(-len(some) // 2), np.uint64).view(np.uint32)
        np.right_shift(words, np.uint32(8), out=words)
        np.greater_equal(words[: len(some)], least(rate), out=some)


def least(rate: float) -> np.uint32:
    """Of whole numbers below ONE, those from this one on are kept."""
    return np.uint32(math.ceil(float(np.float32(rate)) * ONE))
