"""How M3DM's networks are made and their weight files load."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import timm
import torch
from torch import nn

from methods.blocks.backbones import ImageTokens
from methods.blocks.point_transformer import ENCODERS, PointTransformer, encoder_keys
from methods.blocks.weights import Fit, drawn_from, fit, fit_own, load, read_checkpoint
from methods.m3dm.declaration import point_file, rgb_file
from methods.m3dm.settings import Point, Rgb
from methods.m3dm.uff import FeatureFusion
from methods.seeds import seed_for


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
