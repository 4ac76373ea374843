"""Every method, its stages, settings and variants on an accelerator: what the CPU computes.

The accelerator refuses operands of different devices, so whatever forgets to move is found.
"""

from functools import cache
from pathlib import Path

import pytest
import torch

import methods
from methods.contract import SETTINGS, Run
from tests.methods.tiny import CATEGORY, OWN_VARIANT, Killed, Stages, kill_at, tiny_of


def kinds():
    """(method, variant, setting); the daily suite has those without variant."""
    for name in methods.METHODS:
        for setting in SETTINGS:
            own = OWN_VARIANT.get((name, setting), "")
            yield pytest.param(name, own, setting, id=f"{name}-{setting}")
            for variant in methods.get(name).variants:
                if variant != own:
                    id = f"{name}/{variant}-{setting}"
                    yield pytest.param(name, variant, setting, id=id, marks=pytest.mark.slow)


# Largest difference from the CPU, of the largest value, where sums have other blocks; M3DM's
# fusion is trained on such sums, which a training enlarges.
ROUNDED = {
    ("m3dm", "rgb+3d"): 1e-2,
    ("m3dm", "rgb"): 1e-6,
    ("m3dm", "3d"): 1e-6,
    ("dbrn", "rgb"): 1e-6,
}


@pytest.fixture(scope="module")
def stages(device, samples, tmp_path_factory):
    @cache
    def made(name, where):
        return Stages(name, samples[name], tmp_path_factory.mktemp, where)

    return made


@pytest.fixture
def fit(stages, samples):
    def fitted(name, settings, setting, where, **run):
        given = {"category": CATEGORY, "device": where}
        given |= {"stages": stages(name, where)(settings, setting)} | run
        method = methods.get(name)(settings, setting, Run(**given))
        method.fit(samples[name], samples[name])
        return method

    return fitted


def predicted(method, samples):
    """Of samples, in batches, on the CPU."""
    found = [method.predict(batch) for batch in samples.batches(2, method.run.device)]
    return [torch.cat([getattr(f, part) for f in found]).cpu() for part in ("maps", "scores")]


def near(found, wanted, allowed):
    """Equal to the last bit, or within a share of the largest value."""
    if not allowed:
        return all(map(torch.equal, found, wanted))
    far = max(float((f - w).abs().max() / w.abs().max()) for f, w in zip(found, wanted))
    print(f"largest difference {far:.1e} of the largest value")
    return far <= allowed


def possible(name, variant, setting):
    try:
        settings = tiny_of(name, variant)
        methods.get(name)(settings, setting)
        methods.get(name).stage_settings(settings, setting)
        return settings
    except ValueError as error:
        pytest.skip(f"not a cell: {error}")


@pytest.mark.parametrize("name, variant, setting", [*kinds()])
def test_a_device_gives_the_bits_of_the_cpu(device, fit, samples, name, variant, setting, tmp_path):
    settings = possible(name, variant, setting)
    wanted = predicted(fit(name, settings, setting, "cpu"), samples[name])
    method = fit(name, settings, setting, device)
    found = predicted(method, samples[name])
    allowed = ROUNDED.get((name, setting), 0)
    assert near(found, wanted, allowed)

    method.save(tmp_path)
    for where in (device, "cpu"):
        loaded = type(method)(settings, setting, Run(category=CATEGORY, device=where))
        loaded.load(tmp_path)
        assert near(predicted(loaded, samples[name]), wanted, allowed), where


@pytest.mark.parametrize(
    "name, setting, phase, step",
    [
        ("das3d", "rgb+3d", "train", 4),
        ("dbrn", "rgb+3d", "train", 3),
        ("3dsr", "rgb", "upsample", 3),
        ("m3dm", "rgb+3d", "project fusion", 3),
        ("shape_guided", "rgb+3d", "remember", 4),
    ],
)
def test_a_fit_goes_on_from_its_checkpoint(
    device, fit, samples, name, setting, phase, step, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    settings = tiny_of(name)
    wanted = predicted(fit(name, settings, setting, device), samples[name])
    kill = {"checkpoint_every_s": 0.0, "report": kill_at(phase, step), "folder": tmp_path}
    with pytest.raises(Killed):
        fit(name, settings, setting, device, **kill)
    resumed = fit(name, settings, setting, device, folder=tmp_path)
    assert all(map(torch.equal, predicted(resumed, samples[name]), wanted))
