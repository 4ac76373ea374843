"""What a category's samples say of each other: repeated files, empty splits, planes that differ."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.files import below, folders
from harness.data.folder import MEANT
from harness.data.masks import Marks, Region, marks, of_masks, of_regions, of_traces, region
from harness.data.oddities import Oddity
from harness.data.recorded import Picture, of_recording, picture
from harness.data.samples import Category, DataError, Ref
from harness.data.views import quality
from harness.data.views.background import object_pixels
from harness.data.views.choice import Choice
from harness.data.views.reference import Reference, measure
from methods.seeds import seed_for
from methods.views import M3dmView

NORMAL = ("ok", "okay", "normal", "nominal", "healthy")  # how others call good
TELLING = 0.9  # area under the ROC curve from which missing depth alone tells the defective
LESS = 0.6  # times the share of pixels with depth of the median sample
UNLIKE = 1.7  # times the depth of the median sample, or that part of it
FEWEST_TRAIN = 2  # normal samples
FEWEST = 5  # test samples of either kind for that


@dataclass(frozen=True)
class Seen:
    """What is kept of a sample that was opened."""

    ref: Ref
    size: tuple[int, int]
    odd: Sequence[Oddity]
    digest: str  # of its colours, in whatever format they were written
    marks: Marks | None  # of its mask, if that marks anything
    picture: Picture
    region: Region | None  # of the object's own mask
    reference: Reference
    foreground: np.ndarray | None  # of the published removal, where that is the default
    depth: float = 0.0  # m, in the median
    bits: int = 0  # as which its colours are taken, where that is a judgement


def look(ref: Ref, published: bool) -> Seen:
    """Open a sample. published: whether the published removal is what it will go through.

    Raises DataError.
    """
    sample = ref.load()
    foreground = None
    if published:
        try:
            foreground = object_pixels(sample, M3dmView(), seed_for("plane", ref.category, ref.id))
        except DataError:  # nothing is left
            foreground = np.zeros_like(sample.valid)
    digest = hashlib.blake2b(sample.rgb.tobytes(), digest_size=16).hexdigest()
    depth = float(np.median(sample.xyz[..., 2][sample.valid]))
    reference = measure(sample)
    size, odd = ref.verify(sample)
    return Seen(
        ref,
        size,
        [*odd, *of_traces(ref)],
        digest,
        marks(sample.mask, reference),
        picture(sample.rgb),
        region(sample.region, reference),
        reference,
        foreground,
        depth,
        ref.colour_bits(),
    )


def of_listing(category: Category, refs: Sequence[Ref]) -> Iterator[Oddity]:
    """What the folders alone say."""
    folder = category.folder
    test = [ref for ref in refs if ref.split == "test"]
    labels = {ref.label for ref in test}
    if labels == {0}:
        todo = "put defective ones into test/<defect>: without, no metric can be computed"
        yield Oddity("all_good", folder / "test", "all test samples are good", todo)
    if labels == {1}:
        todo = "put normal ones into test/good: without, no image metric can be computed"
        yield Oddity("all_defective", folder / "test", "all test samples are defective", todo)
    train = [ref for ref in refs if ref.split == "train"]
    if 0 < len(train) <= FEWEST_TRAIN:
        todo = "add some dozen normal ones: of so few no method learns what varies"
        many = f"{len(train)} sample{'s' if len(train) > 1 else ''} to train on"
        yield Oddity("few_to_train", folder / "train/good", many, todo)
    for inner in category_folders(folder / "train") + category_folders(folder / "test"):
        if not any(below(inner)):
            todo = "fill it, or remove it"
            yield Oddity("empty_folder", inner, "this folder has no files", todo)
    if 1 in labels and not any(ref.gt for ref in test if ref.label):
        yield Oddity(
            "no_masks",
            folder / "test",
            "no defect has a mask: there will be image metrics only, no pixel metrics",
            "draw masks into test/<defect>/gt/NNN.png, 0 normal, above 0 defect",
        )
    for inner in category_folders(folder / "test"):
        if inner.name.lower() not in NORMAL:
            continue
        yield Oddity(
            "good_by_another_name",
            inner,
            f"test/{inner.name} counts as a type of defect",
            "if its samples are normal rename it to good",
        )
    yield from _regions(refs)
    yield from _unused(category)


def _regions(refs: Sequence[Ref]) -> Iterator[Oddity]:
    """Masks of objects that some samples have and others have not: `auto` takes none of them."""
    lacking = [ref for ref in refs if not getattr(ref, "region", None)]
    if lacking and len(lacking) < len(refs):
        yield Oddity(
            "some_regions",
            lacking[0].rgb,
            f"{len(lacking)} of {len(refs)} samples have no mask of their object, as the others",
            "draw them all into mask/, or move mask/ elsewhere; masks of defects belong into gt/",
        )


def _unused(category: Category) -> Iterator[Oddity]:
    beside = defaultdict(list)
    for path in category.unused():
        if path.is_dir():
            meant = category.meant(path.name)
            todo = (
                f"rename it to {meant}" if meant else "move it elsewhere if it is none of the data"
            )
            yield Oddity("unused", path, "this folder is not read", todo)
        else:
            beside[path.parent, path.suffix].append(path)
    for (inner, suffix), paths in beside.items():
        meant = MEANT.get(inner.name.lower())
        todo = (
            "samples are read from {rgb,xyz,depth,gt,mask} of each folder, not deeper, in the "
            "formats of harness/data/README.md: move or convert them"
        )
        if inner.name == "depth" and inner.with_name("xyz").is_dir():
            todo = "where there are both xyz/ is read: move the one that is not meant elsewhere"
        elif meant and not inner.with_name(meant).is_dir():
            todo = f"rename {inner.name} to {meant}"
        yield Oddity(
            "unused",
            paths[0],
            f"not read, as {len(paths)} {suffix or 'nameless'} files in {inner}",
            todo,
        )


def category_folders(path: Path) -> list[Path]:
    try:
        return folders(path)
    except DataError:  # told by the listing
        return []


def of_samples(seen: Sequence[Seen], choice: Choice | None) -> Iterator[Oddity]:
    """What the samples of one category say together. choice: of `background: auto`."""
    yield from _repeated(seen)
    yield from _frozen(seen)
    yield from _bits(seen)
    yield from _depths(seen)
    yield from of_masks(seen, on_plane=not choice or choice.background == "support")
    yield from _missing(seen)
    if choice:  # the published sets are known, and the converter of one leaves little depth
        yield from _little(seen)
        yield from of_recording(seen)
        yield from of_regions(seen)
    if choice and choice.upside_down:
        yield Oddity(
            "depth_upside_down",
            seen[0].ref.xyz,
            "what stands out of its plane lies beyond it in most training samples",
            "does depth count towards the sensor, as heights, disparities and inverted depths do? "
            "Write the distance from the camera; if the parts are hollows, ignore this",
        )
    background = choice.background if choice else "plane"
    if background in ("plane", "support"):
        yield from _planes(seen)


def _repeated(seen: Sequence[Seen]) -> Iterator[Oddity]:
    same = defaultdict(list)
    for one in seen:
        if all(odd.code != "one_colour" for odd in one.odd):  # which is told
            same[one.digest].append(one.ref)
    for refs in same.values():
        if len(refs) < 2:
            continue
        splits = {ref.split for ref in refs}
        others = ", ".join(str(ref.rgb) for ref in refs[1:4])
        if "test" in splits and len(splits) > 1:
            todo = "remove it from one of them: a method must not have seen what it is tested on"
        else:
            todo = "remove all but one, if one scan was saved again"
        problem = f"the same image as {others}{' ...' if len(refs) > 4 else ''}"
        yield Oddity("repeated", refs[0].rgb, problem, todo)


def _frozen(seen: Sequence[Seen]) -> Iterator[Oddity]:
    """One depth under different images: two scans of a sensor never have all their noise alike."""
    same: dict[bytes, dict[str, Ref]] = defaultdict(dict)
    for one in seen:
        same[one.reference.digest].setdefault(one.digest, one.ref)
    for refs in same.values():
        if len(refs) < 2:
            continue
        first, *others = refs.values()
        told = ", ".join(str(ref.xyz) for ref in others[:3])
        yield Oddity(
            "frozen_depth",
            first.xyz,
            f"the same depth as {told}{' ...' if len(others) > 3 else ''}, with other images",
            "was the sensor's depth stuck, or one file copied? Record it again: nothing can be "
            "learnt from it",
        )


def _bits(seen: Sequence[Seen]) -> Iterator[Oddity]:
    """Colours of over 8 bits are taken by an image's largest value, so dark ones may be lifted."""
    counts = Counter(one.bits for one in seen if one.bits)
    most = max(counts, default=0)
    fewer = [one for one in seen if 0 < one.bits < most]
    if not fewer:
        return
    taken = sorted({one.bits for one in fewer})
    yield Oddity(
        "bits_differ",
        fewer[0].ref.rgb,
        f"taken as {' or '.join(map(str, taken))} bits by their largest value are {len(fewer)} "
        f"images, as {most} {counts[most]}: they come up to {1 << most - taken[0]} times brighter",
        f"say how many the camera has: datasets.NAME.colour_bits={most} "
        f"(--option colour_bits={most})",
    )


