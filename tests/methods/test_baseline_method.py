from dataclasses import replace

import numpy as np
import pytest
import torch

import methods
from methods.baseline.colour import lab
from methods.baseline.method import middle_and_spread
from methods.contract import SETTINGS, Samples
from methods.names import BASELINE, BASELINES
from tests.methods.tiny import SAMPLES, tiny_of


@pytest.fixture(scope="module")
def normal():
    return SAMPLES["baseline"]()


def fitted(variant, setting, samples, **changes):
    method = methods.get("baseline")(tiny_of("baseline", variant, **changes), setting)
    method.fit(samples, samples)
    return method


def changed(samples, **arrays):
    return Samples({**samples.arrays, **arrays}, samples.ids)


def test_every_setting_has_a_baseline_and_each_cue_its_own_settings():
    cls = methods.get(BASELINE)
    of = {v: cls.supported(tiny_of("baseline", v)) for v in ("", *cls.variants)}
    depth = ("3d", "rgb+3d")
    on_request = {"missing": depth}
    usual = {"": ("rgb+3d",), "plane": depth, "colour": ("rgb", "rgb+3d")}
    assert of == usual | on_request
    assert {setting for settings in usual.values() for setting in settings} == set(SETTINGS)
    assert set(BASELINES) == {"/".join(filter(None, (BASELINE, variant))) for variant in usual}


def test_the_other_methods_have_every_setting():
    for name in methods.METHODS:
        if name != BASELINE:
            assert methods.get(name).supported(tiny_of(name)) == SETTINGS


def test_depth_that_is_missing_where_it_is_usual_is_found_and_less_of_it_is_not(normal):
    seen = normal.arrays["valid"] | True
    seen[:, :8, :8] = False  # a shadow that all have
    hole, lit = seen.copy(), seen.copy()
    hole[0, 30:36, 20:26] = False
    lit[1, :8, :8] = True
    method = fitted("missing", "3d", changed(normal, valid=seen))
    found = method.predict(changed(normal, valid=hole & (lit | seen)).batch(range(6)))
    row, column = divmod(int(found.maps[0].argmax()), 48)
    assert 30 <= row < 36 and 20 <= column < 26
    assert found.scores[0] == 25 and not found.scores[1:].any()  # pixels of its window of 5 x 5
    assert not method.predict(changed(normal, valid=lit).batch(range(6))).scores.any()


@pytest.mark.parametrize("how", ["pixel", "image"])
def test_a_dent_and_a_stain_are_found_where_they_are(normal, how):
    # no shape, so that one height is normal all over the image
    flat = normal.arrays["height"] * 0 + np.random.default_rng(1).normal(0, 1e-4, (6, 48, 48))
    flat = changed(normal, height=flat.astype(np.float32), rgb=normal.arrays["rgb"] // 8 + 80)
    dent, stain = flat.arrays["height"].copy(), flat.arrays["rgb"].copy()
    dent[0, 10:16, 10:16] -= 0.01
    stain[0, 30:36, 30:36] = (200, 20, 20)
    spoiled = changed(flat, height=dent, rgb=stain)
    for variant, setting, at in (("plane", "3d", 13), ("colour", "rgb", 33)):
        found = fitted(variant, setting, flat, normal=how).predict(spoiled.batch(range(6)))
        assert found.scores.argmax() == 0
        row, column = divmod(int(found.maps[0].argmax()), 48)
        assert abs(row - at) <= 3 and abs(column - at) <= 3
    both = fitted("", "rgb+3d", flat, normal=how).predict(spoiled.batch(range(6)))
    assert both.scores.argmax() == 0
    assert both.maps[0, 13, 13] > both.maps[1:, 13, 13].max()
    assert both.maps[0, 33, 33] > both.maps[1:, 33, 33].max()


def test_a_training_sample_scores_about_one_by_either_cue(normal):
    for variant, setting in (("plane", "3d"), ("colour", "rgb")):
        scores = fitted(variant, setting, normal).predict(normal.batch(range(6))).scores
        assert 0.5 < scores.median() <= 1.0 and scores.max() >= 1.0


def test_both_cues_are_the_mean_of_the_two(normal):
    maps = [
        fitted(variant, "rgb+3d", normal).predict(normal.batch([2])).maps
        for variant in ("", "plane", "colour")
    ]
    assert torch.equal(maps[0], torch.stack(maps[1:]).mean(dim=0))


def test_what_the_sensor_never_saw_is_no_anomaly(normal):
    valid = normal.arrays["valid"].copy()
    valid[:, :20] = False  # in no training sample
    seen = changed(normal, valid=valid, height=np.where(valid, normal.arrays["height"], 0))
    method = fitted("plane", "3d", seen, window=1)
    wild = changed(normal, height=normal.arrays["height"] + 1.0, valid=normal.arrays["valid"])
    maps = method.predict(wild.batch(range(6))).maps
    assert maps.isfinite().all() and not maps[:, :20].any()
    known = torch.from_numpy(normal.arrays["valid"])[:, 20:]
    assert not maps[:, 20:][~known].any() and (maps[:, 20:][known] > 1).all()


def test_constant_samples_give_finite_maps(normal):
    flat = {name: np.zeros_like(array) for name, array in normal.arrays.items()}
    flat = Samples(flat | {"valid": np.ones_like(normal.arrays["valid"])}, normal.ids)
    found = fitted("", "rgb+3d", flat).predict(flat.batch(range(6)))
    assert not found.maps.any() and not found.scores.any()


@pytest.mark.parametrize("how", ["pixel", "image"])
def test_the_statistics_are_those_of_each_pixel_computed_apart(normal, how):
    method = fitted("plane", "3d", normal, normal=how)
    height, valid = normal.arrays["height"], normal.arrays["valid"]
    for y, x in ((5, 7), (24, 24), (47, 0)):
        if how == "pixel":
            seen = np.sort(height[:, y, x][valid[:, y, x]])
        else:
            seen = np.sort(height[:, ::4, ::4][valid[:, ::4, ::4]])
        middle = seen[(len(seen) - 1) // 2]  # the lower of two, as torch has it
        away = np.sort(np.abs(seen - middle))
        found = method.normal["plane"]
        at = (0, y, x) if how == "pixel" else (0, 0, 0)
        assert found.middle[at] == middle
        wanted = 1.4826 * away[(len(away) - 1) // 2]
        assert float(found.spread[at]) == pytest.approx(float(wanted), rel=1e-6)


def test_the_spread_of_a_normal_distribution_is_its_deviation():
    values = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (20_000, 1)))
    values[::7] = torch.nan
    middle, spread = middle_and_spread(values)
    assert float(middle) == pytest.approx(3, abs=0.05)
    assert float(spread) == pytest.approx(2, abs=0.05)


def test_lab_is_that_of_the_standard():
    colours = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    wanted = torch.tensor(  # sRGB's corners in L*a*b*, D65, as tables print them
        [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [53.39, 0, 0]]
    )
    found = lab(colours.T[None, :, :, None])[0, :, :, 0].T
    assert (found - wanted).abs().max() < 0.02


def test_a_wider_noise_makes_anomalies_smaller(normal):
    wide = replace(tiny_of("baseline", "plane"), plane_noise_m=0.5)
    method = methods.get("baseline")(wide, "3d")
    method.fit(normal, normal)
    narrow = fitted("plane", "3d", normal)
    away = {
        name: found.normal["plane"].scale.item()
        for name, found in (("wide", method), ("narrow", narrow))
    }
    assert away["wide"] < away["narrow"] / 50
