"""Pixel-level metrics of a category: AUPRO at every limit, P-AUROC, P-AP, P-F1max.

PRO(t) is the mean over ground-truth regions of the share of the region with score > t, FPR(t)
the share of all normal pixels with score > t, and AUPRO@L the area under PRO(FPR) from 0 to L,
divided by L (harness/metrics/README.md, section 3). Two forms are reported:

- `aupro`: the curve at 100 thresholds, as the code of the papers computes it ("v1");
- `aupro_exact`: every distinct score is a threshold, as MVTec's tool does since 2.0 ("v2").

At L = 0.01 they differ by a third of the value. Both, and all other pixel metrics, are read
from one sort of the normal scores.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.metrics.by_image import ByImage, ImagePixels
from harness.metrics.image import image_name
from harness.metrics.images import Images, known_of
from harness.metrics.ranking import Ranking

LIMITS = (0.3, 0.2, 0.1, 0.07, 0.05, 0.03, 0.01)  # upper ends of the FPR; 0.3 is the standard
THRESHOLDS = 100  # of v1, in the code of all the papers


def label_regions(inside: np.ndarray, connectivity: int = 8) -> tuple[np.ndarray, int]:
    """Connected components of a bool mask (H, W).

    -> labels (H, W) int32, 0 outside every component; the number of components
    """
    import cv2

    count, labels = cv2.connectedComponents(
        np.ascontiguousarray(inside).view(np.uint8), connectivity=connectivity
    )
    return labels, count - 1  # OpenCV always counts the background


@dataclass(frozen=True, eq=False)
class PixelScores(Ranking):
    """All pixel scores of some images, sorted once; every pixel metric is a method.

    normal (N,) ascending scores outside every region; anomalous (A,) ascending scores inside;
    weight (A,) float64, 1 / pixels of the region that the anomalous score lies in; regions,
    their number; images (n,), the same of each. Images may be spread over several objects and
    merged.
    """

    weight: np.ndarray
    regions: int
    images: tuple[ImagePixels, ...] = ()

    @classmethod
    def of(cls, maps, masks, name: str = "", ids: Sequence[str] | None = None) -> PixelScores:
        """Collect and sort the scores of all pixels.

        maps, masks: (n, H, W) or n arrays (H, W) whose sizes may differ from image to image, or
        Images, of which one is there at a time; mask value > 0 is anomalous. `name` and `ids`
        (n,) are for messages.
        """
        maps, masks = (
            part if isinstance(part, Images) else [np.asarray(one) for one in part]
            for part in (maps, masks)
        )
        if len(maps) != len(masks):
            raise ValueError(f"{name or 'category'}: {len(maps)} maps but {len(masks)} masks")
        # Half precision is widened, double precision kept: narrowing would make ties.
        count, dtypes = known_of(maps)
        dtype = np.result_type(np.float32, *dtypes)
        normal, filled = np.empty(count, dtype), 0
        anomalous, weight, regions = [np.empty(0, dtype)], [np.empty(0)], 0
        images = []
        for i, (scores, mask) in enumerate(zip(maps, masks)):
            _check(scores, mask, image_name(i, name, ids))
            inside = mask > 0
            outside = scores[~inside]
            normal[filled : filled + outside.size] = outside
            filled += outside.size
            found = 0
            if outside.size < scores.size:
                labels, found = label_regions(inside)
                labels = labels[inside]
                anomalous.append(scores[inside].astype(dtype))
                weight.append(1.0 / np.bincount(labels)[labels])
                regions += found
            bad = (anomalous[-1], weight[-1]) if found else (anomalous[0], weight[0])
            images.append(ImagePixels.of(scores, inside, *bad, found))
        anomalous, weight = np.concatenate(anomalous), np.concatenate(weight)
        return cls._sorted(normal[:filled], anomalous, weight, regions, tuple(images))

    @classmethod
    def merge(cls, shards: Sequence[PixelScores]) -> PixelScores:
        """The scores of all shards together, as if their images had been one category."""
        return cls._sorted(
            np.concatenate([s.normal for s in shards]),
            np.concatenate([s.anomalous for s in shards]),
            np.concatenate([s.weight for s in shards]),
            sum(s.regions for s in shards),
            tuple(image for s in shards for image in s.images),
        )

    @classmethod
    def _sorted(cls, normal, anomalous, weight, regions, images) -> PixelScores:
        normal.sort()  # in place: by far the largest array
        order = np.argsort(anomalous, kind="stable")
        return cls(normal, anomalous[order], weight[order], regions, images)

    @cached_property
    def by_image(self) -> ByImage:
        """Each image's part. Some normal pixels stand for all of an image (by_image.PIXELS)."""
        return ByImage.of_pixels(self.images, self.normal)

    def warn_if_degenerate(self, name: str = "") -> None:
        """Without regions or normal pixels every pixel metric is NaN."""
        if self.is_degenerate:
            warnings.warn(
                f"{name or 'category'}: {self.regions} anomalous regions and {self.normal.size} "
                "normal pixels; without both the pixel metrics are NaN",
                stacklevel=2,
            )

    def aupro(self, limit: float = 0.3, thresholds: int = THRESHOLDS) -> float:
        """AUPRO@limit of the curve at a fixed number of thresholds (v1)."""
        _check_limit(limit)
        if self.is_degenerate:
            return math.nan
        return area_to_limit(*self.pro_curve(thresholds), limit)

    def aupro_exact(self, limit: float = 0.3) -> float:
        """AUPRO@limit with every threshold (v2), in closed form.

        While the threshold falls through a score a inside a region, the FPR runs from lo to hi
        (equal unless normal pixels tie with a); a adds its weight times the mean of what is left
        of [0, limit] over that stretch. So no curve is needed.
        """
        _check_limit(limit)
        if self.is_degenerate:
            return math.nan
        lo = self.false_above / self.normal.size
        starts = lo < limit  # all others are found beyond the limit
        lo, hi = lo[starts], self.false_from[starts] / self.normal.size
        left = limit - (lo + hi) / 2
        cut = hi > limit  # the stretch crosses the limit
        left[cut] = (limit - lo[cut]) ** 2 / (2 * (hi[cut] - lo[cut]))
        return float(self.weight[starts] @ left) / (self.regions * limit)

    def pro_curve(self, thresholds: int = THRESHOLDS) -> tuple[np.ndarray, np.ndarray]:
        """The v1 curve: thresholds at evenly spaced positions in the sorted normal scores.

        -> fpr (thresholds + 1,), pro (thresholds + 1,), rising; empty where undefined.
        The FPR is taken from the position and not counted, so where normal scores tie it is
        too high. The published code does so; kept for parity.
        """
        if self.is_degenerate:
            return np.empty(0), np.empty(0)
        position = np.linspace(0, self.normal.size - 1, thresholds, dtype=np.int64)[::-1]
        fpr = 1.0 - (position + 1) / self.normal.size
        first_above = np.searchsorted(self.anomalous, self.normal[position], side="right")
        return np.append(fpr, 1.0), np.append(self._pro_from[first_above], 1.0)

    def pro_curve_exact(self, max_points: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The v2 curve as a polyline, fpr (T,) and pro (T,), from (0, 0) to (1, 1).

        Two corners for each distinct anomalous score (between them a tie is crossed diagonally);
        with `max_points`, a subset of the corners that draws the same line. Empty where undefined.
        """
        if self.is_degenerate:
            return np.empty(0), np.empty(0)
        scores = self.anomalous
        first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))[::-1]  # high to low
        fpr = np.stack([self.false_above[first], self.false_from[first]], axis=1).ravel()
        after = self._pro_from[first]
        pro = np.stack([np.append(0.0, after[:-1]), after], axis=1).ravel()
        fpr = np.concatenate([[0.0], fpr / self.normal.size, [1.0]])
        pro = np.concatenate([[0.0], np.minimum(pro, 1.0), [1.0]])
        return thin_curve(fpr, pro, max_points) if max_points else (fpr, pro)

    @cached_property
    def _pro_from(self) -> np.ndarray:
        """PRO when the scores from index i upwards are found, (A + 1,)."""
        found = np.cumsum(self.weight[::-1])[::-1] / self.regions
        return np.append(found, 0.0)


def area_to_limit(fpr: np.ndarray, pro: np.ndarray, limit: float) -> float:
    """Area under the polyline from 0 to limit, divided by limit."""
    _check_limit(limit)
    kept = fpr <= limit
    at_limit = np.interp(limit, fpr, pro)
    area = np.trapezoid(np.append(pro[kept], at_limit), np.append(fpr[kept], limit))
    return float(area) / limit


def thin_curve(fpr: np.ndarray, pro: np.ndarray, max_points: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `max_points` of a rising curve's points, the ends among them.

    Steps are even in sqrt(fpr) + pro, so that small FPRs, where the limits are close together,
    keep their detail; no point of the old line is further than 2 / (max_points - 1) from the new
    one in pro or in sqrt(fpr).
    """
    if fpr.size <= max_points:
        return fpr, pro
    way = np.sqrt(fpr) + pro
    kept = np.unique(np.searchsorted(way, np.linspace(0.0, way[-1], max_points)))
    kept[-1] = fpr.size - 1  # of several points at (1, 1) the last
    return fpr[kept], pro[kept]


def _check(scores: np.ndarray, mask: np.ndarray, image: str) -> None:
    if scores.ndim != 2 or scores.shape != mask.shape:
        raise ValueError(f"{image}: map {scores.shape} and mask {mask.shape}, not one size (H, W)")
    if not np.isfinite(scores).all():
        bad = np.argwhere(~np.isfinite(scores))
        raise ValueError(
            f"{image}: {len(bad)} scores of its map are NaN or infinite, the first at row "
            f"{bad[0][0]}, column {bad[0][1]}"
        )


def _check_limit(limit: float) -> None:
    if not 0.0 < limit <= 1.0:
        raise ValueError(f"AUPRO limit {limit!r} is not in (0, 1]")
