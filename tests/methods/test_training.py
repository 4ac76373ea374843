"""The training loop beside plain ones: accumulated gradients, rates, and going on."""

import time
from contextlib import contextmanager

import pytest
import torch

from methods.blocks.training import WAITING, Constant, ahead, optimise
from methods.contract import Run
from methods.dsr3d.declaration import StageSettings
from methods.dsr3d.stage import DadaStage
from tests.methods.tiny import same_weights, tiny_of


def network():
    net = torch.nn.Linear(5, 2)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).view(p.shape))
    return net, torch.optim.AdamW(net.parameters(), lr=0.1)


def data(step):
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(step))  # 3 batches


def rate(step):
    return 0.1 * (step + 1) / 7


def trained(steps=7, **run):
    net, optimiser = network()

    def parts(step, drawn):
        for batch in drawn:
            yield net(batch).square().mean() / len(drawn)

    optimise("net", net, optimiser, Constant(steps), Run(**run), data, parts, rate=rate)
    return net


def test_accumulated_gradients_and_given_rates_are_those_of_a_plain_loop(monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    net, optimiser = network()
    losses = []
    for step in range(7):
        optimiser.param_groups[0]["lr"] = rate(step)
        optimiser.zero_grad()
        losses.append(0.0)
        for batch in data(step):
            loss = net(batch).square().mean() / 3
            loss.backward()
            losses[-1] += loss.item()
        optimiser.step()
    seen = []
    found = trained(report=lambda p: seen.append((p.step, p.total, p.loss)))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), found.parameters()))
    assert seen == [(i + 1, 7, loss) for i, loss in enumerate(losses)]


def test_a_part_s_graph_is_gone_before_the_next_is_made():
    net, optimiser = network()
    order = []

    def parts(step, drawn):
        for i, batch in enumerate(drawn):
            loss = net(batch).sum()
            loss.register_hook(lambda _, i=i: order.append(("back", i)))
            order.append(("made", i))
            yield loss

    optimise("net", net, optimiser, Constant(1), Run(), data, parts)
    assert order == [(what, i) for i in range(3) for what in ("made", "back")]


def test_a_loop_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 4:
            raise Killed

    with pytest.raises(Killed):
        trained(folder=tmp_path, checkpoint_every_s=0.0, report=kill)
    seen = []
    resumed = trained(folder=tmp_path, report=lambda p: seen.append(p.step))
    assert seen == [4, 5, 6, 7]
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), trained().parameters()))


@pytest.mark.parametrize("given, said", [({}, "train.lr"), ({"advice": "lower it"}, "lower it")])
def test_an_infinite_loss_says_what_to_do(given, said):
    net, optimiser = network()

    def infinite(step, drawn):
        return net(drawn).square().sum() * torch.inf

    with pytest.raises(FloatingPointError, match=f"net: loss is inf at step 1; .*{said}"):
        optimise("net", net, optimiser, Constant(1), Run(), data, infinite, **given)


@pytest.mark.parametrize("feeders", [1, 3])
def test_draws_come_in_order_and_no_more_are_made_ahead_than_there_are_feeders(feeders):
    asked, most = [], 0

    def draw(step):
        asked.append(step)
        time.sleep(0.002 * (step % 3))  # some end before earlier ones
        return 10 * step

    for step, drawn in ahead(draw, 2, 12, feeders):
        assert drawn == 10 * step
        most = max(most, max(asked) - step)
    assert sorted(asked) == list(range(2, 12))
    assert most <= feeders


def test_an_error_of_a_draw_comes_at_its_step():
    seen = []
    with pytest.raises(ZeroDivisionError):
        for step, _ in ahead(lambda step: 1 / (step - 3), 0, 9, 4):
            seen.append(step)
    assert seen == [0, 1, 2]


def test_any_number_of_feeders_gives_the_same_bits():
    one, many = trained(), trained(feeders=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), many.parameters()))


def test_the_wait_for_draws_is_a_part_of_the_step():
    waited = []

    @contextmanager
    def part(name):
        waited.append(name)
        yield

    trained(part=part)
    assert waited == [WAITING] * 7


def test_a_stage_that_draws_with_threads_of_its_own_gives_the_same_bits_with_any_feeders():
    def fitted(feeders):
        settings = tiny_of("3dsr").dada
        stage = DadaStage(StageSettings(dada=settings), Run(feeders=feeders))
        stage.fit({})
        return stage

    assert same_weights(fitted(1), fitted(3))
