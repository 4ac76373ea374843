"""What there is to score of a category: each part is computed once, by the first that asks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from harness.metrics.by_image import ByImage
from harness.metrics.image import image_ranking
from harness.metrics.pixel import PixelScores
from harness.metrics.ranking import Ranking


class Scored:
    """Image scores, anomaly maps and the truth of a category's test images; what metrics get.

    scores, labels (n,): higher is more anomalous; 0 normal, 1 anomalous
    maps, masks: (n, H, W) or n arrays (H, W) whose sizes may differ; mask value > 0 is anomalous.
    name, ids (n,): the category and its images, as messages shall call them
    curve: (fpr, pro) of the 100-threshold PRO curve, where it is known and the maps are not

    Parts that are not given are None; what is made of them then raises TypeError.
    """

    def __init__(
        self,
        scores=None,
        labels=None,
        maps=None,
        masks=None,
        name: str = "",
        ids: Sequence[str] | None = None,
        curve: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        self.scores, self.labels = (
            None if part is None else np.asarray(part) for part in (scores, labels)
        )  # lists would do in no formula that says `scores[labels == 1]`
        self.maps, self.masks = maps, masks
        self.name, self.ids, self.given = name, ids, curve

    @classmethod
    def of_pixels(cls, pixels: PixelScores, name: str = "") -> Scored:
        """Of pixels that are sorted already; there are no images."""
        scored = cls(name=name)
        scored.pixels = pixels
        return scored

    def check(self) -> None:
        """Raise ValueError for scores and maps that are not finite or do not fit the truth."""
        parts = {"maps": self.maps, "scores": self.scores, "labels": self.labels}
        counts = {what: len(part) for what, part in parts.items() if part is not None}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} {what}" for what, count in counts.items())
            raise ValueError(f"{self.name or 'category'}: {told}")
        if self.scores is not None:
            _ = self.images
        if self.maps is not None:
            _ = self.pixels

    @cached_property
    def images(self) -> Ranking:
        """The image scores of both classes, sorted."""
        return image_ranking(self.scores, self.labels, self.name, self.ids)

    @cached_property
    def pixels(self) -> PixelScores:
        """The scores of all pixels, sorted."""
        pixels = PixelScores.of(self.maps, self.masks, self.name, self.ids)
        pixels.warn_if_degenerate(self.name)
        return pixels

    def by_image(self, of_images: bool) -> ByImage:
        """Each image's part in the sums that metrics of images, or of pixels, are made of."""
        if of_images:
            return ByImage.of_scores(np.asarray(self.scores), np.asarray(self.labels))
        return self.pixels.by_image

    @cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """fpr, pro (101,) of the 100-threshold PRO curve; empty where undefined."""
        return self.pixels.pro_curve() if self.given is None else self.given
