"""Inputs without an answer give NaN and a warning; inputs that are wrong raise and say where."""

import warnings

import numpy as np
import pytest

from harness.metrics import PixelScores, evaluate, image_metrics, pixel_metrics, signatures
from harness.metrics.pixel import area_to_limit

PIXEL = [name for name in signatures(8) if not name.startswith("i_")]
IMAGE = ["i_auroc", "i_ap", "i_f1max"]


@pytest.fixture
def good():
    """maps, masks, scores, labels of six images, the last two normal."""
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 8, 10), np.uint8)
    masks[:4, 2:5, 3:7] = 255
    maps = rng.random(masks.shape, dtype=np.float32)
    return maps, masks, maps.max(axis=(1, 2)), np.array([1, 1, 1, 1, 0, 0])


def test_sound_input_gives_no_warning_and_no_nan(good):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(list(evaluate(*good, name="bagel").values())).all()


def test_without_any_region_pixel_metrics_are_nan_and_the_warning_names_the_category(good):
    maps, masks, scores, labels = good
    with pytest.warns(UserWarning, match="bagel.*0 anomalous regions"):
        metrics = evaluate(maps, np.zeros_like(masks), scores, labels, name="bagel")
    assert np.isnan([metrics[name] for name in PIXEL]).all()
    assert np.isfinite([metrics[name] for name in IMAGE]).all()


def test_without_any_normal_pixel_pixel_metrics_are_nan_and_the_warning_names_the_category(good):
    maps, masks, scores, labels = good
    with pytest.warns(UserWarning, match="bagel.* 0 normal pixels"):
        metrics = evaluate(maps, np.ones_like(masks), scores, labels, name="bagel")
    assert np.isnan([metrics[name] for name in PIXEL]).all()
    assert np.isfinite([metrics[name] for name in IMAGE]).all()


@pytest.mark.parametrize("only", [0, 1])
def test_with_one_class_of_images_image_metrics_are_nan(good, only):
    maps, masks, scores, labels = good
    with pytest.warns(UserWarning, match="bagel.*without both classes"):
        metrics = evaluate(maps, masks, scores, np.full_like(labels, only), name="bagel")
    assert np.isnan([metrics[name] for name in IMAGE]).all()
    assert np.isfinite([metrics[name] for name in PIXEL]).all()


def test_a_category_without_images_is_nan_everywhere():
    with pytest.warns(UserWarning):
        metrics = evaluate([], [], [], [])
    assert np.isnan(list(metrics.values())).all()


def test_without_a_curve_the_curves_are_empty(good):
    nothing = np.zeros_like(good[1])
    assert [a.size for a in PixelScores.of(good[0], nothing).pro_curve_exact()] == [0, 0]
    assert [a.size for a in PixelScores.of(good[0], nothing).pro_curve()] == [0, 0]


def test_a_shard_without_regions_can_be_merged(good):
    maps, masks, *_ = good
    shards = [PixelScores.of(maps[4:], masks[4:]), PixelScores.of(maps[:4], masks[:4])]
    whole = pixel_metrics(PixelScores.of(maps, masks))
    assert pixel_metrics(PixelScores.merge(shards)) == pytest.approx(whole, abs=1e-12)


def test_a_constant_map_is_worth_nothing_in_100_thresholds_and_half_the_limit_exactly(good):
    maps, masks, scores, labels = good
    metrics = evaluate(np.ones_like(maps), masks, scores, labels)
    assert metrics["aupro_0.3"] == 0.0
    assert abs(metrics["aupro_exact_0.3"] - 0.15) < 1e-12
    assert metrics["p_auroc"] == 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_map_with_a_score_that_is_not_finite_raises_and_names_its_image(good, value):
    maps, masks, scores, labels = good
    maps[3, 1, 6] = value
    with pytest.raises(ValueError, match="image 3 of bagel.*row 1, column 6"):
        evaluate(maps, masks, scores, labels, name="bagel")
    with pytest.raises(ValueError, match=r"image 3 \(hole/003\) of bagel"):
        ids = [f"hole/{i:03d}" for i in range(6)]
        evaluate(maps, masks, scores, labels, name="bagel", ids=ids)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_score_that_is_not_finite_raises_and_names_its_image(good, value):
    maps, masks, scores, labels = good
    scores[2] = value
    with pytest.raises(ValueError, match="image 2 of bagel"):
        evaluate(maps, masks, scores, labels, name="bagel")


def test_half_precision_maps_count_as_single_precision(good):
    maps, masks, scores, labels = good
    half = maps.astype(np.float16)
    assert PixelScores.of(half, masks).normal.dtype == np.float32
    assert evaluate(half, masks, scores, labels) == evaluate(
        half.astype(np.float32), masks, scores, labels
    )


def test_double_precision_maps_keep_scores_apart_that_single_precision_would_tie():
    maps = 1.0 + np.array([[[0.0, 1e-12]]])
    assert PixelScores.of(maps, [[[0, 1]]]).auroc() == 1.0


def test_map_and_mask_of_different_sizes_raise_and_name_the_image(good):
    maps, masks, scores, labels = good
    masks = list(masks)
    masks[2] = masks[2].T
    with pytest.raises(ValueError, match=r"image 2 of bagel.*\(8, 10\).*\(10, 8\)"):
        evaluate(maps, masks, scores, labels, name="bagel")


def test_maps_with_a_channel_axis_raise(good):
    with pytest.raises(ValueError, match="one size"):
        PixelScores.of(good[0][:, None], good[1][:, None])


@pytest.mark.parametrize("short", range(4))
def test_lists_of_different_lengths_raise(good, short):
    arrays = [a[:-1] if i == short else a for i, a in enumerate(good)]
    with pytest.raises(ValueError, match="bagel"):
        evaluate(*arrays, name="bagel")


def test_labels_other_than_0_and_1_raise(good):
    with pytest.raises(ValueError, match="labels are 0 or 1"):
        image_metrics(good[2], good[3] * 255)


@pytest.mark.parametrize("limit", [0, -0.1, 1.5, np.nan])
def test_limits_outside_0_to_1_raise(good, limit):
    pixels = PixelScores.of(good[0], good[1])
    curve = pixels.pro_curve()
    for area in (pixels.aupro, pixels.aupro_exact, lambda at: area_to_limit(*curve, at)):
        with pytest.raises(ValueError, match="not in"):
            area(limit)


@pytest.mark.parametrize("masks", [np.array([[[0, 1]]]), np.array([[[1, 1, 0, 1]]])])
def test_a_single_normal_pixel_is_enough(masks):
    pixels = PixelScores.of(np.arange(masks.size, dtype=np.float32).reshape(masks.shape), masks)
    assert np.isfinite(list(pixel_metrics(pixels).values())).all()
