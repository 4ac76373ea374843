"""How much the five methods compute: multiply-accumulates (MACs) of stages and cells.

Networks are made and run on tensors without memory or arithmetic, and their convolutions and
products counted; a backward pass counts as two forward ones. Searches and
coresets, which no network does, are by formula. What a sample takes beside (reading, simulated
defects, sorting, blurs) is left out: it is small at the published sizes and all there is at the
smallest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils.flop_counter import FlopCounterMode

TRAINED = 3  # forward and backward, in forward passes
OBJECT = 0.15  # share of an image's pixels that are points of the object (MVTec 3D-AD; inferred)
GRADIENT = 4  # Neural-Pull's steps differentiate a gradient: passes of the implicit function


def forward_macs(
    make: Callable[[], nn.Module], *shapes: tuple[int, ...] | None, looks: bool = False
) -> int:
    """Of one pass of a network over inputs of these shapes (None: no input).

    looks: making the network looks at values, so that one with memory is made
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with unset_fake_temporarily() if looks else nullcontext():
            net = make().eval()
        inputs = [None if shape is None else torch.empty(shape) for shape in shapes]
        with FlopCounterMode(display=False) as counter:
            net(*inputs)
    return counter.get_total_flops() // 2


def das3d(s: Any, setting: str, train: int, test: int) -> float:
    one = _das3d(s, setting)
    return one * (TRAINED * s.train.steps * s.train.batch + test)


@functools.lru_cache(maxsize=32)
def _das3d(s: Any, setting: str) -> int:
    from methods.das3d.network import Das3dNet

    return forward_macs(lambda: Das3dNet(s, setting), *_images(setting, s.prep.size))


def dbrn(s: Any, setting: str, train: int, test: int) -> float:
    return _dbrn(s, setting) * (TRAINED * s.train.steps * s.train.batch + test)


@functools.lru_cache(maxsize=32)
def _dbrn(s: Any, setting: str) -> int:
    from methods.dbrn.network import DbrnNet

    return forward_macs(lambda: DbrnNet(s, setting), *_images(setting, s.prep.size))


def _images(setting: str, size: int) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    return (
        (1, 3, size, size) if "rgb" in setting else None,
        (1, 1, size, size) if "3d" in setting else None,
    )


def dsr3d(s: Any, setting: str, train: int, test: int) -> float:
    p, size = s.of(setting), s.rgb.size if setting == "rgb" else s.prep.size
    whole, coder = _dsr3d(p, setting, size), dada_macs(p.dada.net, setting, size)
    step = 2 * coder + TRAINED * (whole - coder)  # simulating anomalies codes the image once more
    total = p.train.steps * p.train.batch * step + test * whole
    if setting == "rgb":
        up, own = p.upsampler.train, _upsampler(p, size)
        total += up.steps * up.batch * (whole + TRAINED * own) + test * own
    return total


@functools.lru_cache(maxsize=32)
def _dsr3d(pipeline: Any, setting: str, size: int) -> int:
    from methods.dsr3d.model import CHANNELS, Dsr3dNet

    shape = (1, CHANNELS[setting], size, size)
    return forward_macs(lambda: Dsr3dNet(pipeline, setting), shape)


@functools.lru_cache(maxsize=32)
def dada_macs(net: Any, setting: str, size: int) -> int:
    from methods.dsr3d.dada import CHANNELS, Autoencoder

    return forward_macs(lambda: Autoencoder(net, setting), (1, CHANNELS[setting], size, size))


@functools.lru_cache(maxsize=32)
def _upsampler(pipeline: Any, size: int) -> int:
    from methods.dsr3d.model import AnomalyNet

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = AnomalyNet(8, pipeline.upsampler.base)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x[:, :4], x[:, 4:])

    return forward_macs(Joined, (1, 8, size, size))


def dada(s: Any, samples: int) -> float:
    train = s.dada.train
    return train.steps * train.batch * TRAINED * dada_macs(s.dada.net, s.setting, s.dada.size)


def m3dm(s: Any, setting: str, train: int, test: int) -> float:
    """Coresets, and a search of every patch in every bank; of the training samples for the SVMs."""
    from sklearn.random_projection import johnson_lindenstrauss_min_dim as least

    total, first = 0.0, None
    names = s.banks_of(setting)
    tokens, xyz = _widths(s)
    groups = s.point.groups if s.pfa.level == "group" else s.pfa.grid**2
    side = s.prep.size // (s.rgb.patch or 8)
    shapes = {
        "xyz": (groups, xyz),
        "rgb": (side**2, tokens),
        "fusion": (s.pfa.grid**2, xyz + tokens),
    }
    for name in names:
        each, channels = shapes[name]
        rows = each * train
        base = rows if first is None or s.coreset.sizing != "official" else first
        kept = max(1, int(s.coreset.share * base))
        first = first or kept
        width = min(channels, int(least(rows, eps=s.coreset.eps))) if rows > 1 else channels
        total += rows * kept * width if kept < rows else 0
        looked = train * (len(names) > 1 and s.decision == "dlf") + test
        total += looked * each * kept * channels
    return total


