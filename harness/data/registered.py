"""Whether colour and depth show the same place at the same pixel, told from their edges.

A depth that was not mapped to colour has its size as often as not, and so has an image that was
mirrored or turned on export. Outlines of objects are edges in both, so where one of them has to be
moved, alike in all samples, for the edges to meet, the files do not fit. No sensor or scene is
known to this rule; what is symmetric, or shows no outlines, says nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from harness.data.oddities import Oddity
from harness.data.samples import Category, DataError, Sample
from harness.data.views.choice import spread

LOOKED_AT = 12  # training samples, at even distances
FEWEST = 3  # of them, for a judgement
SIDE = 128  # px, the longer side at which edges are compared
NEAR = 0.03  # of the longer side: so far edges may lie apart, by shadows and noise
FURTHEST = 0.25  # of each side, by which one is moved at most
EDGES = 98  # percentile from which edges are equally strong: one reflex is not all
SEEN = 0.05  # share of the pixels with depth, below which nothing is compared
MEETING = 0.25  # correlation from which edges are the same ones; made scenes have 0.6 to 0.9
BETTER = 1.2  # times the correlation as the files are
ALIKE = 0.8  # share of the samples in which it is better
WAYS = {
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
    "turned by 90 degrees": np.rot90,
    "turned by 270 degrees": lambda image: np.rot90(image, -1),
}


@dataclass(frozen=True)
class Misfit:
    """How colour has to be moved to fit depth."""

    way: str  # "" or one of WAYS
    rows: int  # px of the image, down
    columns: int  # px, to the right
    samples: int

    def __str__(self) -> str:
        if self.way:
            return self.way
        moves = (self.columns, ("right", "left")), (self.rows, ("down", "up"))
        return "shifted by " + " and ".join(f"{abs(n)} px {w[n < 0]}" for n, w in moves if n)


def of_category(category: Category) -> Iterator[Oddity]:
    """What some of the training samples say."""
    refs = category.list_split("train")[0]
    samples = []
    for ref in spread(refs, LOOKED_AT):
        with contextlib.suppress(DataError):  # told where all are opened
            samples.append(ref.load())
    if samples and (found := compare(samples)):
        yield Oddity(
            "colour_off_depth",
            refs[0].rgb,
            f"the edges of colour and depth do not meet: in {found.samples} training samples they "
            f"would, were the colour {found}",
            "map depth to colour when recording or exporting, or turn the one that is turned; look "
            f"at it: relief data show ROOT --split train --category {category.name}; if they "
            "fit, ignore this",
        )


def compare(samples: Sequence[Sample]) -> Misfit | None:
    size = samples[0].valid.shape
    found = [
        _correlations(_colour_edges(sample.rgb), _depth_edges(sample.xyz[..., 2]))
        for sample in samples
        if sample.valid.shape == size and sample.valid.mean() >= SEEN
    ]
    if len(found) < FEWEST:
        return None
    away = [_distances(n) for n in found[0][""].shape]
    near = _within(away, [NEAR * max(len(a) for a in away) / 2] * 2)
    far = _within(away, [FURTHEST * len(a) / 2 for a in away]) & ~near
    mean = {way: np.mean([one[way] for one in found], axis=0) for way in found[0]}
    best, way = max((float(m[far if not way else near].max()), way) for way, m in mean.items())
    if best < max(MEETING, BETTER * float(mean[""][near].max())):
        return None
    allowed = near if way else far
    place = np.unravel_index(np.where(allowed, mean[way], -1).argmax(), allowed.shape)
    better = np.mean([one[way][place] > one[""][near].max() for one in found])
    if better < ALIKE:
        return None
    step = _step(size)
    rows, columns = (int(p if p <= n // 2 else p - n) * step for p, n in zip(place, allowed.shape))
    return Misfit(way, rows, columns, len(found))


def _correlations(colour: np.ndarray, depth: np.ndarray) -> dict[str, np.ndarray]:
    """way -> (2H, 2W): of the edges, with colour moved down and right by so many px, circular."""
    height, width = depth.shape
    ways = {"": colour} | {way: turn(colour) for way, turn in WAYS.items()}
    norm = float(np.linalg.norm(colour) * np.linalg.norm(depth)) or 1.0
    size = (2 * height, 2 * width)
    there = np.fft.rfft2(depth, size)
    return {
        way: np.fft.irfft2(there * np.conj(np.fft.rfft2(turned, size)), size) / norm
        for way, turned in ways.items()
        if turned.shape == depth.shape
    }


def _colour_edges(rgb: np.ndarray) -> np.ndarray:
    step = _step(rgb.shape)
    height, width = (n // step * step for n in rgb.shape[:2])
    blocks = rgb[:height, :width].reshape(height // step, step, width // step, step, 3)
    image = ndimage.gaussian_filter(blocks.mean(axis=(1, 3), dtype=np.float32), (1, 1, 0))
    slopes = [ndimage.sobel(image, axis=axis) for axis in (0, 1)]
    return _even(np.sqrt(sum((slope**2).sum(axis=2) for slope in slopes)))


def _depth_edges(z: np.ndarray) -> np.ndarray:
    """Missing depth has that of the nearest pixel."""
    step = _step(z.shape)
    z = z[: z.shape[0] // step * step : step, : z.shape[1] // step * step : step]
    nearest = ndimage.distance_transform_edt(z == 0, return_distances=False, return_indices=True)
    smooth = ndimage.gaussian_filter(ndimage.median_filter(z[tuple(nearest)], 3), 1)
    slope = np.hypot(*(ndimage.sobel(smooth, axis=axis) for axis in (0, 1)))
    return _even(np.abs(slope - np.median(slope)))  # the table's own slope is no edge


def _even(edges: np.ndarray) -> np.ndarray:
    edges = np.minimum(edges, np.percentile(edges, EDGES))
    return edges - edges.mean()


def _step(shape: Sequence[int]) -> int:
    return -(-max(shape[:2]) // SIDE)


def _distances(n: int) -> np.ndarray:
    """Of the places of a circular correlation from its first."""
    return np.minimum(np.arange(n), n - np.arange(n))


def _within(away: Sequence[np.ndarray], most: Sequence[float]) -> np.ndarray:
    return (away[0][:, None] <= most[0]) & (away[1] <= most[1])
