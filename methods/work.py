"""What the stages and cells of the five methods compute: loads (methods/load.py).

Networks are counted as they are; searches, coresets and what a training step takes beside its
network (simulated defects, losses) are by formula.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from methods.counting import Passes, counted
from methods.load import Load

OBJECT = 0.15  # share of an image's pixels that are points of the object (MVTec 3D-AD; inferred)
TESTED = 8  # samples predicted at once (Protocol.batch)
# What simulating defects and losses move, start and compute in a step was counted by running steps
# of the demo (`_beside`); what drawing a sample's numbers takes of a CPU was measured there.
DRAWN_S = 60e-9  # s a pixel: a texture, cut and coloured, and the numbers of a defect
# s a test pixel: all metrics (tests/benchmarks/README.md: 0.14 s for 110 maps of 224 px), and the
# ranking, blurs and copies of a prediction.
SCORED_S = 60e-9
NORMAL_S = 5e-7  # s a training pixel and cue of a baseline: its median and spread over samples
# s a choice of a farthest point, and for each point of the cloud in it (blocks/points.farthest).
CHOICE_S, CHOSEN_FROM_S = 4e-6, 0.8e-9
SVM_S = 1e-6  # s a training pixel: both one-class SVMs of M3DM (12 epochs of scikit-learn's)


def _images(setting: str, batch: int, size: int) -> tuple[tuple[int, ...] | None, ...]:
    return (
        (batch, 3, size, size) if "rgb" in setting else None,
        (batch, 1, size, size) if "3d" in setting else None,
    )


def _beside(pixels: float, kilobytes: float, launches: float, flops: float = 0.0) -> Load:
    """Of a training step, beside its network; kilobytes and FLOPs a pixel of the batch."""
    return Load(
        flops * pixels, 1000 * kilobytes * pixels, launches=launches, host_s=DRAWN_S * pixels
    )


def _scored(test: int, size: int) -> Load:
    return Load(host_s=SCORED_S * test * size**2)


def das3d(s: Any, setting: str, train: int, test: int) -> Load:
    t, size = s.train, s.prep.size
    step = _das3d(s, setting, t.batch).trained() + _beside(t.batch * size**2, 2.2, 310, 5800)
    return t.steps * step + _tested(_das3d(s, setting, TESTED), test) + _scored(test, size)


@functools.lru_cache(maxsize=64)
def _das3d(s: Any, setting: str, batch: int) -> Passes:
    from methods.das3d.network import Das3dNet

    return counted(lambda: Das3dNet(s, setting), *_images(setting, batch, s.prep.size))


def _tested(passes: Passes, test: int) -> Load:
    return passes.load * (test / TESTED)


def dbrn(s: Any, setting: str, train: int, test: int) -> Load:
    t, size = s.train, s.prep.size
    step = _dbrn(s, setting, t.batch).trained() + _beside(t.batch * size**2, 3.6, 350, 7000)
    settled = t.norm_batches * _dbrn(s, setting, t.batch).load
    return t.steps * step + settled + _tested(_dbrn(s, setting, TESTED), test) + _scored(test, size)


@functools.lru_cache(maxsize=64)
def _dbrn(s: Any, setting: str, batch: int) -> Passes:
    from methods.dbrn.network import DbrnNet

    return counted(lambda: DbrnNet(s, setting), *_images(setting, batch, s.prep.size))


def dsr3d(s: Any, setting: str, train: int, test: int) -> Load:
    p, size = s.of(setting), s.size_of(setting)
    t = p.train
    whole, coder = _dsr3d(p, setting, size, t.batch), dada_pass(p.dada.net, setting, size, t.batch)
    own = Passes(whole.load - coder.load, whole.parameters - coder.parameters)
    # Simulating anomalies codes the image, and half of it again with what it leaked.
    step = 1.5 * coder.load + own.trained() + _beside(t.batch * size**2, 1.0, 230)
    total = t.steps * step
    tested = _tested(_dsr3d(p, setting, size, TESTED), test)
    if setting == "rgb":
        up = p.upsampler.train
        step = _dsr3d(p, setting, size, up.batch).load + _upsampler(p, size, up.batch).trained()
        total += up.steps * (step + _beside(up.batch * size**2, 1.0, 170))
        tested += _tested(_upsampler(p, size, TESTED), test)
    return total + tested + _scored(test, size)


@functools.lru_cache(maxsize=64)
def _dsr3d(pipeline: Any, setting: str, size: int, batch: int) -> Passes:
    from methods.dsr3d.model import CHANNELS, Dsr3dNet

    shape = (batch, CHANNELS[setting], size, size)
    return counted(lambda: Dsr3dNet(pipeline, setting), shape)


@functools.lru_cache(maxsize=64)
def dada_pass(net: Any, setting: str, size: int, batch: int) -> Passes:
    from methods.dsr3d.dada import CHANNELS, Autoencoder

    return counted(lambda: Autoencoder(net, setting), (batch, CHANNELS[setting], size, size))


@functools.lru_cache(maxsize=64)
def _upsampler(pipeline: Any, size: int, batch: int) -> Passes:
    from methods.dsr3d.model import AnomalyNet

    def refine(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return net(x[:, :4], x[:, 4:])

    make = lambda: AnomalyNet(8, pipeline.upsampler.base)  # noqa: E731
    return counted(make, (batch, 8, size, size), call=refine)


def dada(s: Any, samples: int) -> Load:
    t, size = s.dada.train, s.dada.size
    step = dada_pass(s.dada.net, s.setting, size, t.batch).trained()
    return t.steps * (step + _beside(t.batch * size**2, 2.0, 110))


def m3dm(s: Any, setting: str, train: int, test: int) -> Load:
    """Coresets, and a search of every patch in every bank; of the training samples for the SVMs."""
    from sklearn.random_projection import johnson_lindenstrauss_min_dim as least

    total, first = Load(), None
    names = s.banks_of(setting)
    tokens, xyz = _widths(s)
    groups = s.point.groups if s.pfa.level == "group" else s.pfa.grid**2
    side = s.prep.size // (s.rgb.patch or 8)
    shapes = {
        "xyz": (groups, xyz),
        "rgb": (side**2, tokens),
        "fusion": (s.pfa.grid**2, xyz + tokens),
    }
    decides = len(names) > 1 and s.decision == "dlf"
    for name in names:
        each, channels = shapes[name]
        rows = each * train
        base = rows if first is None or s.coreset.sizing != "official" else first
        kept = max(1, int(s.coreset.share * base))
        first = first or kept
        width = min(channels, int(least(rows, eps=s.coreset.eps))) if rows > 1 else channels
        passes = 3 + decides  # statistics, projection, gathering, decision
        total += passes * train * Load(bytes=30 * 4 * each * channels, launches=40)
        if kept < rows:
            total += Load(2 * rows * channels * width)
            total += kept * Load(2 * rows * width, reads=4 * rows * width, launches=6)
        looked = train * decides + test
        total += looked * Load(2 * each * kept * channels, 3 * 4 * each * kept, launches=60)
    svm = SVM_S * train * s.prep.size**2 * decides
    shown = len(names) * (test + train * decides)
    return total + Load(host_s=svm) + _scored(shown, s.prep.size)


def _widths(s: Any) -> tuple[int, int]:
    """Channels of an image's and of a point's feature."""
    from methods.m3dm.weights import image_net

    with torch.device("meta"):
        return image_net(s.rgb, s.prep.size).net.num_features, 3 * s.point.width


def rgb_features(s: Any, samples: int) -> Load:
    size = s.prep.size
    return samples / s.batch * _image_features(s.rgb, size, s.batch).load


@functools.lru_cache(maxsize=64)
def _image_features(rgb: Any, size: int, batch: int) -> Passes:
    from methods.m3dm.weights import image_net

    return counted(lambda: image_net(rgb, size), (batch, 3, size, size), looks=True)


def point_features(s: Any, samples: int) -> Load:
    """The network, and its groups: the farthest points one after the other, and their nearest."""
    p, points = s.point, OBJECT * s.prep.size**2
    near = Load(bytes=s.batch * p.groups * points * 4 * 4)
    found = samples / s.batch * (_point_features(p, s.batch).load + near)
    return found + samples * _farthest(p.groups, points)


def _farthest(count: int, points: float) -> Load:
    return Load(host_s=count * (CHOICE_S + CHOSEN_FROM_S * points))


@functools.lru_cache(maxsize=64)
def _point_features(p: Any, batch: int) -> Passes:
    from methods.m3dm.weights import point_net

    shapes = (batch, p.groups, p.group_size, 3), (batch, p.groups, 3)
    return counted(lambda: point_net(p), *shapes, looks=True)


def uff(s: Any, samples: int) -> Load:
    """The fusion network on all patches of a batch, and all pairs of them; both recomputed once."""
    from methods.m3dm.uff import FeatureFusion, updates
    from methods.m3dm.weights import image_net

    with torch.device("meta"):
        tokens = image_net(s.rgb.rgb, s.rgb.prep.size).net.num_features
        xyz, u = 3 * s.point.point.width, s.uff
        net = FeatureFusion(xyz, tokens, u.ratio, u.head)
    batches = len(updates(samples, u)) * u.accumulation
    each = s.pfa.grid**2
    rows = u.batch * each * 2 * OBJECT  # patches with a point
    pairs = Load(2 * rows**2 * u.head, 4 * 4 * rows**2)
    networks = counted(lambda: net, (int(rows), xyz), (int(rows), tokens))
    once = Passes(networks.load + pairs, networks.parameters)
    gathered = Load(bytes=30 * 4 * u.batch * each * (xyz + tokens), launches=60)
    return batches * (once.trained() + once.load + gathered)


def shape_guided(s: Any, setting: str, train: int, test: int) -> Load:
    size, patches, points = s.prep.size, _patches(s.prep.size, s.patches), s.patches.scaled.points
    shapes = 0.0 if setting == "rgb" and not s.search.guided_rgb else 1.0
    aligned = min(s.align.samples, train) if setting == "rgb+3d" else 0
    shown, total = test + aligned, Load()
    one = Load(launches=150)  # cells, blurs and maps of a sample
    total += (train + shown) * one
    encoder, whole = encoder_pass(s.net, points).load, patch_pass(s.net, points).load
    if shapes:
        total += (train + shown) * patches * _among_many(encoder) + shown * Load(launches=40)
        total += shown * Load(
            2 * patches**2 * train * s.net.feature, 3 * 4 * patches**2 * train, launches=20
        )
    if "3d" in setting:
        rest = whole - encoder
        total += shown * (patches * _among_many(rest) + _coded(patches, s.net.feature, s))
    if "rgb" in setting:
        cells = (size // 8) ** 2
        bank = cells * train * 0.13  # of which are searched (paper, Table 3)
        wanted = cells * OBJECT
        total += shown * Load(2 * wanted * bank * 768, 3 * 4 * wanted * bank, launches=60)
        total += shown * _coded(wanted, 768, s)
    return total + _scored(2 * shown, size)


def _coded(queries: float, channels: int, s: Any) -> Load:
    """Sparse codes in float64 of so many queries."""
    atoms = s.search.k_sdf
    moved = queries * atoms * (channels + s.search.atoms * 3 * atoms)
    return Load(2 * queries * atoms**2 * channels, 8 * 3 * moved, launches=70 * s.search.atoms)


def _among_many(load: Load) -> Load:
    """Of one patch among many that go through the network together."""
    return replace(load, launches=0.0)


def _patches(size: int, patches: Any) -> float:
    return OBJECT * size**2 * patches.overlap / patches.scaled.points


@functools.lru_cache(maxsize=64)
def patch_pass(net: Any, points: int, batch: int = 1) -> Passes:
    """Of the shape expert on one patch: PointNet, and the implicit function at all its points."""
    from methods.shape_guided.sdf import ShapeNet

    def both(shape: Any, x: torch.Tensor) -> torch.Tensor:
        return shape.NIF(shape.encoder(x), x)

    return counted(lambda: ShapeNet(net), (batch, points, 3), call=both)


@functools.lru_cache(maxsize=64)
def encoder_pass(net: Any, points: int) -> Passes:
    from methods.shape_guided.sdf import ShapeNet

    return counted(lambda: ShapeNet(net).encoder, (1, points, 3))


def patch_macs(net: Any, points: int) -> int:
    return round(patch_pass(net, points).load.flops / 2)


def shape_expert(s: Any, samples: int, categories: int = 10) -> Load:
    t, points = s.train, s.patches.scaled.points
    clouds = min(samples, (t.clouds or samples) * categories)
    patches = clouds * _patches(s.prep.size, s.patches)
    steps = t.steps if t.steps is not None else t.epochs * max(1, int(patches // t.batch))
    spread = patches * Load(bytes=3 * 4 * points**2)  # distances in a patch, once
    around = Load(bytes=3 * 4 * t.batch * points**2, launches=40)
    return steps * (_pulled(s.net, points, t.batch).trained() + around) + spread


@functools.lru_cache(maxsize=64)
def _pulled(net: Any, points: int, batch: int) -> Passes:
    """A step of Neural-Pull, which differentiates a gradient."""
    from methods.shape_guided.sdf import ShapeNet, pull_loss

    def loss(shape: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return pull_loss(shape, x, x.clone(), x)

    return counted(lambda: ShapeNet(net), (batch, points, 3), call=loss)


@functools.lru_cache(maxsize=64)
def appearance_pass(rgb: Any, size: int, batch: int) -> Passes:
    from methods.shape_guided.appearance import Appearance

    return counted(lambda: Appearance(rgb), (batch, 3, size, size))


def appearance_macs(s: Any) -> int:
    return round(appearance_pass(s.rgb, s.prep.size, 1).load.flops / 2)


def appearance_features(s: Any, samples: int) -> Load:
    return samples / s.batch * appearance_pass(s.rgb, s.prep.size, s.batch).load


def cut(s: Any, samples: int) -> Load:
    """Farthest points as centres, and the nearest points of each."""
    points, patches = OBJECT * s.prep.size**2, _patches(s.prep.size, s.patches)
    near = Load(bytes=patches * points * 4 * 4, launches=20)
    return samples * (_farthest(patches, points) + near)


def baseline(s: Any, setting: str, train: int, test: int) -> Load:
    pixels = len(s.cues) * s.prep.size**2
    return Load(host_s=(NORMAL_S * train + SCORED_S * test) * pixels) + _scored(test, s.prep.size)


CELLS: dict[str, Callable[..., Load]] = {
    "baseline": baseline,
    "das3d": das3d,
    "dbrn": dbrn,
    "3dsr": dsr3d,
    "m3dm": m3dm,
    "shape_guided": shape_guided,
}
STAGES: dict[tuple[str, str], Callable[..., Load]] = {  # settings, samples of all that it reads
    ("3dsr", "dada"): dada,
    ("3dsr", "dada_real"): dada,
    ("m3dm", "rgb_features"): rgb_features,
    ("m3dm", "point_features"): point_features,
    ("m3dm", "uff"): uff,
    ("shape_guided", "shape_expert"): shape_expert,
    ("shape_guided", "rgb_features"): appearance_features,
    ("shape_guided", "patches"): cut,
}
