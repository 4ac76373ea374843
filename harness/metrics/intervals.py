"""How far a value may be off by the test images: errors, intervals and paired differences.

Each image's influence on a metric is what leaving it out changes, times the images of its class
less one. The spread of these within the normal and within the anomalous images of a category
gives the standard error (the jackknife; of AUROC it is DeLong's). It is linear: influences
of seeds are averaged image by image, those of two methods on the same images subtracted, errors
of categories add up as variances do. What training adds by chance is in none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
LARGE = 1e6  # degrees of freedom at which Student's t is the normal distribution
PRIOR = 0.5  # degrees of freedom of what an error is by the counts of images alone (`interval`)
FLAWLESS = 0.1  # share of test sets without any error from which no lower end is above the truth


@dataclass(frozen=True, eq=False)
class Influence:
    """Of a category's images on a metric: normal (N,), anomalous (M,); ids (N + M,), which."""

    normal: np.ndarray
    anomalous: np.ndarray
    ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: np.ndarray, labels: np.ndarray, ids: Sequence[str] = ()) -> Influence:
        """values (n,) and labels (n,) in the order of ids (n,), which are sorted here."""
        ids = list(ids) or [f"{i:06d}" for i in range(len(labels))]
        order = np.argsort(np.array(ids), kind="stable")
        values, bad = np.asarray(values, float)[order], np.asarray(labels)[order] > 0
        return cls(values[~bad], values[bad], tuple(ids[i] for i in order))

    @property
    def known(self) -> bool:
        """Whether they have a spread: two images of each class, all with a value."""
        return all(len(p) > 1 and bool(np.isfinite(p).all()) for p in (self.normal, self.anomalous))


def of_seeds(parts: Sequence[Influence]) -> Influence | None:
    """On the mean of values that share their images; None if they do not."""
    if not parts or any(part.ids != parts[0].ids for part in parts):
        return None
    if any(len(part.normal) != len(parts[0].normal) for part in parts):
        return None
    normal, anomalous = (
        np.mean([getattr(part, name) for part in parts], axis=0) for name in ("normal", "anomalous")
    )
    return Influence(normal, anomalous, parts[0].ids)


@dataclass(frozen=True)
class Error:
    """Standard error of a value over test images.

    freedom: degrees of it; images: how many independent ones an area without an error counts as
    """

    std: float
    freedom: float
    images: float = 0.0

    @classmethod
    def of_mean(cls, categories: Sequence[Influence]) -> Error | None:
        """Of the mean over these categories, which are fixed; None if one is not known."""
        if not categories or not all(one.known for one in categories):
            return None
        classes = [part for one in categories for part in (one.normal, one.anomalous)]
        variances = np.array([part.var(ddof=1) / len(part) for part in classes])
        whole = float(variances.sum())
        counted = sum(_independent(len(one.normal), len(one.anomalous)) for one in categories)
        if whole == 0:
            return cls(0.0, LARGE, counted)
        unsure = float(np.sum(variances**2 * [_variation(part) for part in classes]))
        freedom = max(1.0, 2 * whole**2 / unsure)
        return cls(math.sqrt(whole) / len(categories), freedom, counted)

    def quantile(self, level: float = LEVEL) -> float:
        """Of Student's t, for an interval of that level."""
        return float(stdtrit(self.freedom, (1 + level) / 2))

    def reach(self, level: float = LEVEL) -> float:
        """Half-width of the symmetric interval."""
        return self.quantile(level) * self.std


def _variation(values: np.ndarray) -> float:
    """Squared coefficient of variation of a sample variance.

    2 / (n - 1) of normal values, more where a few images make the whole variance, less where it is
    spread evenly: Satterthwaite's degrees of freedom, which follow from it, know only the first.
    """
    n, apart = len(values), values - values.mean()
    square = float(np.mean(apart**2))
    excess = float(np.mean(apart**4)) / square**2 - 3 if square > 0 else 0.0
    return max(2 / (n - 1) + excess / n, 0.2 / n)


def _independent(normal: int, anomalous: int) -> float:
    """As how many independent images an AUROC near 1 counts (Hanley and McNeil 1982)."""
    return normal * anomalous / (1 + (normal + anomalous - 2) / 4)


