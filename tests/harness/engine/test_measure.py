"""What is measured beside the results: operations and the way from the files."""

import pytest
import torch
from torch import nn

from harness.data.datasets import open_dataset
from harness.engine.measure import macs, preprocessing
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