def _widths(s: Any) -> tuple[int, int]:
    """Channels of an image's and of a point's feature."""
    from methods.m3dm.weights import image_net

    with torch.device("meta"):
        return image_net(s.rgb, s.prep.size).net.num_features, 3 * s.point.width


@functools.lru_cache(maxsize=32)
def _image_features(s: Any) -> int:
    from methods.m3dm.weights import image_net

    size = s.prep.size
    return forward_macs(lambda: image_net(s.rgb, size), (1, 3, size, size), looks=True)


@functools.lru_cache(maxsize=32)
def _point_features(s: Any) -> int:
    from methods.m3dm.weights import point_net

    p = s.point
    shapes = (1, p.groups, p.group_size, 3), (1, p.groups, 3)
    return forward_macs(lambda: point_net(p), *shapes, looks=True)


def uff(s: Any, samples: int) -> float:
    """The fusion network on all patches of a batch, recomputed once, and all pairs of them."""
    from methods.m3dm.uff import updates
    from methods.m3dm.weights import image_net

    with torch.device("meta"):
        tokens = image_net(s.rgb.rgb, s.rgb.prep.size).net.num_features
    xyz, u = 3 * s.point.point.width, s.uff
    batches = len(updates(samples, u)) * u.accumulation
    rows = u.batch * s.pfa.grid**2 * 2 * OBJECT
    one = 2 * u.ratio * (xyz**2 + tokens**2) + u.head * (xyz + tokens)
    return batches * (TRAINED + 1) * (rows * one + rows**2 * u.head)


def shape_guided(s: Any, setting: str, train: int, test: int) -> float:
    total, patches = 0.0, _patches(s.prep.size, s.patches)
    if "3d" in setting:
        total += (train + test) * patches * patch_macs(s.net, s.patches.scaled.points)
        total += test * patches * patches * train * s.net.feature
    if "rgb" in setting:
        cells = (s.prep.size // 8) ** 2
        total += test * cells * OBJECT * cells * train * 0.13 * 768  # of the bank (paper, Table 3)
    return total


def _patches(size: int, patches: Any) -> float:
    return OBJECT * size**2 * patches.overlap / patches.scaled.points


@functools.lru_cache(maxsize=32)
def patch_macs(net: Any, points: int) -> int:
    """Of the shape expert on one patch: PointNet, and the implicit function at all its points."""
    from methods.shape_guided.sdf import ShapeNet

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shape = ShapeNet(net)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.shape.NIF(self.shape.encoder(x), x)

    return forward_macs(Whole, (1, points, 3))


def shape_expert(s: Any, samples: int, categories: int = 10) -> float:
    t = s.train
    clouds = min(samples, (t.clouds or samples) * categories)
    patches = clouds * _patches(s.prep.size, s.patches)
    steps = t.steps if t.steps is not None else t.epochs * max(1, int(patches // t.batch))
    return steps * t.batch * GRADIENT * 2 * patch_macs(s.net, s.patches.scaled.points)


@functools.lru_cache(maxsize=32)
def appearance_macs(s: Any) -> int:
    from methods.shape_guided.appearance import Appearance

    return forward_macs(lambda: Appearance(s.rgb), (1, 3, s.prep.size, s.prep.size))


CELLS: dict[str, Callable[..., float]] = {
    "das3d": das3d,
    "dbrn": dbrn,
    "3dsr": dsr3d,
    "m3dm": m3dm,
    "shape_guided": shape_guided,
}
STAGES: dict[tuple[str, str], Callable[..., float]] = {  # settings, samples of all that it reads
    ("3dsr", "dada"): dada,
    ("3dsr", "dada_real"): dada,
    ("m3dm", "rgb_features"): lambda s, samples: samples * _image_features(s),
    ("m3dm", "point_features"): lambda s, samples: samples * _point_features(s),
    ("m3dm", "uff"): uff,
    ("shape_guided", "shape_expert"): shape_expert,
    ("shape_guided", "rgb_features"): lambda s, samples: samples * appearance_macs(s),
}
