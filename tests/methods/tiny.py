"""The methods at a size that fits in seconds: settings, samples, stages and fits."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import numpy as np
import torch

import methods
from methods.contract import Run, Samples, settings_from
from methods.marks import RANDOM_INIT
from tests.methods.shape_guided_scenes import scenes

CATEGORY = "disc"
_DSR3D = {
    "dada": {
        "size": 32,
        "net": {"hidden": 16, "residual_hidden": 8, "dim": 16, "codes": 64},
        "images": {"source": "procedural"},
        "train": {"steps": 3, "batch": 2},
    },
    "restriction_base": 4,
    "unet_base": 4,
    "decoder": {"width": 4, "bottleneck": 4, "hidden": 8, "residual_hidden": 4},
    "train": {"steps": 4, "batch": 2, "lr": 1e-3},
}
SIZES = {  # px
    "dbrn": 64,
    "3dsr": 64,
    "das3d": 64,
    "m3dm": 48,
    "shape_guided": 64,
    "baseline": 48,
}
OWN_VARIANT = {("baseline", "rgb"): "colour", ("baseline", "3d"): "plane"}  # else there is none
TINY = {
    "baseline": {"window": 5},
    "dbrn": {
        "texture": {"source": "procedural"},
        "swin": {"width": 8, "depths": [1, 2, 1, 1], "heads": [1, 2, 2, 4], "window": 4},
        "recon": {"width": 4},
        "disc": {"base": 4},
        "train": {"steps": 4, "batch": 3, "lr_recon": 1e-3, "lr_disc": 1e-3},
    },
    "3dsr": {
        **_DSR3D,
        "rgb": {
            **copy.deepcopy(_DSR3D),
            "size": 64,
            "upsampler": {"base": 4, "train": {"steps": 4, "batch": 2}},
        },
    },
    "das3d": {
        "texture": {"source": "procedural"},
        "recon": {"width": 4},
        "disc": {"base": 4},
        "train": {"steps": 6, "batch": 3, "lr": 1e-3},
    },
    "m3dm": {
        "weights": {"rgb": RANDOM_INIT, "point": RANDOM_INIT},
        "rgb": {"backbone": "vit_tiny_patch16_224", "patch": 8, "depth": 1},
        "point": {"groups": 24, "group_size": 8, "width": 24, "depth": 3, "heads": 2},
        "pfa": {"grid": 12},
        "uff": {"batch": 4, "accumulation": 1, "epochs": 2, "head": 16},
        "batch": 3,
    },
    "shape_guided": {
        "weights": {"rgb": RANDOM_INIT},
        "rgb": {"backbone": "resnet10t"},
        "patches": {"points": 64},
        "align": {"samples": 3},
        "batch": 2,
        "search": {"expand": 1},
        "net": {"points": [8, 16, 32], "hidden": 32, "feature": 16, "width": 32, "depth": 2},
        "train": {"steps": 12, "batch": 8, "clouds": 3, "lr": 1e-3},
    },
}


def tiny_of(name, variant="", **changes):
    """Tiny settings of a method, of one of its variants; "train__steps=3" for train.steps = 3."""
    method = methods.get(name)
    values = {"prep": {"size": SIZES[name]}, **copy.deepcopy(TINY[name])}
    named = (
        {k.replace(".", "__"): v for k, v in method.variants[variant].items()} if variant else {}
    )
    for dotted, value in {**named, **changes}.items():
        *groups, key = dotted.split("__")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
        place[key] = value
    return settings_from(method.Settings, values)


def _discs(count, size):
    """Distance from the middle (N, S, S) in radii, the pixels' columns, and what drew the radii."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(x, y)[None] / rng.uniform(18, 26, (count, 1, 1)), x, rng


def _shaded(radius, depth, rng, around, prefix, only_inside=False):
    inside = radius < 1
    at = inside[..., None]
    ramp = (60 + 60 * radius[..., None]) if around else (120 + 60 * radius[..., None])
    shade = around + at * ramp * rng.uniform(0.8, 1.2, 3)
    noise = rng.normal(0, 3, shade.shape)
    rgb = np.clip(shade + (noise * at if only_inside else noise), 0, 255)
    arrays = {"rgb": rgb.astype(np.uint8), "depth": depth.astype(np.float32), "foreground": inside}
    return Samples(arrays, tuple(f"{prefix}{i:03d}" for i in range(len(rgb))))


