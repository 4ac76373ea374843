from dataclasses import replace

import cv2
import numpy as np
import pytest

from harness.data.cache import open_split
from harness.data.samples import DataError, Sample
from harness.data.views import dbrn
from harness.data.views.build import build_view
from methods.views import DbrnView
from tests.harness.data.scans import DEPTH_KINDS, kinds, scan, write_category

VIEW = DbrnView(size=64, fg_threshold="ast")
SPLITS = ("train", "validation", "test")


def sample(rgb, xyz, mask):
    return Sample(
        "test/hole/000", "dome", "test", "hole", 1, rgb, xyz, (xyz != 0).any(axis=2), mask > 0
    )


def of_depth(z):
    """A sample with this depth and nothing else of interest."""
    xyz = np.repeat(np.asarray(z, np.float32)[..., None], 3, axis=2)
    return sample(np.zeros(xyz.shape, np.uint8), xyz, np.zeros(z.shape, np.uint8))


@pytest.fixture(scope="module")
def dome():
    return sample(*scan(96, 128))


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    return write_category(tmp_path_factory.mktemp("data"), height=64, width=80)


@pytest.mark.parity
@pytest.mark.parametrize("case, threshold_m", [("a", 0.007), ("b", 0.004)])
def test_depth_and_foreground_are_prepared_as_recorded(parity, case, threshold_m):
    want = {k[2:]: v for k, v in parity("dbrn").npz("ast_depth").items() if k[0] == case}
    z, view = want["z"], DbrnView(size=len(want["resized"]), fg_threshold=str(threshold_m))
    for passes in (1, 3):
        filled = dbrn.fill_holes(z, z == 0, passes)
        assert np.abs(filled - want[f"fill{passes}"]).max() <= 1e-6
    assert np.abs(dbrn.two_means(filled[filled != 0]) - want["centroids"]).max() <= 1e-6
    assert abs(dbrn.background_mean(filled, view.frame_px) - want["bg_mean"]) <= 1e-6

    deviation = dbrn.fill(of_depth(z), view)[1]
    assert np.array_equal(deviation > threshold_m, want["fg"] > 0)
    if want["fg_ast"].any():  # AST's code loses the foreground with an empty corner
        assert np.array_equal(deviation > threshold_m, want["fg_ast"] > 0)
    metres = dbrn.prepare(of_depth(z), replace(view, depth_range="category"), seed=0)["depth"]
    assert np.abs(metres - want["resized"]).max() <= 1e-6
    got = dbrn.prepare(of_depth(z), view, seed=0)
    assert np.array_equal(got["foreground"], want["fg_resized"] > 0)
    assert np.abs(got["depth"] - want["normalised"]).max() <= 1e-6


@pytest.mark.parity
def test_the_foreground_threshold_follows_the_object_s_height_as_recorded(parity):
    want = parity("dbrn").npz("fg_threshold")
    height, threshold = dbrn.auto_threshold(want["v"], VIEW)
    assert abs(height - want["height"]) <= 1e-7 and abs(threshold - want["threshold"]) <= 1e-7
    for factor in (2, 0.2):
        found = dbrn.auto_threshold(factor * want["v"].astype(np.float64), VIEW)[1]
        assert abs(found - want[f"threshold_x{factor}"]) <= 1e-7


def test_the_dome_is_the_foreground_and_depth_fills_its_range(dome):
    got = dbrn.prepare(dome, VIEW, seed=0)
    assert kinds(got) == DEPTH_KINDS
    depth, foreground = got["depth"], got["foreground"]
    assert depth.min() == np.float32(0.2) and depth.max() == np.float32(0.8)
    assert foreground[32, 32] and not foreground[:8].any() and not foreground[:, :8].any()
    assert 0.05 < foreground.mean() < 0.3
    assert got["mask"].any() and foreground[got["mask"]].mean() > 0.9
    assert got["rgb"][~foreground].any()  # the background keeps its colour


def test_the_sample_is_left_alone(dome):
    before = dome.rgb.copy(), dome.xyz.copy()
    dbrn.prepare(dome, VIEW, seed=0)
    assert np.array_equal(dome.rgb, before[0]) and np.array_equal(dome.xyz, before[1])


