"""Weights: how a file fits a network, told key by key, and random ones in its place.

Nothing is ever downloaded, and nothing in a file is executed.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from methods.errors import UserError


class WeightsError(UserError):
    """A checkpoint that does not fit the network it is meant for."""


@dataclass(frozen=True)
class Report:
    """How a checkpoint fits a network; keys are the checkpoint's where it has them, else ours."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    differing: tuple[str, ...]  # "key: shape in the file, shape wanted"

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.differing)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} entries fit"]
        for name in ("missing", "unexpected", "differing"):
            if keys := getattr(self, name):
                parts.append(f"{len(keys)} {name}: {'; '.join(keys)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Fit:
    """How a checkpoint fits a network, and what of it the method's setting takes."""

    network: str  # its class
    report: Report
    state: dict  # a file of it is as good as the published one


def fit(named: Mapping[str, tuple[str, torch.Tensor]], net: nn.Module) -> Fit:
    """How a checkpoint fits `net`; loads nothing. named: our key -> its key there, the tensor."""
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    found = {key: (theirs, tuple(value.shape)) for key, (theirs, value) in named.items()}
    both = [key for key in found if key in wanted]
    report = Report(
        loaded=tuple(found[k][0] for k in both if found[k][1] == wanted[k]),
        missing=tuple(key for key in wanted if key not in found),
        unexpected=tuple(found[key][0] for key in found if key not in wanted),
        differing=tuple(
            f"{found[k][0]}: {found[k][1]} in the file, {wanted[k]} wanted"
            for k in both
            if found[k][1] != wanted[k]
        ),
    )
    return Fit(type(net).__name__, report, {key: value for key, (_, value) in named.items()})


def fit_own(state: Mapping[str, torch.Tensor], net: nn.Module) -> Fit:
    """The same of a checkpoint that has our keys."""
    return fit({key: (key, value) for key, value in state.items()}, net)


def load(net: nn.Module, found: Fit, source: object, rest: bool = False) -> None:
    """Fill `net` with what fits it; WeightsError with the report unless all does.

    source: where it comes from, for the error; rest: entries without a place in `net` are left.
    """
    report = found.report
    if report.missing or report.differing or (report.unexpected and not rest):
        raise WeightsError(
            f"{source} does not fit the {found.network} of these settings: {report}; check that "
            "file, setting (rgb, 3d, rgb+3d) and the settings' widths belong together"
        )
    net.load_state_dict({key: found.state[key] for key in net.state_dict()})


def read_checkpoint(path: Path | str) -> dict:
    """What a checkpoint file holds, tensors on the CPU. WeightsError if it is none."""
    path = Path(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is no PyTorch checkpoint: {error}".splitlines()[0]) from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} holds a {type(state).__name__}; expected a state dict")
    return dict(state)


def require_tensors(state: Mapping, source: object) -> dict[str, torch.Tensor]:
    """`state` if all it holds are tensors; WeightsError otherwise."""
    if other := [key for key, value in state.items() if not torch.is_tensor(value)]:
        raise WeightsError(
            f"{source} holds {', '.join(map(str, other[:5]))}; "
            "expected a plain state dict of tensors"
        )
    return dict(state)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Initialisations within draw from this seed and leave torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