def _depths(seen: Sequence[Seen]) -> Iterator[Oddity]:
    """Scans of another unit or scene than the others."""
    usual = float(np.median([one.depth for one in seen]))
    for one in seen:
        if usual > 0 and one.depth > 0 and not 1 / UNLIKE < one.depth / usual < UNLIKE:
            yield Oddity(
                "depth_unlike_others",
                one.ref.xyz,
                f"its median depth is {one.depth:.3g} m, and {usual:.3g} m in the median sample",
                "was it written in another unit, or recorded elsewhere? Write all alike",
            )


def _little(seen: Sequence[Seen]) -> Iterator[Oddity]:
    usual = float(np.median([one.reference.valid for one in seen]))
    for one in seen:
        if one.reference.valid < quality.LEAST_VALID:
            yield Oddity(
                "little_depth",
                one.ref.xyz,
                f"only {one.reference.valid:.0%} of the pixels have depth",
                "record it again, or crop images and depth to what the sensor sees",
            )
        elif one.reference.valid < LESS * usual:
            yield Oddity(
                "less_depth",
                one.ref.xyz,
                f"{one.reference.valid:.0%} of the pixels have depth, {usual:.0%} in the median "
                "sample",
                "record it again, or crop images and depth to what the sensor sees",
            )


def _missing(seen: Sequence[Seen]) -> Iterator[Oddity]:
    """Whether defects are where the sensor saw nothing: methods that fill holes cannot see them."""
    test = [one for one in seen if one.ref.split == "test"]
    missing = np.array([1 - one.reference.valid for one in test])
    defective = np.array([bool(one.ref.label) for one in test], bool)  # maybe of none
    good, bad = missing[~defective], missing[defective][:, None]
    if min(len(good), len(bad)) < FEWEST:
        return
    area = float(np.mean((bad > good) + 0.5 * (bad == good)))
    if area >= TELLING:
        yield Oddity(
            "missing_depth_tells",
            test[int(missing.argmax())].ref.xyz,
            f"missing depth alone tells defective from normal test samples (I-AUROC {area:.2f}); "
            f"this one has most, {missing.max():.0%}",
            "methods that fill holes score such defects low: compare with "
            "methods=[baseline/missing] (harness/data/README.md, section 4.4)",
        )