def test_reach_is_bilinear_resizing_of_a_mask_cut_above_zero():
    rng = np.random.default_rng(0)
    for shape, size in [
        ((64, 72), 56),
        ((30, 41), 64),
        ((96, 96), 32),
        ((7, 5), 7),
        ((90, 60), 24),
    ]:
        mask = rng.random(shape) < 0.15
        smooth = cv2.resize(mask.astype(np.float64), (size, size), interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(dbrn.reach(mask, size), smooth > 1e-9), (shape, size)
        values = rng.random(shape)  # a threshold before and after is the same
        assert np.array_equal(dbrn.reach(values, size) > 0.8, dbrn.reach(values > 0.8, size))


def test_two_means_are_those_of_plain_lloyd_iterations():
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = np.round(
            np.concatenate(
                [
                    rng.normal(0.5, 0.02, rng.integers(1, 80)),
                    rng.normal(0.6, 0.03, rng.integers(1, 80)),
                ]
            ),
            3,
        )
        low, high = values.min(), values.max()
        for _ in range(100):
            nearer = np.abs(values - low) <= np.abs(values - high) + 1e-12
            if nearer.all():
                break
            low, high = values[nearer].mean(), values[~nearer].mean()
        np.testing.assert_allclose(dbrn.two_means(values), (low, high), rtol=0, atol=1e-9)
    assert dbrn.two_means(np.full(5, 0.25)) == (0.25, 0.25)


def test_the_background_is_the_cluster_of_the_frame():
    z = np.full((40, 40), 0.5)
    z[12:28, 12:28] = 0.4
    assert dbrn.background_mean(z, 10) == pytest.approx(0.5)
    assert dbrn.background_mean(0.9 - z, 10) == pytest.approx(0.4)  # in front of the object
    half = np.full((40, 40), 0.5)
    half[:, :20] = 0.4
    assert dbrn.background_mean(half, 10) == pytest.approx(0.5)  # a tie: the farther one


def test_the_plane_goes_through_the_corners_that_have_depth():
    rows, columns = np.mgrid[:30, :50]
    z = 0.5 + 0.001 * rows + 0.002 * columns + 1e-4 * rows * columns
    z[10:20, 10:20] -= 0.05
    # The means of the 2 x 2 blocks lie half a pixel further in than the corners they stand for.
    assert np.abs(dbrn.corner_plane(z, 9.0) - z)[:10].max() < 0.004
    z[:2, :2] = 0
    plane = dbrn.corner_plane(z, 9.0)
    assert plane[0, 0] == 9 and abs(plane[-1, -1] - z[-2:, -2:].mean()) < 1e-12


@pytest.mark.parametrize("bg_fill", ["cluster", "plane", "max"])
def test_large_holes_get_the_depth_of_the_background(bg_fill):
    rows = np.arange(40.0)[:, None]
    z = np.repeat(0.6 + 0.0005 * rows, 40, axis=1)
    z[12:28, 12:28] = 0.55
    z[2:12, 30:40] = 0
    got, deviation = dbrn.fill(of_depth(z), replace(VIEW, bg_fill=bg_fill))
    hole = np.s_[5:9, 33:37]
    expected = {"cluster": z[z > 0.56].mean(), "plane": z[5:9, :1], "max": z.max()}[bg_fill]
    assert np.abs(got[hole] - expected).max() < (3e-3 if bg_fill != "max" else 1e-7)
    assert (deviation[hole] == 0).all() and (deviation[14:26, 14:26] > 0.03).all()


def test_without_a_background_what_has_depth_is_foreground(dome):
    got = dbrn.prepare(dome, replace(VIEW, background="none"), seed=0)
    missing = ~dome.valid
    depth, deviation = dbrn.fill(dome, replace(VIEW, background="none"))
    assert (depth[missing] == dome.xyz[..., 2].max()).all() and not deviation[missing].any()
    assert np.array_equal(got["foreground"], dbrn.reach(dome.valid, 64))


def test_everything_can_be_foreground(dome):
    for background in ("plane", "none"):
        view = replace(VIEW, fg_threshold="none", background=background)
        assert dbrn.prepare(dome, view, seed=0)["foreground"].all()


def test_thresholds_may_be_stated_in_metres_for_each_category():
    table = replace(VIEW, fg_threshold="bagel:0.005, dome:0.003")
    assert dbrn.threshold_m(table, "dome") == 0.003
    assert dbrn.threshold_m(replace(VIEW, fg_threshold="0.004"), "dome") == 0.004
    assert dbrn.threshold_m(VIEW, "dome") == 0.007
    for wrong in ("bagel:0.005", "much", "dome:much"):
        with pytest.raises(ValueError, match="fg_threshold.*for dome; known: auto, ast, none"):
            dbrn.threshold_m(replace(VIEW, fg_threshold=wrong), "dome")


def test_the_automatic_threshold_comes_from_the_training_split(category, tmp_path):
    auto = replace(VIEW, fg_threshold="auto")
    build_view(category, auto, tmp_path / "auto")
    deviations = [dbrn.fill(ref.read(), auto)[1] for ref in category.samples("train")]
    threshold = dbrn.auto_threshold(np.stack(deviations), auto)[1]
    assert 0.002 < threshold < 0.007
    build_view(category, replace(VIEW, fg_threshold=repr(threshold)), tmp_path / "stated")
    for split in SPLITS:
        a, b = (open_split(tmp_path / name, split)[0] for name in ("auto", "stated"))
        assert set(a.arrays) == {"rgb", "depth", "foreground"}
        assert {p.stem for p in (tmp_path / "auto" / split).glob("*.npy")} - {"mask"} == set(
            a.arrays
        )
        for name in a.arrays:
            assert np.array_equal(a.arrays[name], b.arrays[name])
        assert a.arrays["foreground"].any()


def test_flat_objects_get_the_least_threshold():
    assert dbrn.auto_threshold(np.full(9, 0.001), VIEW) == (0.0, 0.002)
    assert dbrn.auto_threshold(np.array([np.nan, 0.0015]), VIEW) == (0.0, 0.002)


def test_heights_are_collected_over_the_whole_image():
    image = np.arange(450 * 30, dtype=np.float32).reshape(450, 30)
    pooled = dbrn.spread_over(image, 200)
    assert pooled.shape == (200, 200) and np.isnan(pooled[:, 30:]).all()
    assert np.array_equal(pooled[:, :30], image[np.arange(200) * 450 // 200])


def test_the_extremes_of_the_training_split_serve_all_splits(dome):
    view = replace(VIEW, depth_range="category")
    nearer = replace(dome, xyz=np.where(dome.xyz == 0, 0, dome.xyz - np.float32([0, 0, 0.05])))
    metres = {
        split: {k: v[None] for k, v in dbrn.prepare(s, view, seed=0).items()}
        for split, s in (("train", dome), ("test", nearer))
    }
    learnt = dbrn.learn(metres["train"], view)
    for arrays in metres.values():
        dbrn.finish(arrays, view, learnt)
    train, test = metres["train"]["depth"], metres["test"]["depth"]
    assert train.min() == np.float32(0.2) and train.max() == np.float32(0.8)
    assert test.min() < 0.1  # not clipped


def test_a_constant_depth_is_the_farthest():
    depth = np.full((4, 4), 0.6, np.float32)
    assert (dbrn.normalise(depth, depth.min(), depth.max(), VIEW) == np.float32(0.8)).all()


def test_a_sample_without_any_depth_is_an_error_that_names_it(dome):
    with pytest.raises(DataError, match="dome/test/hole/000 has no depth"):
        dbrn.prepare(of_depth(np.zeros((20, 20))), VIEW, seed=0)


@pytest.mark.parametrize("option", ["background", "bg_fill", "depth_range"])
def test_an_unknown_option_is_answered_with_the_known_ones(dome, option):
    with pytest.raises(ValueError, match=f"unknown {option} 'magic'.*known: "):
        dbrn.prepare(dome, replace(VIEW, **{option: "magic"}), seed=0)
