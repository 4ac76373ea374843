"""How good a view is, sample by sample: what it made of plane, object and depth.

Each sample of a view has these in its split's index.json; the record of the view sums them up, so
that plans, tables and pages can tell a view that is suspect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from harness.data.resize import nearest
from harness.data.samples import SPLITS
from harness.data.views.reference import GRID, Reference
from methods.declaration import View

MOST_TURN_DEG = 3.0  # the plane's angle to that of the median sample
LEAST_KEPT = 0.5  # share of the object's pixels that are the view's foreground
MOST_OTHER = 0.5  # share of the view's foreground that is not object
LEAST_CONTRAST = 0.02  # spread of the depth on the object, as a share of the whole range
LEAST_VALID = 0.3  # share of the pixels with depth
LEAST_FOREGROUND = 0.002  # share of the view that is foreground
SURE_OBJECT = 0.01  # an object covers so much of the image before a view is judged by it
SUSPECT_FROM = 0.1  # share of the samples of a split that are flagged

MEANING = {
    "no-object": "nothing of an object is left in the view",
    "plane-doubtful": "the supporting plane is uncertain",
    "plane-turned": "the supporting plane lies otherwise than in the other samples",
    "object-lost": "most of what stands on the supporting plane is not in the foreground",
    "table-kept": "most of the foreground does not stand on the supporting plane",
    "flat-depth": "the depth on the object has no contrast",
    "little-depth": "most pixels have no depth",
    "stand-in-depth": "a number stands for no depth and is taken for one",
    "crossed-axes": "the cloud's rows and columns are not those of the image",
    "no-cloud": "x, y and z are not those of points",
    "frozen-depth": "several samples have the same depth",
    "colour-off-depth": "the edges of colour and depth do not meet",
}
OF_SAMPLES = {  # oddity -> flag
    "stand_in_depth": "stand-in-depth",
    "crossed_axes": "crossed-axes",
    "no_cloud": "no-cloud",
}
OF_TRAINING = {"colour_off_depth": "colour-off-depth"}  # the same, of its samples together


@dataclass(frozen=True)
class Quality:
    """Shares are of pixels unless said otherwise; None where it does not apply."""

    valid: float  # with depth, in the sensor's image
    foreground: float  # of the view
    contrast: float  # spread (5 to 95 %) of the depth on the foreground, by the whole range
    inliers: float | None = None  # of the valid points, on the supporting plane
    angle_deg: float | None = None  # between the plane and that of the median sample
    error_deg: float | None = None  # standard error of the plane's angle
    kept: float | None = None  # of the object, in the foreground
    flags: tuple[str, ...] = field(default=())

    def plain(self) -> dict[str, Any]:
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if value is not None
        }


def judge(
    references: Mapping[str, Sequence[Reference]],
    splits: Mapping[str, Mapping[str, np.ndarray]],
    view: View,
    odd: Collection[str] = (),
) -> dict[str, list[Quality]]:
    """The quality of every sample, by split.

    splits: the finished arrays of the view; odd: codes of what is odd of the training samples
    """
    normals = [
        r.normal
        for split in ("train", *references)
        for r in references.get(split, ())
        if r.normal is not None
    ]
    usual = np.median(normals, axis=0) if normals else None
    with_depth = bool({"depth", "xyz"} & splits["train"].keys())
    off = [OF_TRAINING[code] for code in odd if with_depth and code in OF_TRAINING]
    clouds = Counter(r.digest for split in SPLITS for r in references.get(split, ()) if r.digest)

    def one(split: str, i: int, reference: Reference) -> Quality:
        arrays = {name: array[i] for name, array in splits[split].items()}
        found = _one(reference, arrays, view, usual)
        more = [OF_SAMPLES[code] for code in reference.odd if code in OF_SAMPLES]
        more += ["frozen-depth"] * (clouds[reference.digest] > 1 and split in SPLITS)
        more += off * (split == "train")
        return replace(found, flags=(*found.flags, *more))

    return {
        split: [one(split, i, reference) for i, reference in enumerate(found)]
        for split, found in references.items()
    }


def _one(
    reference: Reference, arrays: Mapping[str, np.ndarray], view: View, usual: np.ndarray | None
) -> Quality:
    seen = _seen(arrays)
    if seen is None:
        return Quality(reference.valid, 1.0, 1.0)
    foreground, depth = seen
    found = Quality(reference.valid, float(foreground.mean()), _contrast(foreground, depth))
    flags = []
    if found.foreground < LEAST_FOREGROUND:
        flags.append("no-object")
    elif found.contrast < LEAST_CONTRAST:
        flags.append("flat-depth")
    if found.valid < LEAST_VALID:
        flags.append("little-depth")
    plane: dict[str, Any] = {}
    if view.background in ("plane", "support") and reference.normal is not None:
        cut = None if view.name == "plain" else foreground  # which keeps all
        plane, more = of_plane(reference, cut, usual)
        flags += more
    elif view.background in ("plane", "support"):
        flags.append("plane-doubtful")
    return replace(found, **plane, flags=tuple(flags))


def of_plane(
    reference: Reference, foreground: np.ndarray | None, usual: np.ndarray | None
) -> tuple[dict[str, float], list[str]]:
    """What the supporting plane has to say about a view that removes it, and its flags."""
    flags, there = [], reference.on_object
    assert reference.normal is not None and there is not None and usual is not None
    cosine = reference.normal @ usual / np.linalg.norm(usual)
    angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    if angle > MOST_TURN_DEG:
        flags.append("plane-turned")
    if reference.doubts:
        flags.append("plane-doubtful")
    values = {
        "inliers": reference.inliers,
        "angle_deg": angle,
        "error_deg": reference.error_deg,
    }
    if foreground is None:
        return values, flags
    here = nearest(foreground, GRID)
    kept = float((here & there).sum() / max(there.sum(), 1))
    other = float((here & ~there).sum() / max(here.sum(), 1))
    if standing(reference) is not None:
        if kept < LEAST_KEPT:
            flags.append("object-lost")
        elif other > MOST_OTHER:
            flags.append("table-kept")
    return values | {"kept": kept}, flags


def standing(reference: Reference) -> np.ndarray | None:
    """What certainly stands on a plane, (GRID, GRID) bool; None where nothing is judged by it."""
    sure = not reference.doubts and reference.object >= SURE_OBJECT
    return reference.on_object if sure else None


def _seen(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Foreground (S, S) bool and depth (S, S) of a view with depth or with points; None without."""
    if "xyz" in arrays:
        return (arrays["xyz"] != 0).any(axis=2), arrays["xyz"][..., 2]
    foreground = next((arrays[name] for name in ("foreground", "valid") if name in arrays), None)
    return None if foreground is None or "depth" not in arrays else (foreground, arrays["depth"])


