"""The supporting plane in scenes of depth cameras: tilted tables, strips, clutter, 40 % missing."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from harness.data.samples import Sample
from harness.data.views import background, support
from methods.views import M3dmView
from tests.harness.data.tables import MISSING, OBJECT, Body, Scene, render

THREE = (
    Body("box", (-0.15, 0.05), (0.05, 0.04, 0.08)),
    Body("ball", (0.05, 0.0), (0.06, 0, 0)),
    Body("can", (0.18, -0.05), (0.035, 0, 0.12)),
)
BIG = (Body("box", (0, 0), (0.2, 0.15, 0.1)),)
MANY = tuple(
    Body("can", (x, y), (0.025, 0, 0.06))
    for x in (-0.2, -0.07, 0.07, 0.2)
    for y in (-0.1, 0.05, 0.15)
)
SCENES = {
    "three objects": Scene(bodies=THREE),
    "steep": Scene(tilt_deg=65, bodies=THREE, seed=1),
    "seen from above": Scene(tilt_deg=3, bodies=THREE, distance_m=0.7, seed=2),
    "rolled": Scene(tilt_deg=30, roll_deg=35, bodies=THREE, seed=3),
    "far": Scene(distance_m=1.3, bodies=THREE, seed=4),
    "one large object": Scene(bodies=BIG, half=(0.45, 0.35), seed=5),
    "a strip of table": Scene(
        bodies=(Body("box", (0, 0), (0.1, 0.1, 0.1)), Body("ball", (0.25, 0), (0.05, 0, 0))),
        half=(0.4, 0.13),
        seed=6,
    ),
    "60 % missing": Scene(bodies=THREE, missing=0.6, seed=7),
    "steps of 3 mm": Scene(bodies=THREE, step_m=0.003, noise_m=0.0015, seed=8),
    "many objects": Scene(bodies=MANY, seed=9),
    "the frame is missing": Scene(bodies=THREE, keep=(0.2, 0.1, 0.8, 0.9), seed=10),
    "clutter in the frame": Scene(
        bodies=(*THREE, Body("box", (0.38, 0.28), (0.08, 0.08, 0.3))), seed=11
    ),
    "a finer sensor": Scene(bodies=THREE, step_m=0, noise_m=1e-4, warp_m=1e-4, missing=0.1),
    "the sensor's full size": Scene(bodies=THREE, size=(480, 640), focal=525, seed=12),
    "object larger than its table": Scene(bodies=BIG, half=(0.24, 0.19), seed=13),
    "table on one side": Scene(
        bodies=(Body("box", (0, -0.05), (0.3, 0.2, 0.1)),), half=(0.31, 0.3), seed=14
    ),
    "a floor below": Scene(bodies=THREE, cropped=False, floor=True, seed=15),
    "a wall behind": Scene(bodies=THREE, cropped=False, wall=True, tilt_deg=50, seed=16),
    "wall and floor": Scene(
        bodies=THREE, cropped=False, wall=True, floor=True, tilt_deg=50, seed=17
    ),
}
MAY_BE_FLAGGED = tuple(SCENES)[14:]  # what no rule can tell from the scan alone


def measured(scene: Scene):
    """-> what is found, the plane's error in degrees, recall and precision of the objects"""
    xyz, what, normal = render(scene)
    found = support.find(xyz, seed=0)
    assert found is not None
    turned = np.degrees(np.arccos(np.clip(found.plane[:3] @ normal, -1, 1)))
    hit = (found.above & (what == OBJECT)).sum()
    return found, turned, hit / max((what == OBJECT).sum(), 1), hit / max(found.above.sum(), 1)


@pytest.mark.parametrize("name", SCENES)
def test_plane_and_objects_are_right_or_flagged(name):
    found, turned, recall, precision = measured(SCENES[name])
    if found.doubts:
        assert name in MAY_BE_FLAGGED
    else:
        assert turned < 1 and recall > 0.95 and precision > 0.95