def _das3d_samples():
    """Seven shaded discs on a background at depth 1."""
    radius, _, rng = _discs(7, SIZES["das3d"])
    depth = np.where(radius < 1, 0.6 * radius**2, 1)
    return _shaded(radius, depth, rng, 0, "", only_inside=True)


def _dbrn_samples():
    """Seven shaded discs on a tilted plane."""
    radius, x, rng = _discs(7, SIZES["dbrn"])
    depth = 0.7 + 0.1 * x / SIZES["dbrn"] - 0.4 * np.where(radius < 1, 1 - radius**2, 0)
    return _shaded(radius, depth, rng, 60, "test/good/")


def _dsr3d_samples():
    """Six shaded discs; nothing lies around them."""
    radius, _, rng = _discs(6, SIZES["3dsr"])
    return _shaded(radius, np.where(radius < 1, 0.1 + 0.8 * radius**2, 0), rng, 60, "test/good/")


def _m3dm_samples():
    """Nine bumpy discs, half a metre away, without background."""
    rng, size = np.random.default_rng(0), SIZES["m3dm"]
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * 0.002
    inside = np.hypot(x, y)[None] < rng.uniform(0.03, 0.04, (9, 1, 1))
    z = 0.5 + 0.004 * np.sin(80 * x + rng.uniform(0, 6, (9, 1, 1)))
    z += rng.normal(0, 2e-4, inside.shape)
    xyz = np.stack([np.broadcast_to(x + 1e-6, z.shape), np.broadcast_to(y + 1e-6, z.shape), z], -1)
    rgb = rng.integers(60, 200, (9, size, size, 3)) * inside[..., None]
    arrays = {"rgb": rgb.astype(np.uint8), "xyz": (xyz * inside[..., None]).astype(np.float32)}
    return Samples(arrays, tuple(f"train/good/{i:03d}" for i in range(9)))


def _baseline_samples():
    """Six shaded, bumpy discs on a plane; a tenth of the points is missing."""
    radius, _, rng = _discs(6, SIZES["baseline"])
    height = 0.02 * np.where(radius < 1, 1 - radius**2, 0) + rng.normal(0, 5e-4, radius.shape)
    valid = rng.random(radius.shape) > 0.1
    shaded = _shaded(radius, 0.6 - height, rng, 60, "train/good/")
    seen = {"depth": 0.6 - height, "height": height}
    arrays = {name: np.where(valid, a, 0).astype(np.float32) for name, a in seen.items()}
    return Samples({"rgb": shaded.arrays["rgb"], "valid": valid, **arrays}, shaded.ids)


SAMPLES = {
    "baseline": _baseline_samples,
    "dbrn": _dbrn_samples,
    "3dsr": _dsr3d_samples,
    "das3d": _das3d_samples,
    "m3dm": _m3dm_samples,
    "shape_guided": partial(scenes, 5, SIZES["shape_guided"]),
}


class Stages:
    """Folders of the stages that cells build on, each run once."""

    def __init__(self, name, samples, new_folder, device="cpu"):
        """new_folder: name -> a fresh folder."""
        self.method, self.samples, self.new_folder = methods.get(name), samples, new_folder
        self.device = device
        self.made: dict[tuple[str, str], Path] = {}

    def __call__(self, settings, setting) -> dict[str, Path]:
        wanted = self.method.stage_settings(settings, setting)
        return {name: self._folder(self.method.stages[name], s) for name, s in wanted.items()}

    def _folder(self, stage, settings) -> Path:
        key = stage.name, repr(settings)
        if key not in self.made:
            below = {
                f"{name}/{CATEGORY}": self._folder(self.method.stages[name], own)
                for name, own in stage.stage_settings(settings).items()
            }
            folder = self.new_folder(stage.name)
            run = Run(category=CATEGORY, folder=folder, stages=below, device=self.device)
            made = stage(settings, run)
            made.fit({"train" if stage.reads == "category" else CATEGORY: self.samples})
            made.save(folder)
            self.made[key] = folder
        return self.made[key]


def same_weights(a, b):
    a, b = a.net.state_dict(), b.net.state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


class Killed(Exception):
    pass


def kill_at(phase, step):
    """A report that ends the job there."""

    def report(progress):
        if (progress.phase, progress.step) == (phase, step):
            raise Killed

    return report
