"""One sample in DBRN's view: filled depth in [0.2, 0.8], and the foreground.

methods/dbrn/README.md, sections 2.1 to 2.6. Hole filling and background plane are AST's (Rudolph
et al., WACV 2023), which DBRN derives its preprocessing from; what DBRN changes has no published
code.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from harness.data.resize import nearest, resize
from harness.data.samples import DataError, Sample
from harness.data.views.background import region
from harness.data.views.depth import extremes, fill_holes, place
from methods.views import DbrnView

CORNER_PX = 2  # side of the blocks that the background plane is fitted to (AST)
AST_THRESHOLD_M = 0.007
MAX_ITERATIONS = 100  # of k-means
POOL = 200  # points a side of the grid on which heights are collected

log = logging.getLogger(__name__)


def prepare(sample: Sample, view: DbrnView, seed: int) -> dict[str, np.ndarray]:
    """The view's arrays of one sample, S = view.size, and its ground truth.

    rgb (S, S, 3) uint8; depth (S, S) float32; foreground (S, S) bool; mask (S, S) bool.
    With `depth_range` "category" the depth is still in metres. With `fg_threshold` "auto" the
    foreground is still empty, and there are two arrays more, from which `finish` makes it:
    deviation (S, S), the largest distance from the background around a pixel, and heights
    (POOL, POOL), the distances at points all over the image.
    """
    z, deviation = fill(sample, view, seed)
    depth = resize(z.astype(np.float32), view.size, "cv2_linear")
    if view.depth_range == "image":
        depth = normalise(depth, depth.min(), depth.max(), view)
    arrays = {
        "rgb": resize(sample.rgb, view.size, "cv2_linear"),
        "depth": depth,
        "mask": nearest(sample.mask, view.size),
    }
    if view.background == "plane" and view.fg_threshold == "auto":
        return arrays | {
            "foreground": np.zeros((view.size, view.size), bool),
            "deviation": reach(deviation, view.size).astype(np.float32),
            "heights": spread_over(deviation, POOL),
        }
    above = deviation > threshold_m(view, sample.category)
    return arrays | {"foreground": reach(above, view.size)}


def learn(train: Mapping[str, np.ndarray], view: DbrnView) -> dict[str, float]:
    """What the whole training split decides: the foreground's threshold, the range of depth."""
    learnt = {}
    if "heights" in train:
        height, threshold = auto_threshold(np.asarray(train["heights"]), view)
        log.info("fg_threshold_m=%.5f object_height_m=%.5f", threshold, height)
        learnt["fg_threshold_m"] = threshold
    if view.depth_range == "category":
        low, high = extremes(train["depth"])
        learnt |= {"low_m": float(low), "high_m": float(high)}
    return learnt


def finish(arrays: dict[str, np.ndarray], view: DbrnView, learnt: Mapping[str, float]) -> None:
    """A split with what the training split decided, in place."""
    if "heights" in arrays:
        del arrays["heights"]
        deviation = arrays.pop("deviation")
        for i in range(len(deviation)):
            arrays["foreground"][i] = deviation[i] > learnt["fg_threshold_m"]
    if view.depth_range == "category":
        for i in range(len(arrays["depth"])):
            arrays["depth"][i] = normalise(
                arrays["depth"][i], learnt["low_m"], learnt["high_m"], view
            )


