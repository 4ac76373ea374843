"""A cell as a job on an accelerator: fitted, looked at, predicted, kept, loaded again, timed."""

import shutil
from types import ModuleType

import numpy as np
import pytest
import torch

from harness.engine import job, timing
from harness.engine.models import load
from harness.store import DONE, Store
from harness.store.models import Stored
from tests.harness.conftest import planned

METHOD = (
    "methods=[das3d]",
    "das3d.train.steps=2",
    "protocol.keep_models=true",
    "training.selection=best_validation",
)


@pytest.fixture
def there(device, monkeypatch):
    """What a job with a GPU calls cuda."""
    named = torch.device(device.type)  # without a number, as there

    class Torch(ModuleType):
        def __getattr__(self, name):
            return getattr(torch, name)

        @staticmethod
        def device(name):
            return named if name == "cuda" else torch.device(name)

    monkeypatch.setattr(job, "torch", Torch("torch"))
    return named


def computed(folder, gpus):
    """-> the store of a launch, and the record of its cell."""
    store, plan = Store(folder), planned(*METHOD, f"resources.default.gpus={gpus}")
    plan.record(store)
    for one in plan.jobs.values():
        outcome = job.run_job(one.describe(), folder)
        assert outcome.status == DONE, outcome
    return store, store.result(plan.cells[0]["key"])


def test_a_job_on_a_device_has_the_bits_of_the_cpu_s(there, tmp_path):
    first, wanted = computed(tmp_path / "cpu", gpus=0)
    shutil.copytree(first.path, tmp_path / "device")  # with its data
    shutil.rmtree(tmp_path / "device" / "jobs" / wanted.key)
    store, found = computed(tmp_path / "device", gpus=1)
    assert found.key == wanted.key and found.environment["gpus"] == 1
    assert found.scores().equals(wanted.scores()) and found.metrics == wanted.metrics
    assert np.array_equal(found.maps().values, wanted.maps().values)
    model = load(store, Stored(found), there)
    assert all(p.device.type == there.type for p in model.method.net.parameters())
    protocol = timing.protocol_of(store.launch())
    assert timing._measured(store, Stored(found), protocol, there).speed["fps"] > 0
