"""What the tests of Shape-Guided share: tiny networks, samples, and fits of them."""

from functools import partial

import pytest

from methods.contract import Run
from methods.shape_guided.method import ShapeGuided
from methods.shape_guided.stage import ShapeExpert
from tests.methods.shape_guided_scenes import scenes
from tests.methods.tiny import SAMPLES, SIZES, tiny_of

SIZE, tiny = SIZES["shape_guided"], partial(tiny_of, "shape_guided")


def dotted(overrides):
    return tiny(**{name.replace(".", "__"): value for name, value in overrides.items()})


@pytest.fixture(scope="module")
def samples():
    return SAMPLES["shape_guided"]()


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
