"""The bootstrap of I-AUROC over images.

What is resampled: the test images of a category, with replacement, the normal and the anomalous
ones apart, each category on its own; one image fewer than there are of either kind, since draws of
all N of them vary by (N - 1) / N too little, and N can be 20. All seeds of a method are scored on
the same resampled images, and so are all methods, because the draws are seeded by dataset and
category alone: differences between methods are paired. The interval therefore says how much a
mean depends on which images the test set happens to hold; what training adds is the spread over
seeds, shown beside it.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

RESAMPLES = 1000
LEVEL = 0.95


def resampled_auroc(
    normal: np.ndarray, anomalous: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """AUROC of resampled images, the mean over seeds.

    normal (S, N), anomalous (S, M): a row of scores a seed, the same images in every row
    -> (resamples,)
    """
    N, M = normal.shape[1], anomalous.shape[1]
    n_drawn, m_drawn = max(N - 1, 1), max(M - 1, 1)
    times_normal = rng.multinomial(n_drawn, np.full(N, 1 / N), resamples).astype(float)  # (R, N)
    times_anomalous = rng.multinomial(m_drawn, np.full(M, 1 / M), resamples)  # (R, M)
    order = np.zeros((N, M))  # of every pair, twice its share, summed over seeds: whole numbers,
    for n, a in zip(normal, anomalous):  # so the sums below are exact in any order
        order += (n[:, None] < a).astype(float) + (n[:, None] <= a)
    total = ((times_normal @ order) * times_anomalous).sum(axis=1)
    return total / (2 * n_drawn * m_drawn * len(normal))


def interval(
    value: float, draws: np.ndarray, freedom: int, level: float = LEVEL
) -> tuple[float, float]:
    """Of an area in [0, 1], from the spread of its bootstrap draws: symmetric on the logit scale.

    Near 1 the percentiles of few images miss the true area twice as often as they should; the
    logit stretches that end and Student's t of `freedom` pays for the few images. No width where
    the draws have none, as on a test set without a single error: that much the images cannot say.
    """
    spread = float(draws.std(ddof=1))
    if spread == 0 or not 0 < value < 1:
        return value, value
    reach = float(student.ppf((1 + level) / 2, freedom)) * spread / (value * (1 - value))
    low, high = expit(logit(value) - reach), expit(logit(value) + reach)
    return float(low), float(high)
