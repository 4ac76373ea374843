"""One training loop for stage 1, stage 2 and DSR's third stage: Adam, checkpoints, reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

from methods.contract import Progress, Run
from methods.dsr3d.settings import Train

REPORT_EVERY_S = 0.5

Part = Callable[[], Any]         # draws a part of a step's random numbers


def optimise(
    net: nn.Module,
    trained: Iterable[nn.Parameter],
    s: Train,
    draw: Callable[[int], Sequence[Part]],
    loss: Callable[[list], torch.Tensor],
    run: Run,
    phase: str,
    phases: tuple[str, ...],
) -> None:
    """Minimise loss(drawn) over the `trained` parameters of `net`, for s.steps steps.

    draw(step): parts that may be drawn at the same time and in any order, each by a generator
    of its own; loss gets what they return, in order. phases: all that use run's checkpoint, in
    their order. A checkpoint of a later phase than this one means that this one is done.
    """
    optimiser = torch.optim.Adam(trained, lr=s.lr, fused=True)
    first = 0
    if state := run.load_checkpoint():
        if phases.index(state["phase"]) >= phases.index(phase):
            net.load_state_dict(state["net"])
            first = state["step"] if state["phase"] == phase else s.steps
        if state["phase"] == phase:
            optimiser.load_state_dict(state["optimiser"])

    def state_after(step: int) -> dict:
        return {
            "phase": phase,
            "step": step,
            "net": net.state_dict(),
            "optimiser": optimiser.state_dict(),
        }

    start = reported = time.monotonic()
    for step, drawn in drawn_ahead(draw, first, s.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, s)
        value = loss(drawn)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

        done, now = step + 1, time.monotonic()
        if now - reported >= REPORT_EVERY_S or done == s.steps:
            seconds_left = (now - start) / (done - first) * (s.steps - done)
            run.report(Progress(phase, done, s.steps, finite(value, phase, done), seconds_left))
            reported = now
        run.save_checkpoint(lambda: state_after(done))


def drawn_ahead(
    draw: Callable[[int], Sequence[Part]], first: int, steps: int
) -> Iterator[tuple[int, list]]:
    """(step, what its parts drew) up to the last step; threads draw the next while one is in use.

    Threads: as many as torch computes with, so a job keeps to the CPUs it was given.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        coming = [pool.submit(part) for part in draw(first)] if first < steps else []
        for step in range(first, steps):
            drawn = [future.result() for future in coming]
            coming = [pool.submit(part) for part in draw(step + 1)] if step + 1 < steps else []
            yield step, drawn


def learning_rate(step: int, s: Train) -> float:
    """The rate of a step: lr, times gamma once past each milestone."""
    return s.lr * s.gamma ** sum(step >= m * s.steps for m in s.milestones)


def finite(loss: torch.Tensor, phase: str, step: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(
            f"3dsr: loss of phase {phase!r} is {value} at step {step}; try a lower train.lr"
        )
    return value
