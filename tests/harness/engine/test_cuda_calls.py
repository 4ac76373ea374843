"""torch.cuda is asked as it wants to be: its own Python code, with a made card below it."""

from types import SimpleNamespace

import pytest
import torch

from harness.engine.allocation import bound
from harness.engine.alone import Alone
from harness.engine.environment import environment
from harness.engine.measure import Memory, prediction_memory
from harness.planning.packing import CONTEXT_BYTES
from methods.blocks.at_once import AtOnce, free_bytes
from methods.blocks.watch import undisturbed

JOB = torch.device("cuda")  # without a number, as jobs, commands and Python name it
GIB = 2**30
CARD = SimpleNamespace(name="NVIDIA A", total_memory=80 * GIB, major=9, minor=0, uuid="ab-c")
STATS = {
    "allocated_bytes": {"all": {"current": GIB, "peak": 3 * GIB}},
    "reserved_bytes": {"all": {"current": 2 * GIB, "peak": 4 * GIB}},
}


@pytest.fixture
def card(monkeypatch):
    """A card of 80 GiB, of which 50 are free, 1 is used and 1 more held ready; -> its share."""
    share = {}
    driver = {
        "_cuda_memoryStats": lambda number: STATS,
        "_cuda_resetPeakMemoryStats": lambda number: None,
        "_cuda_setMemoryFraction": lambda fraction, number: share.update({number: fraction}),
        "_cuda_getMemoryFraction": lambda number: share.get(number, 1.0),
        "_cuda_synchronize": lambda: None,
    }
    for name, function in driver.items():
        monkeypatch.setattr(torch._C, name, function, raising=False)
    runtime = SimpleNamespace(cudaMemGetInfo=lambda number: (50 * GIB, CARD.total_memory))
    cuda = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "cudart": lambda: runtime,
        "_lazy_init": lambda: None,
        "_get_device_properties": [CARD].__getitem__,
        "get_rng_state": lambda number: torch.get_rng_state(),
        "set_rng_state": lambda state, number: None,
    }
    for name, function in cuda.items():
        monkeypatch.setattr(torch.cuda, name, function, raising=False)
    for name in ("is_initialized", "_lazy_init"):
        monkeypatch.setattr(torch.cuda.memory, name, cuda[name])
    return share


@pytest.mark.parametrize("device", [JOB, torch.device("cuda", 0)])
def test_what_a_job_may_still_take_is_told_of_a_card_without_a_number(card, device):
    assert free_bytes(device) == 51 * GIB
    bound(0.25)
    assert free_bytes(device) == pytest.approx(0.25 * 80 * GIB - CONTEXT_BYTES - GIB, abs=9)
    assert AtOnce(1, 10**9).within(device, 2**20) == free_bytes(device) // 8 // 2**20


def test_peaks_and_what_a_record_says_of_a_card_are_asked_as_torch_wants(card):
    peaks = Memory(JOB).peaks()
    assert peaks["device_peak_bytes"] == 3 * GIB and peaks["device_total_bytes"] == 80 * GIB
    found = prediction_memory(lambda batch: None, None, Memory(JOB))
    assert found["predict_device_peak_bytes"] == 3 * GIB
    said = environment(JOB)
    assert said["device"] == "NVIDIA A" and said["capability"] == "9.0"
    assert "other processes hold" in Alone(JOB).disturbed()
    with undisturbed(JOB):
        pass
