"""Everything about a metric stands once, and a metric from outside is one like any other."""

import dataclasses
import math

import numpy as np
import pytest

from harness import metrics
from harness.metrics import Metric, registry
from harness.metrics.pixel import PixelScores

OUTSIDE = Metric(
    "i_miss",
    "I-miss",
    lambda scored: float((scored.scores[scored.labels == 1] < 0.5).mean()),
    needs="scores",
    parts=(("threshold", "0.5"),),
    smaller_is_better=True,
)


@pytest.fixture
def outside():
    yield metrics.register(OUTSIDE)
    registry.forget(OUTSIDE.name)


def example():
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 16, 16), np.uint8)
    masks[:4, 3:8, 4:9] = 255
    maps = rng.random(masks.shape, dtype=np.float32) + 0.3 * (masks > 0)
    return maps, masks, maps.mean(axis=(1, 2)), np.array([1, 1, 1, 1, 0, 0])


def test_a_metric_from_outside_is_computed_and_signed_like_any_other(outside):
    maps, masks, scores, labels = example()
    found = metrics.evaluate(maps, masks, scores, labels)
    assert found["i_miss"] == (scores[:4] < 0.5).mean()
    assert metrics.signatures(16)["i_miss"] == "i_miss|threshold:0.5|v:1"


def test_two_metrics_cannot_have_one_name(outside):
    with pytest.raises(ValueError, match=r"i_miss.*already \(I-miss\)"):
        metrics.register(dataclasses.replace(OUTSIDE, label="another"))
    assert metrics.register(OUTSIDE) is OUTSIDE  # a module that is loaded twice


@pytest.mark.parametrize("name, needs", [("miss", "scores"), ("i_hit", "maps"), ("I_x", "scores")])
def test_a_name_says_what_its_metric_needs(name, needs):
    with pytest.raises(ValueError, match="begins with"):
        Metric(name, "x", lambda scored: 0.0, needs=needs)


def test_a_formula_that_raises_takes_no_other_with_it():
    broken = Metric("p_broken", "broken", lambda scored: 1 / 0, needs="maps")
    metrics.register(broken)
    try:
        with pytest.warns(UserWarning, match="bagel: p_broken is left out: ZeroDivisionError"):
            found = metrics.evaluate(*example(), name="bagel")
    finally:
        registry.forget("p_broken")
    assert "p_broken" not in found
    assert math.isfinite(found["p_auroc"])


def test_aupro_is_known_at_any_limit_in_both_forms():
    maps, masks, *_ = example()
    pixels = PixelScores.of(maps, masks)
    scored = metrics.Scored.of_pixels(pixels)
    assert metrics.get("aupro_0.15").formula(scored) == pixels.aupro(0.15)
    assert metrics.get("aupro_exact_0.15").formula(scored) == pixels.aupro_exact(0.15)
    assert metrics.get("aupro_0.15").label == "AUPRO@0.15"
    for unknown in ("aupro_0.30", "aupro_2", "aupro_", "p_unknown"):
        assert metrics.find(unknown) is None
    with pytest.raises(ValueError, match="unknown metric 'p_unknown'; known: i_auroc"):
        metrics.get("p_unknown")


def test_the_curve_alone_gives_aupro_at_any_limit():
    maps, masks, *_ = example()
    pixels = PixelScores.of(maps, masks)
    scored = metrics.Scored(curve=pixels.pro_curve())
    for limit in (0.3, 0.15, 0.01):
        assert metrics.get(f"aupro_{limit:g}").formula(scored) == pixels.aupro(limit)


def test_scores_and_labels_of_lists_come_to_formulas_as_arrays(outside):
    maps, masks, scores, labels = example()
    as_lists = metrics.evaluate(maps, masks, list(scores), [int(label) for label in labels])
    assert as_lists["i_miss"] == metrics.evaluate(maps, masks, scores, labels)["i_miss"]


def test_metrics_of_images_have_no_resolution_and_old_signatures_are_read_without_it():
    lines = metrics.signatures(224)
    assert [name for name in lines if "res:" not in lines[name]] == ["i_auroc", "i_ap", "i_f1max"]
    old = "i_auroc|curve:roc|thresholds:all|conn:none|res:224x224|mask:>0|v:1"
    known = metrics.get("i_auroc")
    assert known.comparable(old) == lines["i_auroc"]
    assert not known.stale(old)


def test_a_value_of_another_version_is_stale_at_any_resolution():
    old = metrics.get("p_auroc")
    new = dataclasses.replace(old, version=2)
    assert not old.stale(old.signature((400, 900)))
    assert new.stale(old.signature(224))


def test_lists_keep_the_order_that_readers_know():
    names = [metric.name for metric in metrics.known_metrics()]
    first = ["i_auroc", "aupro_0.3", "p_auroc", "i_ap", "i_f1max", "p_ap", "p_f1max"]
    assert names[:10] == [*first, "aupro_exact_0.3", "aupro_0.2", "aupro_exact_0.2"]
    assert metrics.headlines() == first[:3]


@pytest.mark.parametrize(
    "returned, said",
    [(None, "returned None, which"), (np.ones(2), "returned array"), (math.inf, "infinity; NaN")],
)
def test_a_formula_that_returns_no_number_is_a_failure(returned, said):
    odd = Metric("i_odd", "odd", lambda scored: returned, needs="scores")
    with pytest.warns(UserWarning, match=said):
        values, failures = registry.computed(metrics.Scored(), [odd])
    assert not values and said in failures["i_odd"]


@pytest.mark.parametrize(
    "field",
    [
        {"label": 5}, {"formula": 5}, {"version": "a"}, {"unit": None}, {"order": 3},
        {"order": ("x",)}, {"parts": {"a": "b"}}, {"parts": (("a", 1),)},
    ],
)  # fmt: skip
def test_fields_of_another_type_are_refused_when_a_metric_is_made(field):
    given = {"name": "i_odd", "label": "odd", "formula": len, "needs": "scores"} | field
    with pytest.raises(ValueError, match=f"i_odd: .*{next(iter(field))}"):
        Metric(**given)
