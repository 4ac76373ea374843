"""Shape-Guided at the size of the demo: what its expert learns, and which defects it finds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.cache import open_split
from harness.data.synthetic import Spec
from harness.planning import config
from harness.planning.expand import build
from harness.store import Store
from methods.contract import Run, settings_from
from methods.shape_guided.patches import cut_cloud, normalise, points_of
from methods.shape_guided.stage import CHECKPOINT, ExpertSettings, ShapeExpert
from methods.shape_guided.weights import load_shape_net
from tests.harness.conftest import run
from tests.methods.on_object import Pairs, write_with_twins

pytestmark = pytest.mark.slow

SPEC = Spec(
    100,
    ("cookie", "tread"),
    train=60,
    validation=12,
    good=12,
    per_defect={"cookie": 1, "tread": 40},
    kinds=("geometry_only",),
)
CHANGES = [
    "methods=[shape_guided]",
    "settings=[rgb,3d]",
    "protocol.latency_samples=0",
    "datasets.synthetic.kind=mvtec3d",
    "datasets.synthetic.background=published",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(jobs, store) of the demo's Shape-Guided, in settings rgb and 3d."""
    folder = tmp_path_factory.mktemp("demo")
    write_with_twins(folder / "parts", SPEC)
    changes = [*CHANGES, f"datasets.synthetic.root={folder / 'parts'}"]
    plan, store = build(config.load("demo", changes)), Store(folder / "store")
    assert not run(plan, store).failures
    return list(plan.jobs.values()), store


def test_the_expert_s_distances_on_new_normal_surfaces_fall_five_times(demo):
    jobs, store = demo
    (stage,) = (job for job in jobs if job.spec.get("stage") == ShapeExpert.name)
    settings = settings_from(ExpertSettings, stage.spec["settings"])
    before, after = (ShapeExpert(settings, Run(seed=0)).net.eval() for _ in range(2))
    load_shape_net(after, Path(store.folder(stage.key)) / CHECKPOINT)
    views = {name: key for name, key in stage.spec["needs"].items() if name.startswith("view:")}
    assert len(views) == 2
    for key in views.values():
        samples, truth = open_split(store.folder(key), "test")
        points = []
        for i in np.flatnonzero(truth.labels == 0):
            xyz = samples.batch([i])["xyz"][0]
            points.append(normalise(points_of(xyz, cut_cloud(xyz, settings.patches, 0)))[0])
        points = torch.cat(points)
        first, last = (
            net.distances(net.features(points), points).abs().mean().item()
            for net in (before, after)
        )
        print(f"mean distance of {len(points)} patches: {first:.4f}, then {last:.4f} of the extent")
        assert last < first / 5


def test_a_defect_of_shape_alone_shows_in_the_sdf_map_and_not_in_colour(demo):
    jobs, store = demo
    found = {}
    for job in jobs:
        if job.spec["kind"] == "cell" and job.spec["category"] == "tread":
            found[job.spec["setting"]] = Pairs(job, store, "geometry_only", with_point)
    print({setting: str(pairs) for setting, pairs in found.items()})
    assert found["3d"].chance < 0.01
    assert abs(found["rgb"].gain) < 0.01 and found["3d"].gain > 3 * abs(found["rgb"].gain)


def with_point(arrays):
    return (arrays["xyz"] != 0).all(axis=-1)
