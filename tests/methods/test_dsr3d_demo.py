"""3DSR on synthetic parts: which defects depth alone shows, and which colour alone.

The demo's networks on scans of 200 px, where a defect covers a few cells of the features.
"""

import pytest

from harness.planning import config
from harness.planning.expand import build
from harness.store import Store
from tests.harness.conftest import run
from tests.methods.on_object import defect_auroc

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

BOTH = [  # of depth's network, and of the one for RGB
    "dada.net.codes=512",
    "dada.loss.norm=l1",
    "dada.train.steps=1500",
    "train.batch=2",
    "decoder.bottleneck=64",
    "score.window_px=21",
    "train.lr=1.5e-3",
]
CHANGES = [
    "methods=[3dsr]",
    "settings=[rgb,3d]",
    "protocol.latency_samples=0",
    "datasets.synthetic.categories=[rod,tread]",
    "datasets.synthetic.synthetic.size=200",
    "3dsr.prep.size=192",
    "3dsr.rgb.size=192",
    "3dsr.mask.threshold=[0.3,0.5]",
    "3dsr.mask.p_normal=0.1",
    "3dsr.anomaly.strength=[0.1,0.5]",
    "3dsr.train.steps=850",
    "3dsr.rgb.train.steps=400",
    "3dsr.rgb.mask.foreground_only=false",  # DSR's own, as far as the demo has others
    "3dsr.rgb.mask.both_signs=false",
    "3dsr.rgb.augment.probability=0.4",
    "3dsr.rgb.upsampler.augment.probability=0.3",
    "3dsr.rgb.upsampler.train.steps=60",
    *(f"3dsr.{change}" for change in BOTH),
    *(f"3dsr.rgb.{change}" for change in BOTH),
]


def test_depth_finds_defects_of_shape_alone_and_colour_those_of_colour_alone(tmp_path):
    plan, store = build(config.load("demo", CHANGES)), Store(tmp_path)
    assert not run(plan, store).failures
    found = {}
    for job in plan.jobs.values():
        if job.spec["kind"] == "cell":
            for defect in ("geometry_only", "color", "contamination"):
                value = defect_auroc(job, store, defect, lambda arrays: arrays["foreground"])
                found[job.spec["category"], defect, job.spec["setting"]] = value
    print("AUROC of the object's pixels:", found)
    for part in ("rod", "tread"):
        shape = {setting: found[part, "geometry_only", setting] for setting in ("rgb", "3d")}
        assert shape["3d"] > 0.7 and shape["3d"] > shape["rgb"] + 0.2
    for part, defect in (("rod", "color"), ("tread", "contamination")):
        assert found[part, defect, "rgb"] > found[part, defect, "3d"] + 0.2
