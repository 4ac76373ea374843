"""The metrics against the numbers that the published evaluation code returns.

Limits, cases and sizes are read from the fixtures, so another set runs unchanged.
"""

import warnings

import numpy as np
import pytest

from harness.data.resize import resize
from harness.metrics import LIMITS, PixelScores, evaluate, image_metrics, pixel_metrics
from harness.metrics.pixel import label_regions
from tests.harness.metrics.masks import above_half, any_value, only_full

pytestmark = pytest.mark.parity

SAME = dict(rtol=0, atol=1e-12)
CLOSE = dict(rtol=0, atol=1e-7)  # the official exact tool keeps its FPR in float32

CHECKED = {
    "aupro_100",
    "aupro_1000",
    "aupro_exact",
    "p_auroc",
    "p_ap",
    "p_f1max",
    "i_auroc",
    "i_ap",
    "i_f1max",
    "n_regions",
    "n_regions_4conn",
    "n_normal_pixels",
    "n_anomalous_pixels",
    "aupro_100_float_mask",
    "p_auroc_truncated_mask",
    "p_ap_truncated_mask",
    "p_auroc_half_threshold",
    "aupro_100_half_threshold",
}


@pytest.fixture(scope="module")
def expected(parity):
    return parity("metrics").json("expected")


@pytest.fixture(scope="module")
def cases(parity, expected):
    """name -> (maps, masks, fpr_100, pro_100, expected numbers); the load case among them."""
    files = {"load": parity("metrics").npz("load")}
    for key, array in parity("metrics").npz("cases").items():
        case, part = key.split("/")
        files.setdefault(case, {})[part] = array
    numbers = expected["cases"] | {"load": expected["load"]}
    parts = ("maps", "masks", "fpr_100", "pro_100")
    return {name: (*(files[name][p] for p in parts), numbers[name]) for name in numbers}


def scores_and_labels(maps, masks):
    """The fixtures' rule: score = maximum of the map, label = the mask has a positive pixel."""
    flat = len(maps), -1
    return maps.reshape(flat).max(axis=1), (masks.reshape(flat) > 0).any(axis=1).astype(int)


