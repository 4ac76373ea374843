"""Eyecandies is prepared as each method's authors did; few-shot fusions are checked in the plan."""

from dataclasses import dataclass

import numpy as np
import pytest

from harness.data.datasets import open_dataset
from harness.data.eyecandies_scan import (
    depth_m,
    inverse_pose_cloud,
    read_matrix,
    without_conveyor,
)
from harness.data.synthetic import Spec
from harness.data.synthetic.generate import write_category
from harness.data.views.build import prepare
from harness.planning.config import ConfigError
from harness.planning.values import plain
from harness.store import DONE, Store
from methods.later import later
from methods.views import Das3dView, Dsr3dView, M3dmView
from tests.harness.conftest import planned, run

CANDY = "datasets.synthetic.synthetic.layout=eyecandies"
FILES = (
    "m3dm.weights.rgb=random-init",
    "m3dm.weights.point=random-init",
    "m3dm.uff.enabled=false",
    "shape_guided.weights.rgb=random-init",
    "dbrn.texture.source=procedural",
    "3dsr.dada.images.source=procedural",
    "3dsr.rgb.dada.images.source=procedural",
)


def view_specs(method, *changes):
    plan = planned(f"methods=[{method}]", "settings=[rgb+3d]", *FILES, *changes)
    (cell,) = [job.spec for job in plan.jobs.values() if job.spec["kind"] == "cell"]
    return plan.jobs[cell["needs"]["view"]].spec, cell


@pytest.mark.parametrize(
    ("method", "geometry", "fields"),
    [
        ("m3dm", "m3dm", {"background": "none"}),
        ("shape_guided", "m3dm", {"background": "none"}),
        ("dbrn", "m3dm", {"background": "none"}),
        ("das3d", "m3dm", {"background": "removed", "pad": False}),
        ("3dsr", "camera", {"background": "plane", "plane": "pixels"}),
    ],
)
def test_each_method_gets_its_published_preparation_of_eyecandies(method, geometry, fields):
    spec, _ = view_specs(method, CANDY)
    assert spec["reading"]["geometry"] == geometry and spec["reading"]["light"] == 5
    assert {name: spec["view"][name] for name in fields} == fields


def test_a_geometry_that_is_given_holds_for_all_methods():
    given = "datasets.synthetic.eyecandies.geometry=camera"
    for method in ("m3dm", "das3d", "3dsr"):
        spec, _ = view_specs(method, CANDY, given)
        assert spec["reading"]["geometry"] == "camera" and spec["view"]["background"] == "plane"
        assert spec["view"].get("plane", "corners") == "corners"


def test_mvtec_is_prepared_as_ever():
    spec, cell = view_specs("das3d")
    assert spec["view"]["background"] == "plane" and spec["view"]["pad"]
    assert "geometry" not in spec["reading"] and "train_samples" not in cell


def test_m3dm_trains_on_the_first_published_number_of_samples_unless_told_otherwise():
    many = "datasets.synthetic.synthetic.train=401"
    assert view_specs("m3dm", CANDY, many)[1]["train_samples"] == 400
    assert "train_samples" not in view_specs("m3dm", CANDY)[1]  # 6 there are
    assert "train_samples" not in view_specs("m3dm", many)[1]  # MVTec
    assert "train_samples" not in view_specs("das3d", CANDY, many)[1]
    few = "datasets.synthetic.train_samples=5"
    assert view_specs("m3dm", CANDY, many, few)[1]["train_samples"] == 5


@pytest.fixture(scope="module")
def candy(tmp_path_factory):
    """A sample of synthetic Eyecandies, 512 px as published, as M3DM's converter makes it."""
    root = tmp_path_factory.mktemp("candy")
    spec = Spec(512, ("cookie",), train=1, validation=0, good=1, per_defect=0, layout="eyecandies")
    write_category(root, "cookie", spec)
    opened = open_dataset("eyecandies", root, geometry="m3dm").category("cookie")
    return opened.samples("train")[0]


def test_the_converters_rules_hold_no_padding_no_plane_colours_as_they_are(candy):
    sample = candy.read()
    depth, f = depth_m(candy), candy.options.focal_px
    world = inverse_pose_cloud(depth, read_matrix(candy.pose), f)
    kept = (without_conveyor(world) != 0).all(axis=2)
    assert 0.02 < kept.mean() < 0.6 and np.array_equal(sample.valid, kept)
    arrays = prepare(sample, M3dmView(background="none"))
    rows = np.floor(np.arange(224) * 512 / 224).astype(int)  # of 512 px: nothing is padded
    assert np.array_equal(arrays["xyz"], sample.xyz[rows][:, rows])
    assert (arrays["rgb"] > 0).mean() > 0.9  # the background keeps its colour


