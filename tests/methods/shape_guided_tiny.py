"""What the tests of Shape-Guided share: tiny networks, samples, and fits of them."""

import pytest

from methods.contract import Run, settings_from
from methods.shape_guided.method import ShapeGuided
from methods.shape_guided.settings import Settings
from methods.shape_guided.stage import ShapeExpert
from tests.methods.shape_guided_scenes import scenes

SIZE = 64
TINY = {
    "prep": {"size": SIZE},
    "weights": {"rgb": "random-init"},
    "rgb": {"backbone": "resnet10t"},
    "patches": {"points": 64},
    "align": {"samples": 3},
    "batch": 2,
    "search": {"expand": 1},
    "net": {"points": [8, 16, 32], "hidden": 32, "feature": 16, "width": 32, "depth": 2},
    "train": {"steps": 12, "batch": 8, "clouds": 3, "lr": 1e-3},
}


def tiny(**changes):
    """Settings of tiny networks, with "train__steps=3" for train.steps = 3."""
    values = {k: dict(v) if isinstance(v, dict) else v for k, v in TINY.items()}
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        (values.setdefault(group, {}) if group else values)[key] = value
    return settings_from(Settings, values)


def dotted(overrides):
    return tiny(**{name.replace(".", "__"): value for name, value in overrides.items()})


@pytest.fixture(scope="module")
def samples():
    return scenes(5, SIZE)


@pytest.fixture(scope="module")
def test_samples():
    return scenes(3, SIZE, seed=1, bump=(1,))


def expert(samples, settings, into, **run):
    stage = ShapeExpert(ShapeGuided.stage_settings(settings, "3d")["shape_expert"], Run(**run))
    stage.fit({"disc": samples})
    stage.save(into)
    return stage


@pytest.fixture(scope="module")
def stages(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expert")
    expert(samples, tiny(), folder)
    return {"shape_expert": folder}


def fitted(samples, stages, settings=None, setting="rgb+3d", **run):
    method = ShapeGuided(settings or tiny(), setting, Run(category="disc", stages=stages, **run))
    method.fit(samples, samples)
    return method


def distinct(samples, parity, **changes):
    """Fitted with an expert whose features differ: after few steps neighbours are all but ties."""
    method = ShapeGuided(tiny(weights__sdf="random-init", **changes), "rgb+3d")
    parity("shape_guided").fill(method.shape)
    method.fit(samples, samples)
    return method
