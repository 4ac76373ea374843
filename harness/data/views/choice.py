"""`background: auto`: how the object is told from the rest, chosen by looking at training samples.

The choice depends on these samples alone, so all views of a category make the same one. It is kept
in the record of the view, with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.data.samples import Category, Ref, Sample
from harness.data.views.reference import Reference, measure
from harness.data.views.support import BEYOND, NOTHING
from methods.declaration import View

LOOKED_AT = 9  # training samples, at even distances
LEAST_OBJECT = 0.005  # share of the image that something on the plane has to cover
MOST_OBJECT = 0.9
ALIKE = 0.5  # the shares of the samples may differ from their median by this part of it
AGREE = 0.6  # share of the samples that must have such a plane


@dataclass(frozen=True)
class Choice:
    background: str  # a word of methods.declaration.BACKGROUNDS, not "auto"
    why: str
    upside_down: bool = False  # with near and far exchanged there would be objects on a plane

    @property
    def name(self) -> str:
        """What configurations call it."""
        return {"support": "plane", "plane": "published"}.get(self.background, self.background)


def resolved(category: Category, view: View) -> tuple[View, Choice | None]:
    """The view with a background in place of "auto", and why; unchanged views have no choice."""
    if view.background != "auto":
        return view, None
    choice = choose(category)
    return view.on(choice.background), choice


def choose(category: Category) -> Choice:
    """mask if training samples have one; plane if what stands on a plane is alike; else none."""
    refs = spread(category.samples("train"), LOOKED_AT)
    samples = [ref.load() for ref in refs]
    masked = sum(sample.region is not None for sample in samples)
    if masked == len(samples):
        return Choice("mask", "every training sample has a mask of its object")
    found = [measure(sample) for sample in samples]
    sure = [f for f in found if not f.doubts]
    shares = np.array([f.object for f in sure])
    alike = np.abs(shares - np.median(shares)) <= ALIKE * np.median(shares) if sure else shares
    fits = (shares >= LEAST_OBJECT) & (shares <= MOST_OBJECT) & (alike > 0)
    count, of = int(fits.sum()), len(samples)
    if count >= AGREE * of:
        return Choice(
            "support",
            f"in {count} of {of} training samples looked at an object stands on a plane: it covers "
            f"{np.median(shares[fits]):.0%} of the image, and "
            f"{np.median([f.inliers for f in sure]):.0%} of the points lie on the plane",
        )
    why = f"only {count} of {of} training samples show it: {_reason(found, shares)}"
    return Choice("none", why, _upside_down(samples, found))


def _upside_down(samples: Sequence[Sample], found: Sequence[Reference]) -> bool:
    """Whether objects stand on a plane as soon as near and far are exchanged."""
    of = len(samples)
    if sum(any(BEYOND in doubt for doubt in f.doubts) for f in found) < AGREE * of:
        return False
    turned = [measure(replace(sample, xyz=_exchanged(sample))) for sample in samples]
    sure = sum(not f.doubts and LEAST_OBJECT <= f.object <= MOST_OBJECT for f in turned)
    return sure >= AGREE * of


def _exchanged(sample: Sample) -> np.ndarray:
    """Points with the nearest depth for the farthest, and the other way round."""
    xyz = sample.xyz.copy()
    z = xyz[..., 2][sample.valid]
    xyz[..., 2][sample.valid] = z.max() + z.min() - z
    return xyz


def _reason(found: Sequence[Reference], shares: np.ndarray) -> str:
    doubts = [f.doubts[0] for f in found if f.doubts]
    if doubts.count(NOTHING) * 2 >= len(found):
        return "all points lie on one plane, which is then the object itself"
    if len(doubts) * 2 >= len(found):
        return f"no certain plane with objects on it (e.g. {doubts[0]})"
    if np.median(shares) < LEAST_OBJECT:
        return "hardly anything stands out of the plane, which is then the object itself"
    if np.median(shares) > MOST_OBJECT:
        return "nearly nothing lies on a plane"
    return (
        f"what stands out of the plane differs from sample to sample ({shares.min():.1%} to "
        f"{shares.max():.1%} of the image), so it is no part but the surface itself"
    )


def spread(refs: Sequence[Ref], count: int) -> list[Ref]:
    """So many of them at most, at even distances."""
    places = np.linspace(0, len(refs) - 1, count).astype(int) if refs else []
    return [refs[i] for i in sorted(set(places))]
