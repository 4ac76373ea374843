"""What a host does for a device: waits and copies of a training step and of a new image.

A wait leaves the device idle for a launch's time or more; a copy of pageable memory is one, too.
"""

import pytest

import methods
from methods.contract import Run, Samples
from tests.device import fake
from tests.methods.tiny import CATEGORY, Stages, tiny_of

STEPS = 4


@pytest.mark.parametrize(
    "name, waits, copies",
    [  # a step's: waits beside those of reports; copies of samples and draws, an array each
        ("das3d", 3, 15),
        ("dbrn", 1, 16),
        ("3dsr", 10, 20),
    ],
)
def test_a_training_step_waits_for_little(device, samples, tmp_path, name, waits, copies):
    def work(steps):
        settings = tiny_of(name, train__steps=steps)
        stages = Stages(name, samples[name], lambda n: tmp_path / f"{n}{steps}", device)
        folders = {}
        for stage in methods.get(name).stage_settings(settings, "rgb+3d"):
            (tmp_path / f"{stage}{steps}").mkdir()
        folders = stages(settings, "rgb+3d")
        run = Run(category=CATEGORY, device=device, stages=folders)
        method = methods.get(name)(settings, "rgb+3d", run)
        with fake.counted() as found:
            method.fit(samples[name], samples[name])
        return found

    few, many = work(STEPS), work(2 * STEPS)
    a_step = {
        what: (getattr(many, what) - getattr(few, what)) / STEPS
        for what in ("launches", "syncs", "to_device")
    }
    print(name, a_step, {k: v - few.waits.get(k, 0) for k, v in many.waits.items()})
    assert a_step["syncs"] <= waits
    assert a_step["to_device"] <= copies


@pytest.mark.parametrize(
    "name, waits",
    [("das3d", 0), ("dbrn", 0), ("3dsr", 0), ("m3dm", 110), ("shape_guided", 90), ("baseline", 0)],
)
def test_a_new_image_is_scored_with_few_waits(device, samples, tmp_path_factory, name, waits):
    settings = tiny_of(name)
    stages = Stages(name, samples[name], tmp_path_factory.mktemp, device)(settings, "rgb+3d")
    method = methods.get(name)(
        settings, "rgb+3d", Run(category=CATEGORY, device=device, stages=stages)
    )
    method.fit(samples[name], samples[name])
    new = Samples(samples[name].arrays, tuple(f"new/{i}" for i in range(len(samples[name]))))
    batch = new.batch([0], device)
    method.predict(batch)
    with fake.counted() as found:
        method.predict(new.batch([1], device))
    print(name, found.launches, found.syncs, found.to_device, found.waits)
    assert found.syncs <= waits
