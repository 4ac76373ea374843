"""3DSR on synthetic parts: which defects depth alone shows, and which colour alone.

The demo's networks on scans of 200 px, where a defect covers a few cells of the features. That RGB
sees nothing of a defect of shape alone needs no training: its image is that of the part without it.
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
CHANGES = [
    "methods=[3dsr]",
    "protocol.latency_samples=0",
    "datasets.synthetic.kind=mvtec3d",
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


@pytest.mark.parametrize(
    "setting, part, defect", [("3d", "rod", "geometry_only"), ("rgb", "tread", "contamination")]
)
def test_what_one_modality_shows_is_found(tmp_path, setting, part, defect):
    spec = Spec(200, (part,), train=60, validation=12, good=0, per_defect=24, kinds=(defect,))
    write_with_twins(tmp_path / "parts", spec)
    data = [f"datasets.synthetic.categories=[{part}]", f"datasets.synthetic.root={tmp_path}/parts"]
    plan = build(config.load("demo", [*CHANGES, f"settings=[{setting}]", *data]))
    store = Store(tmp_path / "store")
    assert not run(plan, store).failures
    (cell,) = (job for job in plan.jobs.values() if job.spec["kind"] == "cell")
    pairs = Pairs(cell, store, defect, lambda arrays: arrays["foreground"])
    print(pairs)
    assert pairs.gain > 0.1 and pairs.chance < 0.01
