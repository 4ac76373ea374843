"""Which weight files M3DM needs, where they are published, and how they load."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import timm
import torch
from torch import nn

from methods.blocks.backbones import BACKBONES, ImageTokens, load_strictly
from methods.blocks.point_transformer import ENCODERS, PointTransformer, encoder_keys
from methods.blocks.weights import Fit, fit, read_checkpoint
from methods.m3dm.settings import RANDOM, Point, Rgb
from methods.m3dm.uff import FeatureFusion
from methods.seeds import seed_for

POINT_FILES = {  # family: usual name, where it is published
    "point_mae": (
        "pointmae_pretrain.pth",
        "https://github.com/Pang-Yatian/Point-MAE/releases (pretrain.pth, SHA-256 27ded932bb0a262"
        "5d5a8eb006df199b2578598c774aee6d86b985300b6a5fd20) or the links of "
        "https://github.com/nomewang/M3DM",
    ),
    "point_bert": (
        "Point-BERT.pth",
        "https://github.com/lulutang0608/Point-BERT (pre-trained Point-BERT)",
    ),
}
UFF_FILE = ("uff_pretrain.pth", "the links of https://github.com/nomewang/M3DM")


def weight_file(given: str | None, name: str, file: str, source: str) -> Path | None:
    """The file that setting `name` means: given itself, or `file` in the folder given.

    None for random weights. Raises ValueError if nothing is given, FileNotFoundError if it does
    not exist; both say where to get it.
    """
    if given == RANDOM:
        return None
    wanted = f"it takes {file}, published at {source}; give its path, or the folder it is in"
    if not given:
        raise ValueError(
            f"{name} is not set: {wanted}. For a run with random weights, which marks its results, "
            f"set {name}={RANDOM}"
        )
    path = Path(given)
    path = path / file if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{name}: {path} does not exist; {wanted}")
    return path


def rgb_file(given: str | None, s: Rgb, name: str = "m3dm.weights.rgb") -> Path | None:
    backbone = BACKBONES[s.backbone]
    return weight_file(given, name, backbone.file, backbone.source)


def point_file(given: str | None, s: Point, name: str = "m3dm.weights.point") -> Path | None:
    return weight_file(given, name, *POINT_FILES[s.family])


def uff_file(given: str | None, name: str = "m3dm.weights.uff") -> Path | None:
    return weight_file(given, name, *UFF_FILE)


def image_net(s: Rgb, size: int) -> ImageTokens:
    return ImageTokens(s.backbone, size, s.patch, s.depth)


def point_net(s: Point) -> PointTransformer:
    return PointTransformer(s.family, s.width, s.depth, s.heads, drop_path=s.drop_path)


def rgb_network(s: Rgb, size: int, given: str | None) -> ImageTokens:
    """The image backbone, with the weights of a file or random ones; ready for inference."""
    net = _seeded(lambda: image_net(s, size), "rgb")
    if path := rgb_file(given, s):
        net.load_weights(timm.models.load_state_dict(str(path), use_ema=False, weights_only=True))
    return net.eval().requires_grad_(False)


def point_network(s: Point, given: str | None) -> PointTransformer:
    net = _seeded(lambda: point_net(s), "point")
    if path := point_file(given, s):
        load_strictly(net, encoder_keys(_load(path), s.family))
    return net.eval().requires_grad_(False)


def published_point(s: Point) -> Callable[[Path], Fit]:
    """A published point backbone: its file -> how its encoder fits the one of these settings."""

    def read(path: Path) -> Fit:
        own = encoder_keys(read_checkpoint(path), s.family)
        net = PointTransformer(s.family, s.width, s.depth, s.heads, drop_path=s.drop_path)
        found = fit({key: (ENCODERS[s.family] + key, own[key]) for key in own}, net)
        # With its prefix, so that what was imported reads like what was published.
        return replace(found, state={ENCODERS[s.family] + k: v for k, v in own.items()})

    return read


def load_uff(net: FeatureFusion, path: Path) -> None:
    """A checkpoint of the authors (the network under "model") or of our stage."""
    state = _load(path)
    load_strictly(net, state.get("model", state))


def _load(path: Path) -> dict:
    with torch.serialization.safe_globals([argparse.Namespace]):  # the authors' UFF holds one
        return torch.load(path, map_location="cpu", weights_only=True)


def _seeded(make: Callable[[], nn.Module], *names: object) -> nn.Module:
    """A network whose random weights depend on names alone: all cells share its features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("init", "m3dm", *names))
        return make()


def make_uff(xyz: int, rgb: int, ratio: int, head: int, *names: object) -> FeatureFusion:
    return _seeded(lambda: FeatureFusion(xyz, rgb, ratio, head), "uff", *names)