@pytest.mark.slow
def test_other_noise_changes_nothing_of_that():
    tally, worst = Counter(), {"degrees": 0.0, "recall": 1.0, "precision": 1.0}
    for name, scene in SCENES.items():
        for seed in range(100, 105):
            found, turned, recall, precision = measured(replace(scene, seed=seed))
            sure = not found.doubts
            right = turned < 1 and min(recall, precision) > 0.95
            tally[("right" if right else "wrong") if sure else "flagged"] += 1
            assert right if sure else name in MAY_BE_FLAGGED, (name, seed, turned, recall)
            if sure:
                worst["degrees"] = max(worst["degrees"], turned)
                worst["recall"] = min(worst["recall"], recall)
                worst["precision"] = min(worst["precision"], precision)
    print(dict(tally), worst)


@pytest.mark.parametrize("name", MAY_BE_FLAGGED[2:])
def test_where_the_published_recipe_fails_in_silence_this_one_says_so(name):
    xyz, what, _ = render(SCENES[name])
    valid = what != MISSING
    blank = np.zeros((*what.shape, 3), np.uint8)
    sample = Sample("test/good/0", "t", "test", "good", 0, blank, xyz, valid, ~valid)
    kept = background.object_pixels(sample, M3dmView(), 0) & valid
    hit = (kept & (what == OBJECT)).sum()
    assert hit / (what == OBJECT).sum() < 0.95 or hit / kept.sum() < 0.95
    assert support.find(xyz, 0).doubts


def test_the_same_cloud_and_seed_give_the_same_result():
    xyz, _, _ = render(SCENES["three objects"])
    one, other = (support.find(xyz, seed=3) for _ in range(2))
    assert np.array_equal(one.plane, other.plane) and np.array_equal(one.region, other.region)


def test_noise_and_pitch_are_those_of_the_sensor():
    fine, coarse = (
        measured(replace(SCENES["three objects"], step_m=0, warp_m=0, noise_m=n, seed=1))[0]
        for n in (0.0005, 0.002)
    )
    assert coarse.noise_m / fine.noise_m == pytest.approx(4, rel=0.2)
    assert fine.pitch_m == pytest.approx(0.85 / 262.5, rel=0.15)


def test_a_narrow_strip_of_table_is_uncertain():
    wide, thin = (
        measured(Scene(bodies=(), half=(0.3, half), seed=2))[0].error_deg for half in (0.2, 0.012)
    )
    assert thin > 10 * wide


def test_the_region_has_what_is_missing_in_the_object_and_no_table():
    xyz, what, _ = render(SCENES["three objects"])
    found = support.find(xyz, seed=0)
    assert found.region.sum() > found.above.sum()
    assert not (found.region & ~found.above & (what != MISSING)).any()


def test_without_points_there_is_no_plane():
    assert support.find(np.zeros((32, 32, 3), np.float32), 0) is None
    line = np.zeros((32, 32, 3), np.float32)
    line[3, :, 0], line[3, :, 2] = np.arange(32), 1
    found = support.find(line, 0)
    assert found is None or found.doubts


def test_the_best_plane_is_that_of_the_plain_formula_to_the_bit():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(300, 3)) * [0.1, 0.1, 0.02] + [0, 0, 0.5]
    scale, noise = (points[:, 2] / 0.5) ** 2, 2e-3
    found = support._best(points, scale, noise, np.random.default_rng(7))
    three = points[np.random.default_rng(7).integers(0, len(points), (support.HYPOTHESES, 3))]
    normal = np.cross(three[:, 1] - three[:, 0], three[:, 2] - three[:, 0])
    length = np.linalg.norm(normal, axis=1)
    three, normal = three[length > 0], normal[length > 0] / length[length > 0, None]
    distance = -(normal * three[:, 0]).sum(axis=1)
    towards = np.where(distance < 0, -1.0, 1.0)
    normal, distance = normal * towards[:, None], distance * towards
    height = (normal @ points.T + distance[:, None]) / scale
    on, beyond = np.abs(height) <= support.NOISES * noise, height < -support.NOISES * noise
    best = int((on.sum(axis=1) - beyond.sum(axis=1)).argmax())
    rival = (on & ~on[best]).sum(axis=1).max() / max(on[best].sum(), 1)
    assert found is not None and found[1] == rival
    assert np.array_equal(found[0], np.append(normal[best], distance[best]))
