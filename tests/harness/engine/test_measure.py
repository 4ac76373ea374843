"""What is measured beside the results: operations and the way from the files."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from harness.data.datasets import open_dataset
from harness.engine.measure import Memory, macs, parts, prediction_memory, preprocessing
from methods.contract import Run
from methods.views import Das3dView
from tests.harness.conftest import planned


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_multiply_accumulates_are_those_of_the_formula(context):
    conv, linear = nn.Conv2d(3, 8, 5, padding=2), nn.Linear(20, 7)

    def predict(batch):
        with context():
            return linear(conv(batch))

    expected = 8 * 3 * 5 * 5 * 10 * 20 + 8 * 10 * 20 * 7
    assert macs(predict, torch.zeros(1, 3, 10, 20)) == expected


def test_a_model_that_cannot_be_counted_has_no_count(caplog):
    def predict(batch):
        raise RuntimeError("not this way")

    assert macs(predict, None) is None and "not this way" in caplog.text


def test_preprocessing_is_timed_on_at_most_so_many_samples(tiny_store):
    plan = planned()
    view = tiny_store.result(plan.cells[0]["key"]).spec.needs.view
    made = tiny_store.folder(tiny_store.result(view).spec.needs.dataset)
    category = open_dataset("mvtec3d", made).category("cookie")
    found = preprocessing(category, Das3dView(size=64), samples=3)
    assert found["timed_samples"] == 3
    assert 0 < found["preprocess_p50_s"] <= found["preprocess_p95_s"]
    assert preprocessing(category, Das3dView(size=64), seconds=0)["timed_samples"] == 1


def test_a_cell_says_what_preprocessing_adds_and_counts_its_operations(tiny_store):
    result = tiny_store.result(planned().cells[0]["key"])
    before = tiny_store.result(result.spec.needs.view).speed
    speed = result.speed
    assert speed["preprocess_p50_s"] == before["preprocess_p50_s"] > 0
    assert speed["end_to_end_p50_s"] == speed["latency_p50_s"] + speed["preprocess_p50_s"]
    assert result.sizes["macs"] > result.sizes["parameters"]  # convolutions over pixels
    assert result.environment["gpus"] == 0


def test_peaks_of_a_part_are_its_own_and_the_jobs_are_kept():
    memory = Memory(torch.device("cpu"))
    if not memory.resettable:
        pytest.skip("this system does not reset peaks")
    large = np.ones(64 * 2**20)  # 512 MiB
    del large
    before = memory.peaks()["host_peak_bytes"]
    found = prediction_memory(lambda batch: np.ones(8 * 2**20), None, memory)
    assert (
        found["predict_host_peak_bytes"] < before - 256 * 2**20
        and found["predict_device_peak_bytes"] is None
    )
    assert memory.peaks()["host_peak_bytes"] == before


def test_parts_of_a_prediction_are_timed_only_while_they_are_asked_for():
    class Method:
        run = Run()

        def predict(self, batch):
            with self.run.part("rgb"):
                time.sleep(0.02)
            with self.run.part("rgb"):
                time.sleep(0.01)
            time.sleep(0.05)

    method = Method()
    found = parts(method, [0, 1, 2], torch.device("cpu"))
    assert set(found) == {"rgb"} and 0.03 <= found["rgb"] < 0.08
    method.predict(0)
    assert "part" not in vars(method.run) and parts(method, [], torch.device("cpu")) == {}