def _contrast(foreground: np.ndarray, depth: np.ndarray) -> float:
    on = depth[foreground]
    if not on.size:
        return 0.0
    low, high = np.percentile(on, [5, 95])
    known = depth[depth != 0] if (depth != 0).any() else depth
    return float((high - low) / max(float(np.ptp(known)), 1e-12))


def summary(found: Mapping[str, Sequence[Quality]]) -> dict[str, Any]:
    """For the record of a view.

    flags: name -> samples of all splits; suspect: flags that train or test have too often; empty:
    training samples in which nothing is left
    """
    counts = {
        split: Counter(flag for quality in of for flag in quality.flags)
        for split, of in found.items()
    }
    total = sum(counts.values(), Counter())
    suspect = [
        flag
        for flag in MEANING
        if any(
            counts[split][flag] >= max(1, SUSPECT_FROM * len(found[split]))
            for split in ("train", "test")
            if split in found
        )
    ]
    train = found.get("train", ())
    return {
        "flags": {flag: total[flag] for flag in MEANING if total[flag]},
        "suspect": suspect,
        "train_empty": sum("no-object" in quality.flags for quality in train),
        "medians": {
            name: round(float(np.median(values)), 4)
            for name in ("valid", "foreground", "contrast", "inliers", "angle_deg", "kept")
            if (values := [v for q in train if (v := getattr(q, name)) is not None])
        },
    }
