"""Pixel metrics against slow versions that anyone can believe, and against themselves."""

import numpy as np
import pytest
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from harness.metrics import (
    LIMITS,
    PixelScores,
    evaluate,
    evaluate_with_curves,
    image_metrics,
    pixel_metrics,
    signatures,
)
from harness.metrics.pixel import area_to_limit, thin_curve

LEVELS = [3, 12, None]  # distinct scores: many ties, some, none


def example(levels=None, n=5, height=14, width=11, seed=0):
    """Maps (n, H, W) float32 that are somewhat right, ragged masks (n, H, W), the last empty."""
    rng = np.random.default_rng(seed)
    masks = (rng.random((n, height, width)) < 0.15).astype(np.uint8)
    masks[-1] = 0
    maps = rng.random((n, height, width)) + 0.4 * masks
    if levels:
        maps = np.round(maps * levels) / levels
    return maps.astype(np.float32), masks


def labelled(maps, masks):
    return maps.max(axis=(1, 2)), masks.any(axis=(1, 2)).astype(int)


def overlap_of_regions(over, masks):
    """PRO of bool predictions (n, H, W), region by region."""
    overlaps = []
    for o, mask in zip(over, masks):
        regions, count = label(mask, structure=np.ones((3, 3)))
        overlaps += [o[regions == r].mean() for r in range(1, count + 1)]
    return np.mean(overlaps)


def curve_one_threshold_at_a_time(maps, masks):
    fpr, pro = [0.0], [0.0]
    for t in sorted(set(maps.ravel()), reverse=True):
        fpr.append((maps >= t)[masks == 0].mean())
        pro.append(overlap_of_regions(maps >= t, masks))
    return np.array(fpr), np.array(pro)


@pytest.mark.parametrize("levels", LEVELS)
def test_exact_aupro_equals_the_area_under_the_curve_of_all_thresholds(levels):
    maps, masks = example(levels)
    fpr, pro = curve_one_threshold_at_a_time(maps, masks)
    pixels = PixelScores.of(maps, masks)
    for limit in (*LIMITS, 1.0):
        assert abs(pixels.aupro_exact(limit) - area_to_limit(fpr, pro, limit)) < 1e-12


@pytest.mark.parametrize("levels", LEVELS)
def test_exact_curve_passes_through_every_threshold(levels):
    maps, masks = example(levels)
    fpr, pro = PixelScores.of(maps, masks).pro_curve_exact()
    assert (np.diff(fpr) >= 0).all() and (np.diff(pro) >= 0).all()
    for f, p in zip(*curve_one_threshold_at_a_time(maps, masks)):
        # fpr + pro grows along the line, also where one of the two stands still
        assert abs(np.interp(f + p, fpr + pro, fpr) - f) < 1e-12
        assert abs(np.interp(f + p, fpr + pro, pro) - p) < 1e-12


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("thresholds", [7, 100])
def test_100_threshold_curve_equals_one_threshold_at_a_time(levels, thresholds):
    maps, masks = example(levels)
    fpr, pro = PixelScores.of(maps, masks).pro_curve(thresholds)
    normal = np.sort(maps[masks == 0])
    for k in range(thresholds):
        position = (thresholds - 1 - k) * (normal.size - 1) // (thresholds - 1)
        assert abs(fpr[k] - (normal.size - position - 1) / normal.size) < 1e-12
        assert abs(pro[k] - overlap_of_regions(maps > normal[position], masks)) < 1e-12
    assert fpr[-1] == pro[-1] == 1.0


@pytest.mark.parametrize("levels", LEVELS)
def test_auroc_ap_and_f1_equal_scikit_learn(levels):
    maps, masks = example(levels)
    truth, scores = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    ours = image_metrics(scores, truth)  # the same ranking serves images and pixels
    pixels = PixelScores.of(maps, masks)
    assert abs(pixels.auroc() - roc_auc_score(truth, scores)) < 1e-12
    assert abs(pixels.average_precision() - average_precision_score(truth, scores)) < 1e-12
    assert abs(pixels.f1_max() - f1.max()) < 1e-12
    assert list(ours.values()) == [pixels.auroc(), pixels.average_precision(), pixels.f1_max()]


@pytest.mark.parametrize("levels", LEVELS)
def test_metrics_of_images_in_another_order_are_the_same(levels):
    maps, masks = example(levels)
    scores, labels = labelled(maps, masks)
    order = np.random.default_rng(1).permutation(len(maps))
    mixed = evaluate(maps[order], masks[order], scores[order], labels[order])
    assert mixed == pytest.approx(evaluate(maps, masks, scores, labels), abs=1e-12)


@pytest.mark.parametrize("levels", LEVELS)
def test_only_the_order_of_the_scores_matters(levels):
    maps, masks = example(levels)
    scores, labels = labelled(maps, masks)
    grown = evaluate(np.exp(3 * maps.astype(float)) - 7, masks, np.exp(3 * scores) - 7, labels)
    assert grown == evaluate(maps, masks, scores, labels)


@pytest.mark.parametrize("cuts", [[2], [1, 3], [4]])
def test_merged_shards_equal_the_whole(cuts):
    maps, masks = example(levels=12)
    shards = [PixelScores.of(*part) for part in zip(np.split(maps, cuts), np.split(masks, cuts))]
    merged, whole = PixelScores.merge(shards), PixelScores.of(maps, masks)
    np.testing.assert_array_equal(merged.normal, whole.normal)
    np.testing.assert_array_equal(merged.anomalous, whole.anomalous)
    assert merged.regions == whole.regions
    assert pixel_metrics(merged) == pytest.approx(pixel_metrics(whole), abs=1e-12)


