"""Weights from files: the backbone's of timm, the shape expert's of the authors.

Nothing is ever downloaded. Key maps are strict: missing keys and keys that belong to nothing are
an error that lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from methods.blocks.weights import Fit, WeightsError, fit, read_checkpoint, require_tensors
from methods.seeds import seed_for
from methods.shape_guided.appearance import Appearance
from methods.shape_guided.sdf import ShapeNet
from methods.shape_guided.settings import Net, Rgb

RANDOM = "random-init"
SHAPE_KEY = "sdf_model"  # of the authors' checkpoint, ckpt_000601.pth
UNUSED = ("layer3.", "layer4.", "fc.")  # parts of timm's ImageNet networks behind layer2


def rgb_path(path: str | None, backbone: str) -> Path | None:
    """The file of `weights.rgb`, None if it asks for random weights; errors say what would do."""
    if path == RANDOM:
        return None
    advice = (
        f"give the ImageNet weights of timm's {backbone} (for wide_resnet50_2 the authors' are "
        "wide_resnet50_racm-8234f177.pth, tag racm_in1k, released by timm at "
        "github.com/huggingface/pytorch-image-models/releases and at huggingface.co/timm), "
        "or 'random-init' for random ones"
    )
    return _existing(path, "shape_guided.weights.rgb", advice)


def sdf_path(path: str | None) -> Path | None:
    """The file of `weights.sdf`; None if the stage trains the expert or random weights will do."""
    if path is None or path == RANDOM:
        return None
    advice = (
        "give the authors' checkpoint (ckpt_000601.pth, at github.com/jayliu0313/Shape-Guided) or "
        "one saved here, nothing to train one, or 'random-init' for random weights"
    )
    return _existing(path, "shape_guided.weights.sdf", advice)


def _existing(path, setting, advice) -> Path:
    if path is None:
        raise ValueError(f"{setting} is not set: {advice}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{setting}: {path} is not a file: {advice}")
    return Path(path)


def appearance(rgb: Rgb) -> Appearance:
    """A frozen backbone with the random weights of its name, whatever the seed of the run."""
    with drawn_from(seed_for("weights", rgb.backbone)):
        net = Appearance(rgb)
    return net.eval().requires_grad_(False)


def load_backbone(net: Appearance, file: Path) -> None:
    state = torch.load(file, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    kept = {k: v for k, v in state.items() if not k.startswith(UNUSED)}
    load_strictly(net.backbone, kept, str(file))


def shape_net(net: Net, seed: int) -> ShapeNet:
    """A shape expert with the initial weights of a seed."""
    with drawn_from(seed):
        return ShapeNet(net)


def load_shape_net(net: ShapeNet, file: Path) -> None:
    state = torch.load(file, map_location="cpu", weights_only=True)
    if SHAPE_KEY not in state:
        raise ValueError(f"{file} has no {SHAPE_KEY!r}; it has {', '.join(map(str, state))}")
    load_strictly(net, state[SHAPE_KEY], f"{file} ({SHAPE_KEY})")


def published_shape_net(net: Net) -> Callable[[Path], Fit]:
    """The authors' shape expert: its file -> how it fits the one of these settings."""

    def read(path: Path) -> Fit:
        state = read_checkpoint(path)
        if SHAPE_KEY not in state:
            raise WeightsError(f"{path} has no {SHAPE_KEY!r}; it has {', '.join(map(str, state))}")
        own = require_tensors(state[SHAPE_KEY], f"{path} ({SHAPE_KEY})")
        found = fit({key: (key, value) for key, value in own.items()}, ShapeNet(net))
        return replace(found, state={SHAPE_KEY: own})

    return read


def load_strictly(module: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """load_state_dict whose error lists all keys that are missing, unexpected or of other shape."""
    own = module.state_dict()
    found = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
            for k in sorted(own.keys() & state.keys())
            if state[k].shape != own[k].shape
        ],
    }
    if wrong := [f"{what}: {', '.join(keys)}" for what, keys in found.items() if keys]:
        raise ValueError(f"{source} does not fit {type(module).__name__}; " + "; ".join(wrong))
    module.load_state_dict(state)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Initialisations within draw from this seed and leave torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
