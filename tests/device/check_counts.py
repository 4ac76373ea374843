"""What a host does for a device: waits and copies of a training step and of a new image.

A wait leaves the device idle for a launch's time or more; a copy of pageable memory is one, too,
and so is an index on the host.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

import methods
from methods.blocks.samples import batches_on
from methods.contract import Run, Samples
from methods.shape_guided.patches import cut_cloud
from tests.device import fake
from tests.methods.tiny import CATEGORY, Stages, tiny_of

STEPS = 4


@pytest.mark.parametrize(
    "name, waits, copies, launches",
    [  # a step's: waits, of which the report takes one; copies of draws, an array each
        # 3DSR: how many vectors its masks choose.
        ("das3d", 1, 7, 1100),
        ("dbrn", 1, 10, 1800),
        ("3dsr", 2, 11, 840),
    ],
)
def test_a_training_step_waits_for_little(device, samples, tmp_path, name, waits, copies, launches):
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
    assert a_step["launches"] <= launches  # what there is, and a little for other versions of torch


@pytest.mark.parametrize("restart_below", [0.0, 0.1], ids=["3dsr", "3dsr, codes restart"])
def test_a_step_of_the_stage_dada_waits_for_the_report_alone(device, restart_below):
    def waits(steps):
        changed = {"dada__net__restart_below": restart_below, "dada__train__steps": steps}
        cls, settings = methods.get("3dsr"), tiny_of("3dsr", **changed)
        own = cls.stage_settings(settings, "rgb+3d")["dada"]
        with fake.counted() as found:
            cls.stages["dada"](own, Run(device=device)).fit({})
        return found.syncs

    assert waits(2 * STEPS) - waits(STEPS) == STEPS


@pytest.mark.parametrize("room, copies", [(8.1, 1), (7.9, 3)])  # of an index; of all arrays
def test_a_training_set_is_held_by_a_device_that_has_room_for_eight(device, samples, room, copies):
    split = samples["das3d"]
    indices = np.array([3, 0, 3, len(split) - 1])
    wanted = split.batch(indices)
    with fake.limited(int(room * sum(array.nbytes for array in split.arrays.values()))):
        batches = batches_on(device, split)
        with fake.counted() as found:
            batch = batches(indices)
        assert found.to_device == copies and found.syncs == 0
    assert batch.ids == wanted.ids
    for name, rows in wanted.arrays.items():
        assert batch[name].device == device and torch.equal(batch[name].cpu(), rows)


@pytest.mark.parametrize(
    "name, waits, launches",
    [
        ("das3d", 0, 270),
        ("dbrn", 0, 480),
        ("3dsr", 0, 300),
        # The cloud goes to the host, where farthest points are chosen one after the other; how many
        # points a cloud has is asked for by packing it, by its neighbours and by its alignment;
        # Pillow blurs the maps of all banks at once; and one small copy a cloud is pageable.
        ("m3dm", 6, 420),
        # The cloud and its points go to the host for the centres of patches; the rows of the
        # dictionary and the cells of the foreground are told apart; Pillow blurs the map.
        ("shape_guided", 5, 530),
        ("baseline", 0, 60),
    ],
)
def test_a_new_image_is_scored_with_few_waits(
    device, samples, tmp_path_factory, name, waits, launches
):
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
    assert found.launches <= launches  # what there is, and a little for other versions of torch
    with fake.counted() as several:
        method.predict(new.batch([2, 3, 4], device))
    # whose samples, or clouds, are looked at one by one
    per_image = 1 if name in ("shape_guided", "m3dm") else 0
    assert several.syncs <= waits + 2 * waits * per_image


def test_an_image_without_points_has_no_patch_of_its_device(device):
    cut = cut_cloud(torch.zeros(8, 8, 3, device=device), tiny_of("shape_guided").patches, 0)
    assert cut.device == device and len(cut) == 0


def test_an_image_is_cut_into_patches_with_two_waits(device, samples):
    """For the cloud, and for its points: as many patches as there are take no more."""
    xyz = samples["shape_guided"].batch([0], device)["xyz"][0]
    for cover in (False, True):
        patches = replace(tiny_of("shape_guided").patches, cover=cover)
        with fake.counted() as found:
            cut = cut_cloud(xyz, patches, 0)
        assert found.syncs <= 2 and found.launches <= 20 and cut.device == device
        assert torch.equal(cut.cpu(), cut_cloud(xyz.cpu(), patches, 0))
