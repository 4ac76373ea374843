"""Influences of images, and the intervals and paired differences that they make."""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from harness.metrics import Metric, Scored, get, known_metrics, values_of
from harness.metrics.influence import influences
from harness.metrics.intervals import (
    Error,
    Influence,
    interval,
    of_seeds,
    paired_difference,
)
from harness.metrics.pixel import PixelScores
from harness.metrics.ranking import auroc
from tests.benchmarks import bench_intervals, bench_intervals_published

N, M, CATEGORIES = 22, 60, 4


def category(seed=0, normal=8, defective=14, side=40, levels=None):
    """Maps with a smooth background and blobs of different contrast, and what is true of them."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [normal, defective])
    maps, masks = rng.normal(size=(len(labels), side, side)), np.zeros((len(labels), side, side))
    maps += rng.normal(0, 0.5, (len(labels), 1, 1))
    for i in np.flatnonzero(labels):
        for y, x in rng.integers(2, side - 8, (rng.integers(1, 3), 2)):
            masks[i, y : y + 6, x : x + 4] = 1
        maps[i] += masks[i] * rng.normal(2, 1)
    if levels:
        maps = np.round(maps * levels)
    return Scored(maps.max(axis=(1, 2)), labels, maps.astype(np.float32), masks)


def without(scored, i):
    kept = np.arange(len(scored.labels)) != i
    return Scored(scored.scores[kept], scored.labels[kept], scored.maps[kept], scored.masks[kept])


@pytest.mark.parametrize("levels", [None, 3])
def test_an_influence_is_what_leaving_the_image_out_changes(levels):
    scored = category(levels=levels)
    metrics = [m for m in known_metrics() if m.influences is None]
    metrics = [m for m in metrics if levels is None or not m.name.startswith("aupro_0")]
    found, whole = influences(scored, metrics), values_of(scored, metrics)
    assert set(found) == {metric.name for metric in metrics}
    picked = [0, 3, 9, 15, 21]
    left = [values_of(without(scored, i), metrics) for i in picked]
    for metric in metrics:
        others = np.where(scored.labels[picked] > 0, 13, 7)
        expected = others * (whole[metric.name] - np.array([v[metric.name] for v in left]))
        rough = 0.4 if metric.name.startswith("aupro_0") else 0.1  # 100 thresholds are few
        tolerance = 1e-5 if metric.of_images else rough * float(np.std(found[metric.name]))
        assert found[metric.name][picked] == pytest.approx(expected, abs=tolerance), metric.name


def test_the_influence_on_auroc_is_the_share_of_the_other_class_that_an_image_beats():
    scored = category()
    found = influences(scored, [get("i_auroc")])["i_auroc"]
    good, bad = scored.scores[scored.labels == 0], scored.scores[scored.labels == 1]
    area = auroc(good, bad)
    assert found[8:] == pytest.approx([(good < a).mean() - area for a in bad], abs=1e-6)
    assert found[:8] == pytest.approx([(bad > n).mean() - area for n in good], abs=1e-6)


def test_few_normal_pixels_stand_for_all_of_a_large_image(monkeypatch):
    monkeypatch.setattr("harness.metrics.by_image.PIXELS", 10**9)
    scored = category(side=90)
    whole = influences(scored, [get("aupro_exact_0.3")])["aupro_exact_0.3"]
    monkeypatch.setattr("harness.metrics.by_image.PIXELS", 1000)
    some = influences(category(side=90), [get("aupro_exact_0.3")])["aupro_exact_0.3"]
    assert np.corrcoef(whole, some)[0, 1] > 0.99 and not np.array_equal(whole, some)


def test_shards_give_the_influences_of_the_whole():
    scored = category()
    parts = [
        PixelScores.of(scored.maps[rows], scored.masks[rows]) for rows in (slice(9), slice(9, 99))
    ]
    merged = PixelScores.merge(parts).by_image
    assert np.array_equal(merged.false, scored.pixels.by_image.false)
    assert np.array_equal(merged.overlap, scored.pixels.by_image.overlap)


def test_a_metric_of_images_from_outside_is_computed_without_each_image():
    def formula(scored):
        return float(np.mean(scored.scores[scored.labels > 0]))

    scored = category()
    found = influences(scored, [Metric("i_level", "level", formula, needs="scores")])["i_level"]
    bad = scored.scores[scored.labels == 1]
    assert found[8:] == pytest.approx(bad - bad.mean(), abs=1e-4) and not found[:8].any()


def test_an_influence_on_the_best_f1_is_what_more_of_the_image_would_change():
    """Of two levels of scores the upper one is the best threshold, whichever images are drawn."""
    scores = np.repeat([0.0, 1.0, 1.0, 0.0], [20, 1, 18, 2])  # normal, false alarm, found, missed
    labels = np.repeat([0, 1], [21, 20])
    found = influences(Scored(scores, labels), [get("i_f1max")])["i_f1max"]
    marked = 18 + 1 + 20
    best = 2 * 18 / marked
    assert found[:20] == pytest.approx(0) and found[20] == pytest.approx(-21 * best / marked)
    assert found[21:39] == pytest.approx(20 * (2 - 2 * best) / marked)
    assert found[39:] == pytest.approx(-20 * best / marked)


def test_a_best_f1_that_one_class_alone_gives_has_an_error_all_the_same():
    """Where scores tell little, taking all images for defective is best: no image changes it."""
    rng = np.random.default_rng(0)
    scored = Scored(rng.normal(size=110), np.repeat([0, 1], [22, 88]))
    metric = get("i_f1max")
    whole = values_of(scored, [metric])["i_f1max"]
    assert whole == pytest.approx(2 * 88 / (88 + 110), abs=0.01)
    low, high = interval(
        whole, Error.of_mean([Influence.of(influences(scored, [metric])["i_f1max"], scored.labels)])
    )
    assert low < whole < high and high - low > 0.002
    one = Scored(scored.scores[:22], scored.labels[:22])
    assert np.isnan(influences(one, [metric])["i_f1max"]).all()


def test_the_interval_of_the_best_f1_covers_its_mean_over_test_sets():
    draw = bench_intervals.binormal(0.9)
    share = bench_intervals.covered(
        lambda rng: bench_intervals.drawn_scores(draw, rng, 22, 88), {"i_f1max": math.nan}, 300
    )["i_f1max"]
    assert 0.92 <= share <= 0.99


def test_test_sets_of_the_published_sizes_are_held_by_category_and_on_the_mean():
    sizes = bench_intervals_published.sizes_of("mvtec3d")
    assert sizes["bagel"] == (22, 88) and sizes["rope"] == (32, 69)
    assert len(bench_intervals_published.printed_areas()) == 21
    categories = [
        bench_intervals_published.of_scores(bench_intervals.binormal(area), (8, 12))
        for area in (0.8, 0.9)
    ]
    each, mean = bench_intervals_published.held_together(categories, ["i_auroc"], 100, 0)
    assert [one["i_auroc"].truth for one in each] == pytest.approx([0.8, 0.9], abs=0.005)
    assert mean["i_auroc"].truth == pytest.approx(0.85, abs=0.005)
    assert all(one["i_auroc"].share > 0.9 for one in (*each, mean))


def test_a_metric_of_pixels_that_knows_nothing_of_weights_has_no_influences():
    metric = Metric("p_some", "some", lambda scored: 0.5, needs="maps")
    assert influences(category(), [metric]) == {}


def test_without_a_second_image_of_a_class_nothing_can_be_told():
    scored = category(normal=1)
    found = influences(scored, [get("i_auroc")])["i_auroc"]
    assert Error.of_mean([Influence.of(found, scored.labels)]) is None


def drawn(rng, shift=1.5, normal=N, anomalous=M):
    scores = np.concatenate([rng.normal(size=normal), rng.normal(shift, size=anomalous)])
    labels = np.repeat([0, 1], [normal, anomalous])
    found = influences(Scored(scores, labels), [get("i_auroc")])["i_auroc"]
    return auroc(scores[:normal], scores[normal:]), Influence.of(found, labels)


def test_the_interval_holds_the_value_and_shrinks_with_more_images():
    widths = []
    for images in (20, 80, 320):
        area, found = drawn(np.random.default_rng(3), 1.0, images, images)
        low, high = interval(area, Error.of_mean([found]))
        assert 0 < low < area < high < 1
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1] > 2.25 * widths[2]


@pytest.mark.parametrize("area", [0.75, 0.9, 0.95])
def test_the_interval_covers_the_true_area_within_2_points_of_95_percent(area):
    rng, covered = np.random.default_rng(0), 0
    shift = norm.ppf(area) * 2**0.5  # P(a > n) = Phi(shift / sqrt 2)
    for _ in range(600):
        value, found = drawn(rng, shift, 22, 88)
        low, high = interval(value, Error.of_mean([found]))
        covered += low <= area <= high
    assert abs(covered / 600 - 0.95) <= 0.02


@pytest.mark.slow
def test_intervals_of_pixel_metrics_cover_what_many_images_show():
    truth = bench_intervals.truth_of_maps(3.0, 22, 88)
    found = bench_intervals.covered(
        lambda rng: bench_intervals.drawn_maps(3.0, rng, 22, 88), truth, 1000
    )
    assert all(0.91 <= share <= 0.985 for share in found.values()), found


def test_a_perfect_score_has_a_lower_end_that_more_images_raise():
    ends = []
    for images in (10, 25, 100):
        value, found = drawn(np.random.default_rng(0), 9.0, images, images)
        low, high = interval(value, Error.of_mean([found]))
        assert value == high == 1.0
        ends.append(low)
    assert 0.7 < ends[0] < ends[1] < ends[2] < 0.99


def test_where_no_image_makes_a_difference_nothing_is_known_of_the_error():
    labels = np.repeat([0, 1], [3, 4])
    scored = Scored(np.full(7, 0.4), labels)
    error = Error.of_mean([Influence.of(influences(scored, [get("i_auroc")])["i_auroc"], labels)])
    assert error.std == 0 and interval(0.5, error) is None
    assert interval(0.0, error) == pytest.approx([0.0, 1 - interval(1.0, error)[0]])


def test_the_interval_is_where_the_truth_may_be_and_stays_inside():
    low, high = interval(0.7, Error(0.05, 1e6))
    for end in (low, high):  # the error at the end, of as many images
        reached = abs(end - 0.7) / (0.05 * math.sqrt(end * (1 - end) / 0.21))
        assert reached == pytest.approx(1.96, abs=0.001)
    assert interval(0.999, Error(0.3, 3))[1] <= 1


def of_counts(agree, images):
    """Value and error of a share of images, each of which agrees or not."""
    value = agree / images
    return value, Error(math.sqrt(value * (1 - value) / images), 1e6)


def test_the_upper_end_near_1_misses_what_the_lower_end_never_does():
    """Of 40 images: the chance of each outcome is known, and so how often the truth is held."""
    ends = [interval(*of_counts(agree, 40)) for agree in range(1, 40)]
    ends.append(interval(1.0, Error(0.0, 1e6, 40)))
    low, high = np.array(ends).T
    truths = np.linspace(0.92, 0.99, 29)[:, None]
    chance = binom.pmf(np.arange(1, 41), 40, truths)
    assert not (chance * (low > truths)).any()
    missed = (chance * (high < truths)).sum(axis=1)
    assert 0.04 < missed.mean() < 0.075  # whole images: by steps, around 5 %
    for smooth, reach in ((True, 1.645), (False, 1.96)):
        value, error = of_counts(39, 40)
        _, end = interval(value, error, smooth=smooth)
        reached = (end - value) / math.sqrt(end * (1 - end) / 40)
        assert reached == pytest.approx(reach, abs=0.001)


def test_between_both_the_upper_end_is_where_one_set_in_ten_is_flawless():
    found = np.array([interval(*of_counts(agree, 400))[1] for agree in range(360, 400)])
    whole = np.array(
        [interval(*of_counts(agree, 400), smooth=False)[1] for agree in range(360, 400)]
    )
    assert (np.diff(found) >= 0).all() and (found <= whole).all()
    edge = 0.1 ** (1 / 400)
    assert found[whole <= edge] == pytest.approx(whole[whole <= edge])
    assert (found[whole > edge] >= edge).all() and found[-1] < whole[-1]


def test_where_few_images_make_all_of_the_error_the_interval_reaches_further():
    rare, even = Error(0.002, 2.0, 50), Error(0.002, 60.0, 50)
    low, high = interval(0.997, rare)
    alone, _ = interval(0.997, Error(0.002, 2.0))
    assert low < alone - 0.005 and 0.997 < high <= 1  # as the images are drawn towards so many
    assert interval(0.997, even)[0] == pytest.approx(
        interval(0.997, Error(0.002, 60.0))[0], abs=1e-3
    )


def near_the_upper_end(rng):
    """Losses of which one in thirty images makes nearly all, and the mean value: .997"""
    losses = np.where(rng.random(88) < 1 / 30, 0.08, 0.0003)
    bad, good = losses.mean() - losses, np.full(22, 0.0002) * rng.normal(size=22)
    return 1 - losses.mean(), Influence(good - good.mean(), bad)


def test_intervals_near_the_upper_end_hold_the_truth_though_the_rare_image_is_missing():
    rng, truth = np.random.default_rng(0), 1 - (0.08 / 30 + 0.0003 * 29 / 30)
    ends = [
        interval(v, Error.of_mean([one]))
        for v, one in (near_the_upper_end(rng) for _ in range(600))
    ]
    assert np.mean([low <= truth <= high for low, high in ends]) > 0.93


def test_a_value_in_another_unit_has_a_symmetric_interval():
    low, high = interval(12.0, Error(1.0, 1e6), share=False)
    assert (low, high) == pytest.approx((12 - 1.96, 12 + 1.96), abs=0.001)


def test_seeds_are_averaged_image_by_image_and_others_are_not():
    rng = np.random.default_rng(0)
    one, other = (Influence.of(rng.normal(size=9), np.arange(9) > 3, "abcdefghi") for _ in "ab")
    both = of_seeds([one, other])
    assert both.normal == pytest.approx((one.normal + other.normal) / 2)
    assert of_seeds([one, Influence.of(rng.normal(size=9), np.arange(9) > 3, "abcdefghj")]) is None
    assert of_seeds([]) is None


def test_images_are_told_apart_by_their_ids_whatever_their_order():
    rng = np.random.default_rng(0)
    values, labels, ids = rng.normal(size=6), np.array([0, 0, 0, 1, 1, 1]), list("abcdef")
    order = rng.permutation(6)
    one = Influence.of(values, labels, ids)
    other = Influence.of(values[order], labels[order], [ids[i] for i in order])
    assert one.ids == other.ids and np.array_equal(one.normal, other.normal)


def pair(rng, shift_one, shift_other):
    """Two methods on the same images; their scores share half their variance."""
    means, sides = [], ([], [])
    labels = np.repeat([0, 1], [N, M])
    for _ in range(CATEGORIES):
        shared, areas = rng.normal(size=N + M), []
        for side, shift in zip(sides, (shift_one, shift_other)):
            scores = shared + rng.normal(size=N + M) + shift * labels
            found = influences(Scored(scores, labels), [get("i_auroc")])["i_auroc"]
            side.append(Influence.of(found, labels))
            areas.append(auroc(scores[:N], scores[N:]))
        means.append(areas[0] - areas[1])
    return float(np.mean(means)), *sides


def test_the_error_of_a_difference_equals_that_of_simulated_test_sets():
    rng = np.random.default_rng(1)
    found = [paired_difference(*pair(rng, 1.0, 1.6)) for _ in range(200)]
    spread = np.std([d.value for d in found])
    assert np.mean([d.error.std for d in found]) == pytest.approx(spread, rel=0.1)


def test_without_a_difference_the_test_finds_one_in_about_5_of_100():
    rng = np.random.default_rng(2)
    p_values = np.array([paired_difference(*pair(rng, 1.4, 1.4)).p for _ in range(300)])
    assert 0.02 <= (p_values < 0.05).mean() <= 0.08


def test_a_real_difference_is_found_more_often_in_pairs_than_apart():
    rng = np.random.default_rng(3)
    found = [pair(rng, 1.0, 1.6) for _ in range(100)]
    paired = [paired_difference(*one).p < 0.05 for one in found]
    apart = [
        paired_difference(value, a, b).p < 0.05
        for (value, a, _), (_, _, b) in zip(found, [*found[1:], found[0]])
    ]
    assert np.mean(paired) > np.mean(apart) + 0.1


def test_different_images_are_not_paired():
    _, one = drawn(np.random.default_rng(4))
    other = Influence(one.normal, one.anomalous, ("x", *one.ids[1:]))
    assert paired_difference(0.0, [one], [other]) is None
    assert paired_difference(0.0, [one], []) is None and paired_difference(0.0, [], []) is None


def test_equal_scores_do_not_differ_and_a_difference_without_spread_is_certain():
    _, one = drawn(np.random.default_rng(5))
    found = paired_difference(0.0, [one], [one])
    assert (found.value, found.error.std, found.p) == (0.0, 0.0, 1.0)
    assert paired_difference(0.1, [one], [one]).p == 0.0


def test_a_difference_within_the_margin_is_none():
    _, one = drawn(np.random.default_rng(5))
    _, other = drawn(np.random.default_rng(6))
    found = paired_difference(0.1, [one], [other])
    assert found.p_beyond(0.2) == 1.0 > found.p_beyond(0.05) > found.p
    assert math.isclose(sum(found.interval()) / 2, 0.1)
