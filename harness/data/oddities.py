"""What is odd about one readable sample: kept, and told to its owner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.data.points import crossed, mirrored, no_cloud, orders, stand_in

if TYPE_CHECKING:
    from harness.data.samples import Ref, Sample

STRAY = 5.0  # times the 99th percentile of the depths: no part of the scene
MOST_DEFECT = 0.5  # share of an image; the largest mask of MVTec 3D-AD has a tenth


class Oddity(NamedTuple):
    """Something about a readable sample that its owner should know."""

    code: str
    file: Path
    problem: str
    todo: str


def of_sample(ref: Ref, sample: Sample) -> Iterator[Oddity]:
    yield from _of_depth(ref, sample)
    if why := no_cloud(sample.xyz, sample.valid):
        yield Oddity(
            "no_cloud",
            ref.xyz,
            f"this is no cloud of a scene: {why}",
            "write x, y and z in one unit, metres, or z alone into depth/ with its camera",
        )
    elif crossed(ways := orders(sample.xyz, sample.valid)):
        yield Oddity(
            "crossed_axes",
            ref.xyz,
            "x grows along the rows of the image, or y along its columns",
            "is the cloud transposed, or its list of points column by column? Write "
            "cloud.transpose(1, 0, 2), with x to the right and y down",
        )
    elif falls := [axis for axis, f in zip("xy", mirrored(ways)) if f]:
        turn = ", ".join({"x": "cloud[:, ::-1]", "y": "cloud[::-1]"}[axis] for axis in falls)
        yield Oddity(
            "mirrored_axes",
            ref.xyz,
            f"{' and '.join(falls)} {'falls' if len(falls) == 1 else 'fall'} along the image, "
            "where x should grow to the right and y down",
            f"is the cloud mirrored or turned against its image? Then write {turn}; if an axis "
            "points the other way, as OpenGL's do, write it with the other sign",
        )
    if sample.region is not None and not sample.region.any():
        yield Oddity(
            "empty_region",
            ref.rgb,
            "the mask of its object is empty",
            "draw it above 0 where the object is, or remove mask/",
        )
    if sample.rgb.min() == sample.rgb.max():
        yield Oddity(
            "one_colour",
            ref.rgb,
            f"the whole image has one colour, {sample.rgb.flat[0]}",
            "restore it, if a camera was there",
        )
    elif sample.rgb.max() <= 1:
        yield Oddity(
            "colours_of_0_and_1",
            ref.rgb,
            "its values are 0 and 1 alone, of 255",
            "were floats from 0 to 1 written as whole numbers, or is it a mask? Write 255 times "
            "the values",
        )
    yield from _of_mask(ref, sample)


def _of_depth(ref: Ref, sample: Sample) -> Iterator[Oddity]:
    z = sample.xyz[..., 2][sample.valid]
    if found := stand_in(sample.xyz, sample.valid):
        limit = f"{_limit(found.max_depth)}, or " if found.max_depth else ""
        yield Oddity(
            "stand_in_depth",
            ref.xyz,
            f"{found.share:.0%} of the points are {found.value}: a number for no depth?",
            f"take them as missing: {limit}0 in the file",
        )
        return
    usual, most = np.percentile(z, 99), z.max()
    if behind := int((z <= 0).sum()):
        limit = f"if they stand for no depth {_limit(2 * usual)} takes them as missing; "
        yield Oddity(
            "z_not_positive",
            ref.xyz,
            f"{behind} of {z.size} points have z <= 0",
            (limit if usual > 0 else "")
            + "z should point away from the camera, in metres: check the axes and the scale",
        )
    if usual > 0 and most > STRAY * usual:
        yield Oddity(
            "stray_depth",
            ref.xyz,
            f"{int((z > STRAY * usual).sum())} points lie up to {most:.4g} m away, and 99 % "
            f"within {usual:.3g} m",
            f"take them as missing: {_limit(2 * usual)}",
        )


def _limit(metres: float) -> str:
    """The setting, of a run and of `relief data`."""
    return f"datasets.NAME.max_depth={metres:.2g} (--option max_depth={metres:.2g})"


def _of_mask(ref: Ref, sample: Sample) -> Iterator[Oddity]:
    share = float(sample.mask.mean())
    if share > MOST_DEFECT:
        yield Oddity(
            "large_mask",
            ref.gt or ref.rgb,
            f"{share:.0%} of the image are marked as defect",
            "is the mask inverted? Defects are above 0, the rest is 0",
        )
    if ref.label and not sample.mask.any():
        yield Oddity(
            "empty_mask",
            ref.gt or ref.rgb,
            "anomalous, but no pixel of its mask is",
            "kept with label 1; it counts for image metrics only",
        )
    if not ref.label and sample.mask.any():
        yield Oddity(
            "good_sample_with_mask",
            ref.gt or ref.rgb,
            f"normal, but {sample.mask.sum()} pixels of its mask are anomalous",
            "move the sample to a defect, or clear the mask",
        )
