"""The training loop of everything that is trained in steps: milestones, checkpoints, reports.

A step's random numbers are drawn by name (methods/contract.py), so a fit that was killed and goes
on from its checkpoint ends in the same bits as an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from methods.blocks.watch import Watch
from methods.contract import Method, Progress, Run, save_tensors
from methods.validation import on_curve

REPORT_EVERY_S = 0.5  # beside the steps whose losses are kept
WAITING = "waiting for data"  # the part of a step (Run.part) until its draws are there


@contextmanager
def every_step_reported() -> Iterator[None]:
    """Trainings report each step, so that they can be timed, or killed, at each."""
    global REPORT_EVERY_S
    before, REPORT_EVERY_S = REPORT_EVERY_S, 0.0
    try:
        yield
    finally:
        REPORT_EVERY_S = before


class Schedule(Protocol):
    """What the loop reads of a method's Train settings."""

    steps: int
    milestones: tuple[float, ...]  # shares of the steps
    gamma: float  # factor on the learning rates at each milestone


@dataclass(frozen=True)
class Constant:
    """A schedule whose learning rates stay."""

    steps: int
    milestones: tuple[float, ...] = ()
    gamma: float = 1.0


def optimise(
    name: str,
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: Schedule,
    run: Run,
    draw: Callable[[int], Any],
    loss: Callable[[int, Any], torch.Tensor | Iterable[torch.Tensor]],
    phase: str = "train",
    phases: tuple[str, ...] = ("train",),
    rate: Callable[[int], float] | None = None,
    advice: str = "try a lower train.lr",
    settle: Callable[[], None] | None = None,
) -> None:
    """Take the steps that are left of `schedule`, from the run's checkpoint if there is one.

    Looks at the network on the way as `run.validation` says, if it says so; that changes nothing
    but, where it asks for it, whose step's network is kept.

    draw: step -> its random numbers, called ahead in `run.feeders` threads.
    loss: (step, those) -> (), or the parts that it is the sum of, made one by one: each is
    propagated back before the next (gradient accumulation).
    name: the method's, for errors, and `advice` what would do. The optimiser's rates are those of
    the first step; rate: step -> the learning rate of all groups, instead of the milestones.
    phases: all that share the run's checkpoint, in their order; one of a later phase than
    `phase` means that this one is done. settle: as in `Watch`, done at the end.
    """
    rates = [group["lr"] for group in optimiser.param_groups]
    watch = Watch(net, run, phase, phases, schedule.steps, settle)
    first = _first_step(net, optimiser, watch, run, phase, phases)
    if first is None:
        net.eval()
        return

    def state_after(step):
        return {
            "phase": phase,
            "step": step,
            "net": net.state_dict(),
            "optimiser": optimiser.state_dict(),
            **watch.state(),
        }

    net.train()
    start = reported = time.monotonic()
    for step, drawn in ahead(draw, first, schedule.steps, run.feeders, run.part):
        for group, own in zip(optimiser.param_groups, rates):
            group["lr"] = rate(step) if rate else own * decay(step, schedule)
        optimiser.zero_grad()
        value = loss(step, drawn)
        parts = []
        for part in [value] if torch.is_tensor(value) else value:
            part.backward()
            parts.append(part.detach())
        optimiser.step()

        done, now = step + 1, time.monotonic()
        if now - reported >= REPORT_EVERY_S or on_curve(done, schedule.steps):
            seconds_left = (now - start) / (done - first) * (schedule.steps - done)
            number = sum(part.item() for part in parts)
            if not math.isfinite(number):
                raise FloatingPointError(f"{name}: loss is {number} at step {done}; {advice}")
            run.report(Progress(phase, done, schedule.steps, number, seconds_left))
            reported = now
        if not watch.look(done, lambda: run.save_checkpoint(lambda: state_after(done), now=True)):
            run.save_checkpoint(lambda: state_after(done))
    watch.finish()


def _first_step(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    watch: Watch,
    run: Run,
    phase: str,
    phases: tuple[str, ...],
) -> int | None:
    """The step to go on from, everything being as it was then; None where the phase is done."""
    state = run.load_checkpoint()
    reached = state.get("phase", phases[0]) if state else phases[0]
    if state is None or phases.index(reached) < phases.index(phase):
        return 0
    net.load_state_dict(state["net"])
    if reached != phase:
        return None
    optimiser.load_state_dict(state["optimiser"])
    watch.restore(state.get("validation"))
    return state["step"]


@torch.no_grad()
def settle_norms(net: nn.Module, batches: Iterable[Callable[[], Any]]) -> None:
    """Set BatchNorm's statistics anew, as plain means over training passes of a finished network.

    batches: each, when called, takes one pass. The running statistics remember the last ten or
    twenty batches, through which the weights still moved; after a short training with small
    batches that can spoil the network (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021).
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    net.train()
    for take in batches:
        take()
    net.eval()
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def ahead(
    draw: Callable[[int], Any],
    first: int,
    steps: int,
    feeders: int = 1,
    part: Callable[[str], AbstractContextManager] = nullcontext,
) -> Iterator[tuple[int, Any]]:
    """(step, its draws) up to the last step; so many threads draw the next while one is in use.

    As many steps are drawn ahead as there are threads, so memory is bounded. part: around the
    time that is waited.
    """
    if first >= steps:
        return
    with ThreadPoolExecutor(feeders) as pool:
        coming = deque(pool.submit(draw, s) for s in range(first, min(first + feeders, steps)))
        for step in range(first, steps):
            with part(WAITING):
                drawn = coming.popleft().result()
            if step + feeders < steps:
                coming.append(pool.submit(draw, step + feeders))
            yield step, drawn


def decay(step: int, schedule: Schedule) -> float:
    """Factor on the rates of a step: gamma, once past each milestone."""
    return schedule.gamma ** sum(step >= m * schedule.steps for m in schedule.milestones)


def epoch_order(step: int, batch: int, count: int, seed: Callable[[int], int]) -> np.ndarray:
    """Samples of a step: the training set is gone through in a new order every epoch.

    seed: epoch -> the seed of its order
    """
    place = np.arange(step * batch, (step + 1) * batch)
    epochs = range(place[0] // count, place[-1] // count + 1)
    orders = [np.random.default_rng(seed(e)).permutation(count) for e in epochs]
    return np.concatenate(orders)[place - epochs[0] * count]


class NetworkMethod(Method):
    """A method whose fitted state is one network, `net`, and which `optimise` trains."""

    validates = True
    net: nn.Module

    def save(self, folder: Path) -> None:
        save_tensors(folder / "net.pt", self.net.state_dict())

    def load(self, folder: Path) -> None:
        state = torch.load(folder / "net.pt", map_location=self.run.device, weights_only=True)
        self.net.load_state_dict(state)
        self.net.eval()

    def sizes(self) -> dict[str, int]:
        return weight_sizes(self.net)


def weight_sizes(net: nn.Module) -> dict[str, int]:
    """Number of parameters, and bytes of these and of the buffers."""
    held = [*net.parameters(), *net.buffers()]
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "weight_bytes": sum(t.numel() * t.element_size() for t in held),
    }
