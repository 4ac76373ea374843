"""Which weight files M3DM needs, where they are published, and how they load."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import timm
import torch
from torch import nn

from methods import published
from methods.blocks.backbones import BACKBONES, ImageTokens
from methods.blocks.point_transformer import ENCODERS, PointTransformer, encoder_keys
from methods.blocks.weights import Fit, drawn_from, fit, fit_own, load, read_checkpoint, weight_file
from methods.m3dm.settings import Point, Rgb
from methods.m3dm.uff import FeatureFusion
from methods.marks import RANDOM_INIT
from methods.seeds import seed_for

POINT_FILES = {"point_mae": "pointmae_pretrain.pth", "point_bert": "Point-BERT.pth"}  # by family
UFF_FILE = "uff_pretrain.pth"


def _file(given: str | None, setting: str, name: str, source: str) -> Path | None:
    """The file that `setting` means: given itself, or `name` in the folder given."""
    advice = (
        f"it takes {name}, published at {source}; give its path, or the folder it is in, or put it "
        f"into the folder {published.FOLDER}. For a run with random weights, which marks its "
        f"results, set {setting}={RANDOM_INIT}"
    )
    return weight_file(given, setting, advice, name)


def rgb_file(given: str | None, s: Rgb) -> Path | None:
    backbone = BACKBONES[s.backbone]
    return _file(given, "m3dm.weights.rgb", backbone.file, backbone.source)


def point_file(given: str | None, s: Point) -> Path | None:
    own = published.named(POINT_FILES[s.family])
    checksum = f" (SHA-256 {own.sha256})" if own.sha256 else ""
    return _file(given, "m3dm.weights.point", own.file, own.source + checksum)


def uff_file(given: str | None) -> Path | None:
    own = published.named(UFF_FILE)
    return _file(given, "m3dm.weights.uff", own.file, own.source)


def image_net(s: Rgb, size: int) -> ImageTokens:
    return ImageTokens(s.backbone, size, s.patch, s.depth)


def point_net(s: Point) -> PointTransformer:
    return PointTransformer(s.family, s.width, s.depth, s.heads, drop_path=s.drop_path)


def rgb_network(s: Rgb, size: int, given: str | None) -> ImageTokens:
    """The image backbone, with the weights of a file or random ones; ready for inference."""
    net = _seeded(lambda: image_net(s, size), "rgb")
    if path := rgb_file(given, s):
        state = timm.models.load_state_dict(str(path), use_ema=False, weights_only=True)
        net.load_weights(state, path)
    return net.eval().requires_grad_(False)


def point_network(s: Point, given: str | None) -> PointTransformer:
    net = _seeded(lambda: point_net(s), "point")
    if path := point_file(given, s):
        load(net, fit_own(encoder_keys(_load(path), s.family), net), path, rest=True)
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
    load(net, fit_own(state.get("model", state), net), path, rest=True)


def _load(path: Path) -> dict:
    with torch.serialization.safe_globals([argparse.Namespace]):  # the authors' UFF holds one
        return torch.load(path, map_location="cpu", weights_only=True)


def _seeded(make: Callable[[], nn.Module], *names: object) -> nn.Module:
    """A network whose random weights depend on names alone: all cells share its features."""
    with drawn_from(seed_for("init", "m3dm", *names)):
        return make()


def make_uff(xyz: int, rgb: int, ratio: int, head: int, *names: object) -> FeatureFusion:
    return _seeded(lambda: FeatureFusion(xyz, rgb, ratio, head), "uff", *names)
