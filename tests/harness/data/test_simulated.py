"""Defects made into normal validation samples."""

import numpy as np
import pytest

from harness.data.cache import open_split
from harness.data.samples import DataError
from harness.data.views.build import build_view
from harness.data.views.simulated import KINDS, SPLIT, patch, simulate, spoil
from methods.views import Das3dView
from tests.harness.data.scans import write_category


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    return write_category(tmp_path_factory.mktemp("data"), height=64, width=80, validation=3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_what_its_kind_says_and_only_under_its_mask(kind, category):
    sample = category.samples("validation")[0].read()
    rng = np.random.default_rng(0)
    rgb, xyz, mask = spoil(sample, sample.valid, kind, rng)
    assert mask.any() and not (mask & ~sample.valid).any()
    colour = (rgb != sample.rgb).any(axis=-1)
    shape = (xyz != sample.xyz).any(axis=-1)
    assert not ((colour | shape) & ~mask).any()
    assert colour.any() == (kind != "shape") and shape.any() == (kind != "colour")
    assert rgb.dtype == np.uint8 and xyz.dtype == np.float32


def test_a_changed_point_stays_on_the_ray_of_its_pixel(category):
    sample = category.samples("validation")[0].read()
    _, xyz, mask = spoil(sample, sample.valid, "shape", np.random.default_rng(1))
    before, after = sample.xyz[mask], xyz[mask]
    known = before[:, 2] != 0
    for axis in (0, 1):
        assert np.allclose(
            (after[:, axis] / after[:, 2])[known],
            (before[:, axis] / before[:, 2])[known],
            atol=1e-5,
        )


def test_every_validation_sample_has_one_twin_and_kinds_take_turns(category):
    refs = category.samples("validation")
    twins = simulate(refs, "plane")
    assert [twin.kind for twin in twins] == list(KINDS)
    assert [twin.id for twin in twins] == [f"simulated/{k}/{r.name}" for k, r in zip(KINDS, refs)]
    first, again = (simulate(refs, "plane")[2].read() for _ in range(2))
    assert np.array_equal(first.rgb, again.rgb) and np.array_equal(first.xyz, again.xyz)
    assert first.label == 1 and first.mask.any()


def test_a_view_holds_them_with_masks_and_the_normal_ones_without(category, tmp_path):
    build_view(category, Das3dView(size=48, plane_iterations=50), tmp_path)
    normal, truth = open_split(tmp_path, "validation")
    assert truth is None and len(normal) == 3
    spoiled, truth = open_split(tmp_path, SPLIT)
    assert truth.defects == KINDS and truth.labels.tolist() == [1, 1, 1]
    assert all((spoiled.arrays["depth"][i] != normal.arrays["depth"][i]).any() for i in (1, 2))
    assert truth.masks.shape == (3, 48, 48) and truth.masks.any(axis=(1, 2)).all()


def test_the_patch_is_on_the_object_and_of_the_size_it_should_be():
    on_object = np.zeros((100, 100), bool)
    on_object[20:80, 30:90] = True
    shares = []
    for seed in range(50):
        weight = patch(on_object, np.random.default_rng(seed))
        assert weight.max() == 1 and weight.min() == 0 and not weight[~on_object].any()
        shares.append((weight > 0.1).sum() / on_object.sum())
    assert min(shares) > 0.001 and max(shares) < 0.25
    with pytest.raises(DataError, match="no pixel"):
        patch(np.zeros((4, 4), bool), np.random.default_rng(0))
