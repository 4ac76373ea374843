"""What masks of defects give away of being another image's, outlines, or not what was drawn."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from harness.data.images import traces
from harness.data.oddities import MOST_DEFECT, Oddity
from harness.data.resize import nearest
from harness.data.samples import Ref
from harness.data.views.quality import LEAST_FOREGROUND, standing
from harness.data.views.reference import GRID, Reference

if TYPE_CHECKING:
    from harness.data.plausible import Seen

LARGER = 20.0  # times the median share of the masks
DARK = 0.05  # share of a mask's marked pixels
SIDE = 160  # px at which outlines are looked at
HOLLOW = 0.5  # share of what a mask encloses that it does not mark, from which it is an outline
FRAME = 0.9  # share of the image's outermost pixels that are marked
FEWEST_PX = 4  # a defect has so many pixels
BESIDE = 4  # of GRID: so far from the object what is marked is of it, as a piece that broke off
MOST_REGION = 0.99  # share of the image that an object's own mask covers
LEAST_COVERED = 0.2  # share of what stands on a plane
ON_OBJECT = 0.1  # share of a mask that is at the object


@dataclass(frozen=True)
class Marks:
    """What is kept of a mask that marks something."""

    pixels: int
    share: float  # of the image
    digest: bytes
    box: bool  # a rectangle
    hollow: float  # share of what it encloses and does not mark
    frame: float  # share of the outermost pixels that it marks
    at_object: float | None  # share of it at what stands on a certain plane; None: there is none


def marks(mask: np.ndarray, reference: Reference) -> Marks | None:
    """mask (H, W) bool"""
    if not mask.any():
        return None
    step = -(-max(mask.shape) // SIDE)
    coarse = np.maximum.reduceat(
        np.maximum.reduceat(mask, np.arange(0, mask.shape[0], step), axis=0),
        np.arange(0, mask.shape[1], step),
        axis=1,
    )
    filled = ndimage.binary_fill_holes(coarse)
    outermost = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return Marks(
        int(mask.sum()),
        float(mask.mean()),
        hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16).digest(),
        bool(mask[np.ix_(mask.any(axis=1), mask.any(axis=0))].all()),
        1 - float(coarse.sum()) / float(filled.sum()),
        float(outermost.mean()),
        _at_object(mask, reference),
    )


def _at_object(mask: np.ndarray, reference: Reference) -> float | None:
    if (there := standing(reference)) is None:
        return None
    near = ndimage.binary_dilation(there, iterations=BESIDE)
    near = ndimage.binary_fill_holes(near)
    here = nearest(mask, GRID)
    return float(near[here].mean()) if here.any() else None


@dataclass(frozen=True)
class Region:
    """What is kept of an object's own mask."""

    share: float  # of the image
    of_object: float | None  # share of what stands on a certain plane that it covers


def region(mask: np.ndarray | None, reference: Reference) -> Region | None:
    """mask (H, W) bool"""
    if mask is None:
        return None
    there = standing(reference)
    covered = None if there is None else float(nearest(mask, GRID)[there].mean())
    return Region(float(mask.mean()), covered)


def of_regions(seen: Sequence[Seen]) -> Iterator[Oddity]:
    """Masks of objects that leave the object out, or nothing."""
    for one in seen:
        if one.region is None or one.region.share == 0:  # the last is told
            continue
        share, of_object = one.region.share, one.region.of_object
        if share > MOST_REGION:
            problem = "the mask of its object covers all of the image"
        elif share < LEAST_FOREGROUND:
            problem = f"the mask of its object covers {share:.2%} of the image"
        elif of_object is not None and of_object < LEAST_COVERED:
            problem = f"the mask of its object covers {of_object:.0%} of what stands on the plane"
        else:
            continue
        yield Oddity(
            "odd_region",
            one.ref.rgb,
            problem,
            "is it inverted, or another's? Draw it above 0 where the object is, or remove mask/",
        )


def of_traces(ref: Ref) -> Iterator[Oddity]:
    """A mask that marks more than was drawn: it went through JPEG, or its edges are soft."""
    share = traces(ref.gt) if ref.gt else 0.0
    if share > DARK:
        yield Oddity(
            "mask_of_shades",
            ref.gt or ref.rgb,
            f"{share:.0%} of what it marks are dark shades, as JPEG and soft edges leave them",
            "all above 0 counts: write 255 where it is above 127, and 0 elsewhere, as "
            "--fix NEW does",
        )


def of_masks(seen: Sequence[Seen], on_plane: bool) -> Iterator[Oddity]:
    """What the masks of a category say. on_plane: whether what stands on a plane is the object."""
    found = [(one.ref, one.marks) for one in seen if one.marks and one.ref.gt]
    usual = float(np.median([mark.share for _, mark in found])) if found else 0.0
    for ref, mark in found:
        for code, problem, todo in _of_mask(mark, usual, on_plane):
            yield Oddity(code, ref.gt or ref.rgb, problem, todo)
    yield from _repeated(found)


def _of_mask(mark: Marks, usual: float, on_plane: bool) -> Iterator[tuple[str, str, str]]:
    inverted = "is the mask inverted? Defects are above 0, the rest is 0"
    if max(LARGER * usual, 0.1) < mark.share <= MOST_DEFECT:  # above: told
        yield (
            "mask_unlike_others",
            f"{mark.share:.0%} of the image are marked as defect, {usual:.1%} in the median",
            inverted,
        )
    elif mark.frame > FRAME and mark.share <= MOST_DEFECT:
        yield (
            "mask_of_frame",
            "it marks the frame of the image",
            "was a border drawn or cut? Write 0 there",
        )
    elif mark.hollow > HOLLOW:
        yield (
            "mask_hollow",
            "it marks an outline, and nothing of what lies within",
            "fill it: pixels within count as normal",
        )
    if mark.pixels < FEWEST_PX:
        many = f"{mark.pixels} pixel{'s' if mark.pixels > 1 else ''}"
        yield "mask_tiny", f"it marks {many}", "is it a stray one? Draw the defect, or clear it"
    if on_plane and mark.at_object is not None and mark.at_object < ON_OBJECT:
        yield (
            "mask_off_object",
            "what it marks lies beside the object",
            "is it the mask of another image, shifted or turned? Compare it: relief data show ROOT",
        )


def _repeated(found: Sequence[tuple[Ref, Marks]]) -> Iterator[Oddity]:
    same = defaultdict(list)
    for ref, mark in found:
        if not mark.box:  # which are drawn by measure
            same[mark.digest].append(ref)
    for refs in same.values():
        if len({ref.rgb for ref in refs}) > 1:
            others = ", ".join(str(ref.gt) for ref in refs[1:4])
            yield Oddity(
                "mask_repeated",
                refs[0].gt or refs[0].rgb,
                f"the same mask as {others}{' ...' if len(refs) > 4 else ''}",
                "no two defects are alike in every pixel: draw each one's own",
            )
