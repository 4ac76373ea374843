import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from harness.metrics.ranking import auroc
from methods.seeds import generator_for
from reports.numbers.statistics import interval, resampled_auroc


def scores(normal, anomalous, seeds=1, shift=1.0, levels=None):
    rng = np.random.default_rng(3)
    n, a = rng.normal(size=(seeds, normal)), rng.normal(shift, size=(seeds, anomalous))
    return (n, a) if levels is None else (np.round(n * levels), np.round(a * levels))


@pytest.mark.parametrize("levels", [None, 2])
def test_the_bootstrap_matches_resampling_one_image_at_a_time(levels):
    normal, anomalous = scores(12, 9, seeds=3, levels=levels)
    draws = resampled_auroc(normal, anomalous, generator_for("x"), resamples=50)
    rng = generator_for("x")
    times_normal = rng.multinomial(11, np.full(12, 1 / 12), 50)
    times_anomalous = rng.multinomial(8, np.full(9, 1 / 9), 50)
    for draw, some_normal, some_anomalous in zip(draws, times_normal, times_anomalous):
        per_seed = []
        for n, a in zip(normal, anomalous):
            n, a = np.repeat(n, some_normal), np.repeat(a, some_anomalous)
            labels = np.repeat([0, 1], [len(n), len(a)])
            per_seed.append(roc_auc_score(labels, np.concatenate([n, a])))
        assert draw == pytest.approx(np.mean(per_seed), abs=1e-12)


def test_the_interval_covers_the_estimate_and_shrinks_with_more_images():
    widths = []
    for images in (20, 80, 320):
        n, a = scores(images, images)
        area = auroc(n[0], a[0])
        low, high = interval(area, resampled_auroc(n, a, generator_for("width", images)), images)
        assert low < area < high
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1] > 2.25 * widths[2]


@pytest.mark.parametrize("area", [0.75, 0.9, 0.95])
def test_the_interval_covers_the_true_area_within_2_points_of_95_percent(area):
    rng, covered = np.random.default_rng(0), 0
    shift = norm.ppf(area) * 2**0.5  # P(a > n) = Phi(shift / sqrt 2)
    for i in range(500):
        n, a = rng.normal(size=(1, 22)), rng.normal(shift, size=(1, 88))
        draws = resampled_auroc(n, a, generator_for("cover", i), 200)
        low, high = interval(auroc(n[0], a[0]), draws, 21)
        covered += low <= area <= high
    assert abs(covered / 500 - 0.95) <= 0.02


def test_a_perfect_score_has_an_interval_without_width():
    assert interval(1.0, np.ones(10), 5) == (1.0, 1.0)


def test_equal_names_give_equal_draws():
    n, a = scores(10, 10)
    one, two, other = (resampled_auroc(n, a, generator_for(*k)) for k in ("ab", "ab", "ba"))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
