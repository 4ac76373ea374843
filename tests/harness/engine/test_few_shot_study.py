"""M3DM's few-shot study: planned at the benchmark's settings, run with narrow networks."""

import os

import pytest

from harness.data.synthetic import Spec
from harness.data.synthetic.generate import write_category
from harness.planning import study
from harness.store import DONE, Store
from tests.harness.conftest import run

DISTINCT = 7
CATEGORIES = ("cookie", "tread")
RANDOM = ("m3dm.weights.rgb=random-init", "m3dm.weights.point=random-init")
NARROW = (
    *RANDOM,
    "m3dm.prep.size=56",
    "m3dm.rgb.depth=1",
    "m3dm.point={groups: 24, group_size: 8, width: 24, depth: 3, heads: 2}",
    "m3dm.pfa.grid=7",
    "m3dm.uff={batch: 16, accumulation: 16, head: 16}",  # as published but for the head
    "protocol.latency_samples=0",
)


def shots(plan):
    return {tuple(cell["printed"]) for cell in plan.cells}


ROWS = {("m3dm", variant) for variant in ("", "shot_5", "shot_10", "shot_50")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Made data in the layout of MVTec 3D-AD, with as many training samples as its smallest.

    The samples are DISTINCT ones under many names: their number is what matters here.
    """
    root = tmp_path_factory.mktemp("mvtec_3d_made")
    spec = Spec(50, CATEGORIES, train=DISTINCT, validation=1, good=2, per_defect=1, kinds=("hole",))
    for category in CATEGORIES:
        write_category(root, category, spec)
        for part in (root / category / "train/good").iterdir():
            for first in sorted(part.iterdir()):
                for i in range(int(first.stem) + DISTINCT, 210, DISTINCT):
                    os.link(first, first.with_stem(f"{i:03d}"))
    return str(root)


@pytest.mark.slow
def test_the_few_shot_study_is_planned_at_full_size_and_runs_with_the_published_batches(
    folder, tmp_path
):
    plan = study.plan("m3dm/table6", [*RANDOM], data=folder)
    assert shots(plan) == ROWS and len(plan.cells) == 4 * 2 * 3  # rows, categories, seeds
    narrow = study.plan("m3dm/table6", NARROW, data=folder, background="none", base=study.DEMO)
    assert shots(narrow) == ROWS
    assert sum(job.about.stage == "uff" for job in narrow.jobs.values()) == 1  # for all rows
    store = Store(tmp_path)
    assert not run(narrow, store).failures
    for cell in narrow.cells:
        result = store.result(cell["key"])
        shot = cell["printed"][1].removeprefix("shot_") or "210"
        assert result.status == DONE and result.counts["train"] == int(shot)
        assert result.notes["uff"] == "trained"
