"""Blocks and batches follow the memory that is free: less of it is enough, with equal results."""

import logging

import pytest
import torch

from harness.data.blind import blind
from harness.engine.allocation import ONE
from harness.engine.evaluation import predict_all
from methods.blocks import at_once
from methods.blocks.at_once import AtOnce, free_bytes
from methods.blocks.bank_of_products import BankOfProducts
from methods.blocks.coreset import greedy_coreset
from methods.blocks.points import nearest_points
from methods.contract import Prediction, Samples
from tests.device import fake

MIB = 2**20


def rows(count, width, seed=0):
    return torch.rand(count, width, generator=torch.Generator().manual_seed(seed))


def bank(device):
    made = BankOfProducts(rows(9000, 24).to(device))
    near, some = made.nearest(rows(700, 24, 1).to(device)), made.neighbours(made.rows[7], 5)
    return [*near, *some]


def coreset(device):
    return [greedy_coreset(rows(20000, 16).to(device), 400)]


def neighbours(device):
    cloud = rows(4000, 3).to(device)
    return nearest_points(cloud[None, :500], cloud[None], 9)


BLOCKS = {bank: 8, coreset: 5, neighbours: 2}  # MiB that are enough for each


@pytest.mark.parametrize("work", BLOCKS, ids=lambda work: work.__name__)
def test_a_card_with_less_memory_computes_the_same_in_smaller_blocks(device, work):
    with fake.counted() as free:
        wanted = [x.cpu() for x in work(device)]
    before, most = fake.held(), BLOCKS[work] * MIB
    with fake.counted() as tight, fake.limited(most):
        found = [x.cpu() for x in work(device)]
    assert all(map(torch.equal, found, wanted))
    assert tight.peak_bytes - before <= most < (free.peak_bytes - before) / 1.5


def test_blocks_of_a_fixed_size_do_not_fit_there(device, monkeypatch):
    monkeypatch.setattr(at_once, "free_bytes", lambda device: None)
    for work, most in BLOCKS.items():
        with fake.limited(most * MIB), pytest.raises(torch.OutOfMemoryError, match="fake out of"):
            work(device)


def test_what_may_be_taken_is_the_least_of_the_share_and_of_what_is_free(device, monkeypatch):
    size, module = AtOnce(7, 1000), torch.get_device_module(device)
    assert size.within(torch.device("cpu"), 4) == 7 and size.within(device, 4) == 1000
    with fake.limited(16000):
        assert free_bytes(device) == 16000 and size.within(device, 4) == 500
        stats = {"allocated_bytes.all.current": fake.held()}
        stats |= {"reserved_bytes.all.current": fake.held() + 1600}
        monkeypatch.setattr(module, "memory_stats", lambda device: stats)
        assert free_bytes(device) == 16000  # the share ends there
        monkeypatch.setattr(module, "mem_get_info", lambda device: (800, fake.held() + 16000))
        assert free_bytes(device) == 2400  # what torch holds ready is free, too
        monkeypatch.setattr(module, "get_per_process_memory_fraction", lambda device: 0.0)
        assert free_bytes(device) == 0 and size.within(device, 4) == 1
    monkeypatch.delattr(module, "get_per_process_memory_fraction")
    assert free_bytes(device) is None and size.within(device, 4) == 1000


class Widening:
    """A method that takes 1 MiB of the card for every sample it predicts at once."""

    name = "widening"

    def __init__(self):
        self.sizes = []

    def predict(self, batch):
        self.sizes.append(len(batch))
        x = batch["x"][:, None].expand(-1, MIB // 4).clone()
        return Prediction(x[:, :4].view(-1, 2, 2).clone(), x[:, 0].clone())


def predicted(device, size, caplog=None):
    values = rows(11, 1)[:, 0].numpy()
    split = blind(Samples({"x": values}, tuple("abcdefghijk")), "cookie", "salt")
    method = Widening()
    found = predict_all(method, split, size, device, lambda progress: None)
    assert torch.equal(found.scores, torch.from_numpy(values))
    return method.sizes


def test_batches_that_do_not_fit_the_card_are_halved_from_there_on(device, caplog):
    assert predicted(device, 8) == [8, 3]
    caplog.set_level(logging.WARNING)
    with fake.limited(3 * MIB):
        assert predicted(device, 8) == [8, 4, 2, 2, 2, 2, 2, 1]
    assert "predictions of 4 samples do not fit the card: 2 at once" in caplog.text
    with fake.limited(MIB // 2), pytest.raises(torch.OutOfMemoryError) as alone:
        predicted(device, 8)
    assert alone.value.__notes__ == [ONE]