def interval(
    value: float, error: Error, level: float = LEVEL, share: bool = True, smooth: bool = True
) -> tuple[float, float] | None:
    """Around a value; of a share in [0, 1] as Wilson's of a proportion.

    That is, where the value and the truth differ by t standard errors, the error taken at the
    truth: near 1 it reaches further down than up, and stays inside. Images that all but agree do
    not show the rare one that is missed, so the error is drawn towards that of an AUROC of so many
    images, with the weight of PRIOR degrees of freedom beside its own: much where a few images make
    all of it, little otherwise. A value of 1 without an error on any image has a lower end all the
    same: other images might have one; likewise one of 0. None where no image makes a difference
    otherwise, as of scores that are all the same.

    smooth: the influences are what leaving an image out changes. Then, near 1, the upper end may
    miss all that a level lets be missed (`_upper`); of I-F1max, whose error is a little short,
    it may miss half.
    """
    if error.std == 0 and not (share and value in (0, 1)):
        return None
    if not share or not 0 <= value <= 1:
        return value - error.reach(level), value + error.reach(level)
    uncertain = value * (1 - value)
    if uncertain == 0:
        if not error.images:
            return None
        least = error.images / (error.images + stdtrit(LARGE, (1 + level) / 2) ** 2)
        return (float(least), 1.0) if value == 1 else (0.0, float(1 - least))
    of_one = _of_one_image(error, uncertain)
    low, high = _wilson(value, of_one, level)
    high = _upper(value, of_one, level) if smooth else high
    return max(0.0, low), min(1.0, high)


def _of_one_image(error: Error, uncertain: float) -> Error:
    """What the error is by value (1 - value), drawn towards that of its images.

    uncertain: value (1 - value). The variance is one by the images that it counts as.
    """
    seen = error.std**2 / uncertain
    if not error.images:
        return Error(math.sqrt(seen), error.freedom)
    freedom = error.freedom + PRIOR
    variance = (error.freedom * seen + PRIOR / error.images) / freedom
    return Error(math.sqrt(variance), freedom)


def _wilson(value: float, error: Error, level: float) -> tuple[float, float]:
    """Both ends. error: of `_of_one_image`"""
    squared = error.reach(level) ** 2
    middle = (value + squared / 2) / (1 + squared)
    reach = math.sqrt(squared * value * (1 - value) + squared**2 / 4) / (1 + squared)
    return middle - reach, middle + reach


def _upper(value: float, error: Error, level: float) -> float:
    """Upper end of Wilson's interval, or a one-sided one so near 1 that nothing else can miss.

    If n images all agree with the chance of truth^n, in FLAWLESS of the test sets or more, the
    truth is below no lower end, as those of flawless sets are the highest: half of what the level
    lets be missed never is. The upper end then takes that half, too.
    """
    flawless = FLAWLESS ** (error.std**2)
    _, both = _wilson(value, error, level)
    _, alone = _wilson(value, error, 2 * level - 1)
    return min(both, max(alone, flawless))


@dataclass(frozen=True)
class Difference:
    """Of two values on the same images, the first less the second."""

    value: float
    error: Error

    @property
    def p(self) -> float:
        """Two-sided, of no difference."""
        return self.p_beyond(0.0)

    def p_beyond(self, margin: float) -> float:
        """Two-sided, of a difference of the margin at most."""
        beyond = abs(self.value) - margin
        if beyond <= 0:
            return 1.0
        if self.error.std == 0:
            return 0.0
        return float(min(1.0, 2 * stdtr(self.error.freedom, -beyond / self.error.std)))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        reach = self.error.reach(level)
        return self.value - reach, self.value + reach


def paired_difference(
    value: float, one: Sequence[Influence], other: Sequence[Influence]
) -> Difference | None:
    """Of two means over the same categories, in the same order, on the same images.

    value: the first mean less the second. None unless the images are the same, two at least of
    each class in every category.
    """
    if len(one) != len(other) or not one or any(a.ids != b.ids for a, b in zip(one, other)):
        return None
    if any(len(a.normal) != len(b.normal) for a, b in zip(one, other)):
        return None
    less = [
        Influence(a.normal - b.normal, a.anomalous - b.anomalous, a.ids) for a, b in zip(one, other)
    ]
    error = Error.of_mean(less)
    return Difference(value, error) if error else None