def _planes(seen: Sequence[Seen]) -> Iterator[Oddity]:
    normals = [one.reference.normal for one in seen if one.reference.normal is not None]
    usual = np.median(normals, axis=0) if normals else None
    told: dict[str, list[tuple[Seen, str]]] = defaultdict(list)
    for one in seen:
        if one.reference.normal is None:
            told["plane-doubtful"].append((one, "no plane can be found"))
            continue
        values, flags = quality.of_plane(one.reference, one.foreground, usual)
        for flag in flags:
            why = {
                "plane-doubtful": lambda one=one: one.reference.doubts[0],
                "plane-turned": lambda values=values: f"by {values['angle_deg']:.0f} degrees",
                "object-lost": lambda values=values: f"{values['kept']:.0%} of it are",
            }.get(flag, lambda: "")
            told[flag].append((one, why()))
    for flag, found in told.items():
        first, why = found[0]
        split = Counter(one.ref.split for one, _ in found)
        many = ", ".join(f"{n} of {split_size(seen, s)} in {s}" for s, n in sorted(split.items()))
        yield Oddity(
            flag,
            first.ref.xyz,
            f"{quality.MEANING[flag]}{f' ({why})' if why else ''}: {many}",
            "look at it: relief data show ROOT --view plain --sample "
            f"{first.ref.id} --category {first.ref.category}; other ways to find the object are "
            "--background plane, mask or none, or a limit, max_depth=METRES",
        )


def split_size(seen: Sequence[Seen], split: str) -> int:
    return sum(one.ref.split == split for one in seen)