def test_images_of_different_sizes_count_by_their_pixels():
    sizes = (9, 14), (20, 5), (1, 1)
    parts = [example(n=2, height=h, width=w) for h, w in sizes]
    maps = [m for images, _ in parts for m in images]
    masks = [k for _, images in parts for k in images]
    pixels = PixelScores.of(maps, masks)
    flat, truth = (np.concatenate([a.ravel() for a in arrays]) for arrays in (maps, masks))
    assert pixels.normal.size + pixels.anomalous.size == flat.size
    assert abs(pixels.auroc() - roc_auc_score(truth, flat)) < 1e-12
    thresholds = sorted(set(flat), reverse=True)
    fpr = [0.0] + [(flat >= t)[truth == 0].mean() for t in thresholds]
    pro = [0.0] + [overlap_of_regions([m >= t for m in maps], masks) for t in thresholds]
    assert abs(pixels.aupro_exact(0.3) - area_to_limit(np.array(fpr), np.array(pro), 0.3)) < 1e-12


def test_evaluate_takes_lists_arrays_and_any_layout_alike():
    maps, masks = example()
    scores, labels = labelled(maps, masks)
    wanted = evaluate(maps, masks, scores, labels)
    assert evaluate(list(maps), list(masks), list(scores), list(labels)) == wanted
    assert evaluate(maps, masks > 0, scores, labels > 0) == wanted
    fortran = [np.asfortranarray(m) for m in maps], [np.asfortranarray(m) for m in masks]
    assert evaluate(*fortran, scores, labels) == wanted


def test_evaluate_leaves_its_inputs_alone():
    maps, masks = example()
    before = maps.copy(), masks.copy()
    evaluate(maps, masks, *labelled(maps, masks))
    np.testing.assert_array_equal(maps, before[0])
    np.testing.assert_array_equal(masks, before[1])


def test_a_region_that_covers_its_whole_image_counts():
    maps, masks = example()
    masks[0] = 1
    assert PixelScores.of(maps[:1], masks[:1]).regions == 1
    fpr, pro = curve_one_threshold_at_a_time(maps, masks)
    ours = PixelScores.of(maps, masks).aupro_exact(0.3)
    assert abs(ours - area_to_limit(fpr, pro, 0.3)) < 1e-12


def test_pixels_that_touch_at_a_corner_are_one_region():
    assert PixelScores.of(np.zeros((1, 6, 6), np.float32), np.eye(6)[None]).regions == 1


def test_random_scores_give_half_the_limit_and_half_the_roc():
    rng = np.random.default_rng(0)
    masks = rng.random((6, 60, 60)) < 0.2
    pixels = PixelScores.of(rng.random(masks.shape), masks)
    assert abs(pixels.auroc() - 0.5) < 0.02
    assert abs(pixels.aupro_exact(0.3) - 0.15) < 0.02


def test_the_stored_curve_is_short_and_gives_the_same_area():
    maps, masks = example(n=40, height=60, width=60)
    metrics, curves = evaluate_with_curves(maps, masks, *labelled(maps, masks))
    fpr, pro = curves["fpr_exact"], curves["pro_exact"]
    whole = PixelScores.of(maps, masks).pro_curve_exact()
    assert len(fpr) <= 1000 < len(whole[0])
    assert (fpr[0], pro[0], fpr[-1], pro[-1]) == (0, 0, 1, 1)
    assert set(zip(fpr, pro)) <= set(zip(*whole))
    for limit in LIMITS:
        assert abs(area_to_limit(fpr, pro, limit) - metrics[f"aupro_exact_{limit:g}"]) < 1e-3
        area = area_to_limit(curves["fpr_100"], curves["pro_100"], limit)
        assert area == metrics[f"aupro_{limit:g}"]


@pytest.mark.parametrize("points", [2, 10, 200])
def test_a_thinned_curve_keeps_its_ends_and_stays_near_every_point(points):
    rng = np.random.default_rng(points)
    fpr, pro = (np.append(0.0, np.sort(rng.random(5000) ** 3)) for _ in range(2))
    fpr[-1] = pro[-1] = 1.0
    f, p = thin_curve(fpr, pro, points)
    assert len(f) <= points and (f[0], p[0], f[-1], p[-1]) == (0, 0, 1, 1)
    for a, b in zip(fpr, pro):
        assert np.maximum(abs(np.sqrt(f) - np.sqrt(a)), abs(p - b)).min() <= 2 / (points - 1)


def test_every_metric_has_a_signature_of_its_own():
    maps, masks = example()
    names = evaluate(maps, masks, *labelled(maps, masks))
    lines = signatures(224)
    assert set(lines) == set(names)
    assert len(set(lines.values())) == len(lines)
    assert lines["aupro_0.3"] == "aupro_0.3|curve:pro|thresholds:100|conn:8|res:224x224|mask:>0|v:1"
    assert "thresholds:all" in lines["aupro_exact_0.3"]
    assert "res:400x900" in signatures((400, 900))["p_auroc"]
    assert "res:native" in signatures("native")["p_auroc"]