def quiet_evaluate(maps, masks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate(maps, masks, *scores_and_labels(maps, masks))


def each_case(cases, *keys):
    for name, (maps, masks, _, _, numbers) in cases.items():
        if all(key in numbers for key in keys):
            yield name, maps, masks, numbers


def test_every_recorded_number_has_a_check(expected, cases):
    recorded = {key for *_, numbers in cases.values() for key in numbers}
    assert recorded <= CHECKED
    assert set(expected) <= {
        "limits",
        "cases",
        "load",
        "image_level",
        "degenerate_original_behaviour",
    }


@pytest.mark.parametrize("thresholds", [100, 1000])
def test_aupro_equals_the_papers_code_at_every_limit(cases, expected, thresholds):
    key = f"aupro_{thresholds}"
    for name, maps, masks, numbers in each_case(cases, key):
        pixels = PixelScores.of(maps, masks)
        ours = [pixels.aupro(limit, thresholds) for limit in expected["limits"]]
        np.testing.assert_allclose(ours, numbers[key], **SAME, err_msg=name)


def test_exact_aupro_equals_the_official_tool_at_every_limit(cases, expected):
    for name, maps, masks, numbers in each_case(cases, "aupro_exact"):
        pixels = PixelScores.of(maps, masks)
        ours = [pixels.aupro_exact(limit) for limit in expected["limits"]]
        np.testing.assert_allclose(ours, numbers["aupro_exact"], **CLOSE, err_msg=name)


def test_the_100_threshold_curve_equals_the_recorded_one(cases):
    for name, (maps, masks, fpr, pro, _) in cases.items():
        ours = PixelScores.of(maps, masks).pro_curve()
        np.testing.assert_allclose(ours[0], fpr, **SAME, err_msg=name)
        np.testing.assert_allclose(ours[1], pro, **SAME, err_msg=name)


@pytest.mark.parametrize("key", ["p_auroc", "p_ap", "p_f1max", "i_auroc", "i_ap", "i_f1max"])
def test_evaluate_equals_the_recorded_pixel_and_image_metrics(cases, key):
    for name, maps, masks, numbers in each_case(cases, key):
        wanted = np.nan if numbers[key] is None else numbers[key]
        ours = quiet_evaluate(maps, masks)[key]
        np.testing.assert_allclose(ours, wanted, **SAME, err_msg=name)


def test_evaluate_equals_the_recorded_aupro_in_both_forms(cases, expected):
    for name, maps, masks, numbers in each_case(cases, "aupro_100", "aupro_exact"):
        ours = quiet_evaluate(maps, masks)
        for i, limit in enumerate(expected["limits"]):
            if limit in LIMITS:
                v1, v2 = ours[f"aupro_{limit:g}"], ours[f"aupro_exact_{limit:g}"]
                np.testing.assert_allclose(v1, numbers["aupro_100"][i], **SAME, err_msg=name)
                np.testing.assert_allclose(v2, numbers["aupro_exact"][i], **CLOSE, err_msg=name)


def test_regions_and_pixels_are_counted_as_recorded(cases):
    for name, (maps, masks, _, _, numbers) in cases.items():
        pixels = PixelScores.of(maps, masks)
        four = sum(label_regions(mask > 0, connectivity=4)[1] for mask in masks)
        ours = {
            "n_regions": pixels.regions,
            "n_regions_4conn": four,
            "n_normal_pixels": pixels.normal.size,
            "n_anomalous_pixels": pixels.anomalous.size,
        }
        assert {k: v for k, v in ours.items() if k in numbers} == {
            k: numbers[k] for k in ours if k in numbers
        }, name


def test_mask_rules_reproduce_3dsr(cases, expected):
    """AUPRO counts every non-zero mask value, P-AUROC and P-AP only those that are exactly 1."""
    for name, maps, masks, numbers in each_case(cases, "aupro_100_float_mask"):
        wide = PixelScores.of(maps.astype(np.float64), [any_value(m) for m in masks])
        narrow = PixelScores.of(maps, [only_full(m) for m in masks])
        aupro = [wide.aupro(limit) for limit in expected["limits"]]
        np.testing.assert_allclose(aupro, numbers["aupro_100_float_mask"], **SAME, err_msg=name)
        auroc, ap = numbers["p_auroc_truncated_mask"], numbers["p_ap_truncated_mask"]
        np.testing.assert_allclose(narrow.auroc(), auroc, **SAME, err_msg=name)
        np.testing.assert_allclose(narrow.average_precision(), ap, **SAME, err_msg=name)


def test_mask_rules_reproduce_the_half_threshold(cases, expected):
    for name, maps, masks, numbers in each_case(cases, "aupro_100_half_threshold"):
        pixels = PixelScores.of(maps, [above_half(m) for m in masks])
        aupro = [pixels.aupro(limit) for limit in expected["limits"]]
        np.testing.assert_allclose(aupro, numbers["aupro_100_half_threshold"], **SAME, err_msg=name)
        auroc = numbers["p_auroc_half_threshold"]
        np.testing.assert_allclose(pixels.auroc(), auroc, **SAME, err_msg=name)


def test_image_level_metrics_equal_the_recorded_ones(parity, expected):
    arrays = parity("metrics").npz("cases")
    ours = image_metrics(arrays["image_level/scores"], arrays["image_level/labels"])
    for key, wanted in expected["image_level"].items():
        np.testing.assert_allclose(ours[f"i_{key}"], wanted, **SAME, err_msg=key)


@pytest.mark.filterwarnings("ignore")
def test_where_the_published_code_raises_we_return_nan(cases, expected):
    maps = next(iter(cases.values()))[0]
    fill = {"all_normal": np.zeros, "all_anomalous": np.ones}
    for kind in expected["degenerate_original_behaviour"]:
        pixels = PixelScores.of(maps, fill[kind](maps.shape, np.uint8))
        assert np.isnan(list(pixel_metrics(pixels, expected["limits"]).values())).all(), kind


def test_resizing_conventions_equal_the_recorded_images(parity):
    arrays = parity("metrics").npz("resize")
    results = {key: array for key, array in arrays.items() if "_" in key}
    assert results
    for key, wanted in results.items():
        source, *how, size = key.split("_")
        ours = resize(arrays[source], int(size), "_".join(how))
        if wanted.shape[0] == 3:
            ours = ours.transpose(2, 0, 1)  # recorded as torch keeps it
        assert ours.dtype == wanted.dtype and ours.shape == wanted.shape, key
        one_level = 0 if "nearest" in key else 1  # rounding of uint8 interpolation
        assert np.abs(ours.astype(np.float64) - wanted).max() <= one_level, key
