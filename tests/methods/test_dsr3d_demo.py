"""3DSR on synthetic parts: which defects depth alone shows, and which colour alone.

The demo's networks on scans of 200 px, where a defect covers a few cells of the features. A defect
of shape alone leaves the colour image as it was, so there its maps are those of its twin.
"""

import pytest

from harness.data.synthetic import Spec
from harness.planning import config
from harness.planning.expand import build
from harness.store import Store
from tests.harness.conftest import run
from tests.methods.on_object import Pairs, write_with_twins

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
COLOUR = {"rod": "color", "tread": "contamination"}
SPEC = Spec(
    200,
    ("rod", "tread"),
    train=60,
    validation=12,
    good=0,
    per_defect=10,
    kinds={part: ("geometry_only", colour) for part, colour in COLOUR.items()},
)
CHANGES = [
    "methods=[3dsr]",
    "settings=[rgb,3d]",
    "protocol.latency_samples=0",
    "datasets.synthetic.kind=mvtec3d",
    "datasets.synthetic.categories=[rod,tread]",
    "datasets.synthetic.background=published",
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
    write_with_twins(tmp_path / "parts", SPEC)
    changes = [*CHANGES, f"datasets.synthetic.root={tmp_path / 'parts'}"]
    plan, store = build(config.load("demo", changes)), Store(tmp_path / "store")
    assert not run(plan, store).failures
    found = {}
    for job in plan.jobs.values():
        if job.spec["kind"] == "cell":
            part, setting = job.spec["category"], job.spec["setting"]
            for defect in ("geometry_only", COLOUR[part]):
                pairs = Pairs(job, store, defect, lambda arrays: arrays["foreground"])
                found[part, defect, setting] = pairs
                print(f"{part}, {defect}, {setting}: {pairs}")
    for part, colour in COLOUR.items():
        shape = found[part, "geometry_only", "3d"]
        assert shape.gain > 0.1 and shape.gain > 3 * shape.error
        assert abs(found[part, "geometry_only", "rgb"].gain) < 1e-3
        seen = found[part, colour, "rgb"]
        assert seen.gain > 3 * seen.error and seen.gain > found[part, colour, "3d"].gain
