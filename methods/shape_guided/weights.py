"""Weights from files: the backbone's of timm, the shape expert's of the authors.

Key maps are strict: missing keys and keys that belong to nothing are an error that lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from methods.blocks.weights import (
    Fit,
    WeightsError,
    drawn_from,
    fit_own,
    load,
    read_checkpoint,
    require_tensors,
)
from methods.seeds import seed_for
from methods.shape_guided.appearance import Appearance
from methods.shape_guided.sdf import ShapeNet
from methods.shape_guided.settings import Net, Rgb

SHAPE_KEY = "sdf_model"  # of the authors' checkpoint, ckpt_000601.pth
UNUSED = ("layer3.", "layer4.", "fc.")  # parts of timm's ImageNet networks behind layer2


def appearance(rgb: Rgb) -> Appearance:
    """A frozen backbone with the random weights of its name, whatever the seed of the run."""
    with drawn_from(seed_for("weights", rgb.backbone)):
        net = Appearance(rgb)
    return net.eval().requires_grad_(False)


def load_backbone(net: Appearance, file: Path) -> None:
    state = read_checkpoint(file)
    state = state.get("state_dict", state)
    kept = {k: v for k, v in state.items() if not k.startswith(UNUSED)}
    load(net.backbone, fit_own(kept, net.backbone), file)


def shape_net(net: Net, seed: int) -> ShapeNet:
    """A shape expert with the initial weights of a seed."""
    with drawn_from(seed):
        return ShapeNet(net)


def load_shape_net(net: ShapeNet, file: Path) -> None:
    load(net, _fit_shape(net, file), f"{file} ({SHAPE_KEY})")


def published_shape_net(net: Net) -> Callable[[Path], Fit]:
    """The authors' shape expert: its file -> how it fits the one of these settings."""

    def read(path: Path) -> Fit:
        found = _fit_shape(ShapeNet(net), path)
        return replace(found, state={SHAPE_KEY: found.state})

    return read


def _fit_shape(net: ShapeNet, file: Path) -> Fit:
    state = read_checkpoint(file)
    if SHAPE_KEY not in state:
        raise WeightsError(f"{file} has no {SHAPE_KEY!r}; it has {', '.join(map(str, state))}")
    return fit_own(require_tensors(state[SHAPE_KEY], f"{file} ({SHAPE_KEY})"), net)
