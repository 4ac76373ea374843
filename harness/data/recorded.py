"""Whether the samples of a category were recorded and written alike.

Where splits or labels differ in light, distance or format, that is what a method finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.data.oddities import Oddity
from harness.data.resize import nearest

if TYPE_CHECKING:
    from harness.data.plausible import Seen

THUMB = 24  # blocks a side of which the mean is kept
FEW = 3  # samples of either side, for a judgement
NEARER = 0.25  # times the distance of the nearest training image, in the median: the same scene
MOST_LEVELS = 2.0  # of 255, the same in absolute terms
LIGHT, DISTANCE = 0.15, 0.04  # gaps between all of train and all of test, as a share
SPREADS = 2.0  # times the range of either, the same
BLANK = 0.2  # share of an image's rows or columns that are of one colour
USUALLY = 0.02  # the same of the median image, at most


@dataclass(frozen=True)
class Picture:
    """What is kept of a colour image."""

    thumb: np.ndarray  # (THUMB, THUMB) float32, grey
    grey: bool
    light: float  # median grey level
    blank: float  # share of rows, or of columns, that are of one colour


def picture(rgb: np.ndarray) -> Picture:
    """rgb (H, W, 3) uint8"""
    one = max(_still(rgb, axis) for axis in (0, 1))
    grey = rgb.mean(axis=2, dtype=np.float32)
    alike = bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())
    return Picture(_blocks(grey), alike, float(np.median(grey)), one)


def _still(rgb: np.ndarray, axis: int) -> float:
    first = rgb[:, :1] if axis == 0 else rgb[:1]
    return float((rgb == first).all(axis=(1 - axis, 2)).mean())


def _blocks(grey: np.ndarray) -> np.ndarray:
    if min(grey.shape) < THUMB:
        return nearest(grey, THUMB)
    rows, columns = (np.linspace(0, n, THUMB, endpoint=False).astype(int) for n in grey.shape)
    total = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    counts = (np.diff([*at, n]) for at, n in zip((rows, columns), grey.shape))
    return (total / np.outer(*counts)).astype(np.float32)


def of_recording(seen: Sequence[Seen]) -> Iterator[Oddity]:
    yield from _grey(seen)
    yield from _blank(seen)
    yield from _formats(seen)
    yield from _shifted(seen)
    yield from _nearly_repeated(seen)


def _grey(seen: Sequence[Seen]) -> Iterator[Oddity]:
    grey = [one.picture.grey and bool(one.picture.thumb.any()) for one in seen]
    if len(set(grey)) < 2:
        return
    fewer = sum(grey) * 2 <= len(seen)  # the grey ones are
    odd = [one for one, is_grey in zip(seen, grey) if is_grey == fewer]
    some, rest = ("grey", "coloured") if fewer else ("coloured", "grey")
    yield Oddity(
        "some_grey",
        odd[0].ref.rgb,
        f"{len(odd)} of {len(seen)} images are {some}, the others {rest}",
        "write all from the same camera's images alike",
    )


def _blank(seen: Sequence[Seen]) -> Iterator[Oddity]:
    if np.median([one.picture.blank for one in seen]) > USUALLY:
        return
    for one in seen:
        if BLANK < one.picture.blank < 1:
            yield Oddity(
                "partly_blank",
                one.ref.rgb,
                f"{one.picture.blank:.0%} of its rows or columns are of one colour",
                "was it cut off when sent or written? Restore it",
            )


def _formats(seen: Sequence[Seen]) -> Iterator[Oddity]:
    """Compression leaves traces that methods find."""
    test = [one.ref for one in seen if one.ref.split == "test"]
    groups = (
        (
            "normal and defective test",
            [r for r in test if not r.label],
            [r for r in test if r.label],
        ),
        ("training and test", [one.ref for one in seen if one.ref.split == "train"], test),
    )
    for what, some, others in groups:
        kinds = [
            {ref.rgb.suffix.lower().replace("jpeg", "jpg") for ref in of} for of in (some, others)
        ]
        if min(len(some), len(others)) >= 2 and not kinds[0] & kinds[1]:
            first, second = (" and ".join(sorted(of)) for of in kinds)
            yield Oddity(
                "formats_differ",
                others[0].rgb,
                f"{what} images differ in their format, {first} and {second}",
                "their compression alone may tell them apart: write all from the same source alike",
            )
            return


def _shifted(seen: Sequence[Seen]) -> Iterator[Oddity]:
    """Light and distance of the test apart from all of the training."""
    train = [one for one in seen if one.ref.split == "train"]
    test = [one for one in seen if one.ref.split == "test" and not one.ref.label]
    if min(len(train), len(test)) < FEW:
        test = [one for one in seen if one.ref.split == "test"]
    if min(len(train), len(test)) < FEW:
        return
    measures: tuple[tuple[str, float, str, Callable[[Seen], float]], ...] = (
        ("light", LIGHT, "median grey levels of {}", lambda one: one.picture.light),
        ("distance", DISTANCE, "median depths of {} m", lambda one: one.depth),
    )
    for name, least, words, value in measures:
        ours, theirs = (np.array([value(one) for one in of]) for of in (train, test))
        gap = max(ours.min() - theirs.max(), theirs.min() - ours.max())
        if gap > max(least * np.median(ours), SPREADS * np.ptp(ours), SPREADS * np.ptp(theirs)):
            spans = (f"{of.min():.3g} to {of.max():.3g}" for of in (ours, theirs))
            told = [words.format(span) for span in spans]
            yield Oddity(
                f"other_{name}",
                test[0].ref.rgb if name == "light" else test[0].ref.xyz,
                f"test samples were recorded otherwise: {told[1]}, and {told[0]} in training",
                f"record all at the same {name}: else methods find that and no defects",
            )


def _nearly_repeated(seen: Sequence[Seen]) -> Iterator[Oddity]:
    """Test images of a scan that was trained on, compressed or recorded again."""
    train = [one for one in seen if one.ref.split != "test"]
    test = [one for one in seen if one.ref.split == "test"]
    if len(train) < FEW or not test:
        return
    known = np.stack([one.picture.thumb.ravel() for one in train])
    usual = float(np.median(_nearest(known, known, own=True)[0]))
    nearest_one, which = _nearest(np.stack([one.picture.thumb.ravel() for one in test]), known)
    for one, distance, i in zip(test, nearest_one, which):
        if distance < min(NEARER * usual, MOST_LEVELS) and one.digest != train[i].digest:
            yield Oddity(
                "nearly_repeated",
                one.ref.rgb,
                f"nearly the same image as {train[i].ref.rgb}",
                "if it is the same scan, or the same part recorded again, remove it from one of "
                "them: a method must not have seen what it is tested on",
            )


def _nearest(
    some: np.ndarray, others: np.ndarray, own: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(N, D), (M, D) -> distance (RMS) to the nearest of the others and which, both (N,)."""
    squares = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * some @ others.T
    if own:
        np.fill_diagonal(squares, np.inf)
    which = squares.argmin(axis=1)
    exact = ((some - others[which]) ** 2).mean(axis=1)  # the difference of large sums is not
    return np.sqrt(exact), which