def test_das3d_blackens_what_the_converter_removed_and_makes_it_as_deep_as_the_deepest(candy):
    sample = candy.read()
    arrays = prepare(sample, Das3dView(background="removed", pad=False))
    at = np.floor(np.arange(256) * 512 / 256).astype(int)
    kept = sample.valid[at][:, at]
    assert np.all(arrays["depth"][~kept] == 1) and arrays["depth"][kept].min() == 0
    inside = np.zeros_like(kept)  # bilinear colours reach a pixel beyond
    inside[1:-1, 1:-1] = ~(kept[1:-1, 1:-1] | kept[:-2, 1:-1] | kept[2:, 1:-1])
    inside[:, 1:-1] &= ~(kept[:, :-2] | kept[:, 2:])
    assert (arrays["rgb"][inside] == 0).mean() > 0.99
    z = sample.xyz[..., 2][at][:, at].astype(float)
    expected = (z[kept] - z[kept].min()) / np.ptp(sample.xyz[..., 2][sample.valid])
    assert np.abs(arrays["depth"][kept] - expected).max() < 0.02


def test_3dsr_takes_the_plane_of_its_helper(candy):
    opened = open_dataset("eyecandies", candy.rgb.parents[3], geometry="camera")
    sample = opened.category("cookie").samples("train")[0].read()
    view = Dsr3dView(plane="pixels")
    kept = prepare(sample, view)["foreground"]
    at = np.floor(np.arange(view.size) * 512 / view.size).astype(int)
    xyz = sample.xyz[at][:, at].astype(float)
    a, b, c = xyz[0, view.size // 2], xyz[-1, 0], xyz[-1, -1]
    normal = np.cross(b - a, c - a)
    far = np.abs((xyz - a) @ normal) / np.linalg.norm(normal) > view.plane_distance_m
    assert 0.05 < kept.mean() < 0.6
    assert (far & ~kept).sum() == 0 and (kept & ~far).mean() < 0.01  # gaps are closed


def test_cells_of_two_preparations_run_side_by_side(tmp_path):
    plan = planned("methods=[das3d/untrained,3dsr/untrained]", CANDY, *FILES, *SMALL_3DSR)
    store = Store(tmp_path)
    assert not run(plan, store).failures
    assert [store.result(cell["key"]).status for cell in plan.cells] == [DONE, DONE]


SMALL_3DSR = (
    "3dsr.prep.size=64",
    "3dsr.dada.size=32",
    "3dsr.dada.net.hidden=16",
    "3dsr.dada.net.residual_hidden=8",
    "3dsr.dada.net.dim=16",
    "3dsr.dada.net.codes=32",
    "3dsr.dada.train.steps=1",
    "3dsr.dada.train.batch=2",
    "3dsr.restriction_base=4",
    "3dsr.unet_base=4",
    "3dsr.decoder.width=8",
    "3dsr.decoder.bottleneck=8",
    "3dsr.decoder.hidden=16",
    "3dsr.decoder.residual_hidden=8",
)

FUSION = ("methods=[m3dm]", *FILES[:2])


def test_a_fusion_that_would_never_learn_is_refused_by_the_plan_with_what_would_do():
    few = "datasets.synthetic.synthetic.train=48"
    with pytest.raises(
        ConfigError, match=r"48 training samples.*m3dm.uff.accumulation=3 .*uff=FILE"
    ):
        planned(*FUSION, few)
    planned(*FUSION, few, "m3dm.uff.accumulation=3")
    planned(*FUSION, few, "settings=[rgb,3d]")
    planned(*FUSION, few, "m3dm.uff.enabled=false")
    with pytest.raises(ConfigError, match="m3dm.uff.accumulation=1 m3dm.uff.batch=6 "):
        planned(*FUSION)  # 6 samples


def test_the_fusion_of_few_shot_rows_is_trained_on_all_samples():
    many = "datasets.synthetic.synthetic.train=256"
    stages = [
        {job.key for job in planned(*FUSION, many, *few).jobs.values() if job.about.stage == "uff"}
        for few in ([], ["datasets.synthetic.train_samples=5"])
    ]
    assert stages[0] == stages[1]


def test_a_later_setting_leaves_keys_alone_at_its_default():
    @dataclass(frozen=True)
    class Old:
        lr: float = 0.1

    @dataclass(frozen=True)
    class New:
        lr: float = 0.1
        clip: float = later(1.0)

    assert plain(New()) == plain(Old()) and plain(New(clip=2.0)) == {"lr": 0.1, "clip": 2.0}