def fill(sample: Sample, view: DbrnView, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Depth without holes and the distance from the background, both (H, W) metres, float64.

    The distance is 0 where there is no depth. Without a background (section 2.6) it is infinite
    where there is, and with another background than the published one on the object.
    """
    z = sample.xyz[..., 2]
    name = f"{sample.category}/{sample.id}"
    if not z.any():
        raise DataError(f"{name} has no depth at all: restore or remove the sample")
    if view.background == "none":
        return np.where(z == 0, z.max(), z), np.where(z == 0, 0.0, np.inf)

    there = None if view.background == "plane" else region(sample, view, seed)
    z = fill_holes(z, z == 0, view.n_fills).astype(np.float64)
    background_m = background_mean(z, view.frame_px)
    plane = corner_plane(z, background_m)
    missing = z == 0
    if there is None:
        deviation = np.where(missing, 0.0, np.abs(plane - z))
    else:
        deviation = np.where(there, np.inf, 0.0)
    filling = {"cluster": background_m, "plane": plane, "max": z.max()}[view.bg_fill]
    return np.where(missing, filling, z), deviation


def corner_plane(z: np.ndarray, otherwise_m: float) -> np.ndarray:
    """Bilinear surface (H, W) through the mean depths of the four corners' valid pixels.

    A corner without any has `otherwise_m`; AST's code makes it NaN and loses the foreground.
    """
    ends = (slice(None, CORNER_PX), slice(-CORNER_PX, None))
    corners = np.array([[_valid_mean(z[r, c], otherwise_m) for c in ends] for r in ends])
    u, v = (np.linspace(0, 1, n) for n in z.shape)
    return np.stack([1 - u, u], axis=1) @ corners @ np.stack([1 - v, v])


def _valid_mean(block, otherwise):
    valid = block[block != 0]
    return valid.mean() if valid.size else otherwise


def background_mean(z: np.ndarray, frame_px: int) -> float:
    """Mean depth of the background: the cluster with more of the frame's valid pixels."""
    low, high = two_means(z[z != 0])
    frame = np.ones(z.shape, bool)
    frame[frame_px:-frame_px, frame_px:-frame_px] = False
    values = z[frame & (z != 0)]
    lower = np.count_nonzero(values <= (low + high) / 2)
    return low if 2 * lower > len(values) else high  # a tie: the farther one


def two_means(values: np.ndarray) -> tuple[float, float]:
    """1-D k-means with k = 2 from the extremes; values half-way belong to the lower centroid."""
    values = np.sort(values.astype(np.float64))
    total = np.concatenate([[0.0], np.cumsum(values)])
    low, high = values[0], values[-1]
    for _ in range(MAX_ITERATIONS):
        n = np.searchsorted(values, (low + high) / 2, side="right")
        if n == len(values):  # all alike: nothing above
            break
        before = low, high
        low, high = total[n] / n, (total[-1] - total[n]) / (len(values) - n)
        if before == (low, high):
            break
    return float(low), float(high)


def auto_threshold(deviations: np.ndarray, view: DbrnView) -> tuple[float, float]:
    """(height of the object, threshold of the foreground) in metres, from pooled distances."""
    above = deviations[deviations > view.fg_min_m]  # NaN (outside the image) is not above
    height = (
        float(np.percentile(above.astype(np.float64), view.fg_percentile)) if above.size else 0.0
    )
    return height, float(np.clip(view.fg_share * height, view.fg_min_m, view.fg_max_m))


def threshold_m(view: DbrnView, category: str) -> float:
    """The threshold that a recipe states; "none" makes every pixel foreground."""
    if view.background != "plane" and view.fg_threshold != "none":
        return 0.0
    stated = {"ast": AST_THRESHOLD_M, "none": -1.0}
    if view.fg_threshold in stated:
        return stated[view.fg_threshold]
    try:
        if ":" not in view.fg_threshold:
            return float(view.fg_threshold)
        table = dict(item.split(":") for item in view.fg_threshold.split(","))
        return float({k.strip(): v for k, v in table.items()}[category])
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"unknown fg_threshold {view.fg_threshold!r} in DbrnView for {category}; known: auto, "
            'ast, none, metres ("0.005"), metres of every category ("bagel:0.005,rope:0.003")'
        ) from error


def reach(image: np.ndarray, size: int) -> np.ndarray:
    """The largest of the pixels that bilinear resizing of (H, W) would mix -> (size, size).

    So resizing a mask bilinearly and keeping what is above 0 (AST's rule) is this, exactly.
    """
    for axis in (0, 1):
        n = image.shape[axis]
        place = np.clip((2 * np.arange(size) + 1) * n - size, 0, 2 * size * (n - 1))
        first = place // (2 * size)  # place / 2 size: source pixels
        second = np.minimum(first + (place % (2 * size) > 0), n - 1)
        image = np.maximum(image.take(first, axis), image.take(second, axis))
    return image


def spread_over(image: np.ndarray, most: int) -> np.ndarray:
    """At most `most` x `most` pixels at even distances, float32; NaN where the image is smaller."""
    rows, columns = (np.arange(min(n, most)) * n // min(n, most) for n in image.shape)
    pooled = np.full((most, most), np.nan, np.float32)
    pooled[: len(rows), : len(columns)] = image[rows[:, None], columns]
    return pooled


def normalise(depth: np.ndarray, low: float, high: float, view: DbrnView) -> np.ndarray:
    """[low, high] metres to the view's range. A constant depth is background, so farthest."""
    share = place(depth, low, high)
    return (view.depth_low + (view.depth_high - view.depth_low) * share).astype(np.float32)
