"""Validation at evenly spread steps of a training, which goes on as if nobody had looked."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from methods.contract import Run, Validation
from methods.validation import Look, chosen

log = logging.getLogger(__name__)


class Watch:
    """Looks at one phase of a training, and keeps the network of the best where that is asked for.

    settle: what makes the network of any step ready for use, e.g. BatchNorm's statistics; it may
    change buffers only, and is undone after a look.
    """

    def __init__(
        self,
        net: nn.Module,
        run: Run,
        phase: str,
        phases: tuple[str, ...],
        steps: int,
        settle: Callable[[], None] | None = None,
    ):
        self.net, self.settle, self.steps = net, settle, steps
        self.device = torch.device(run.device)
        self.phase, self.before, self.phases = phase, phases.index(phase), len(phases)
        self.validation = run.validation
        self.due = look_steps(steps, run.validation.every) if run.validation else {}
        self.best: dict[str, torch.Tensor] | None = None

    def restore(self, state: dict[str, Any] | None) -> None:
        """From what `state` gave when this phase was interrupted."""
        if self.validation is None or state is None:
            return
        self.validation.looks[:] = [Look(**look) for look in state["looks"]]
        self.best = state["best"]
        self._tell(self.validation)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it; empty where nobody looks."""
        if self.validation is None:
            return {}
        looks = [asdict(look) for look in self.validation.looks]
        return {"validation": {"looks": looks, "best": self.best}}

    def look(self, step: int, keep: Callable[[], None]) -> bool:
        """Score the network after so many steps, if it is time. -> whether it was

        keep: saves a checkpoint, before the look is told of, so that whoever ends the training for
        its scores loses nothing of it. No checkpoint of this step may be without the look: a
        training that goes on from it would never take that.
        """
        if self.validation is None or step not in self.due:
            return False
        with undisturbed(self.device), self._ready():
            metrics = dict(self.validation.score())
            share = (self.before + self.due[step]) / self.phases
            look = Look(self.phase, step, self.steps, share, metrics)
            self.validation.looks.append(look)
            by = self.validation.choose_by
            if by and chosen(self.validation.looks, by) is look:
                state = self.net.state_dict()
                self.best = {k: v.detach().cpu().clone() for k, v in state.items()}
        keep()
        self._tell(self.validation)
        return True

    def finish(self) -> None:
        """After the last step: the network that is kept, ready for use."""
        self.net.eval()
        if self.validation and self.validation.choose_by and self.best is not None:
            look = chosen(self.validation.looks, self.validation.choose_by)
            log.info("selection=best_validation step=%d of %d", look.step, look.total)
            self.net.load_state_dict(self.best)
        elif self.settle and self.steps:
            self.settle()

    @staticmethod
    def _tell(validation: Validation) -> None:
        validation.tell(tuple(validation.looks))

    @contextmanager
    def _ready(self) -> Generator[None]:
        """The network as it would be tested now; in training again afterwards."""
        kept = {name: b.clone() for name, b in self.net.named_buffers()} if self.settle else {}
        self.net.eval()
        if self.settle:
            self.settle()
        with torch.no_grad():
            yield
            for name, buffer in self.net.named_buffers():
                if name in kept:
                    buffer.copy_(kept[name])
        self.net.train()


def look_steps(steps: int, every: float) -> dict[int, float]:
    """The steps after which a phase is looked at, and the share that each stands for.

    Evenly spread, the last one among them.
    """
    count = min(steps, round(1 / every))
    return {round(i * steps / count): i / count for i in range(1, count + 1)}


@contextmanager
def undisturbed(device: torch.device) -> Generator[None]:
    """Whatever random numbers the block takes, those after it are the same."""
    own, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    random.setstate(own)
    np.random.set_state(numpys)
