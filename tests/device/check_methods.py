"""Every method, its stages, settings and variants on an accelerator: what the CPU computes.

The accelerator refuses operands of different devices, so whatever forgets to move is found.
"""

import csv
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import methods
from methods.blocks.at_once import AtOnce
from methods.contract import SETTINGS, Run
from tests.device import fake
from tests.methods.tiny import CATEGORY, OWN_VARIANT, Killed, Stages, kill_at, tiny_of

COUNTS = Path(__file__).with_name("counts.csv")
SPARE = 1.02  # launches: what another version of torch may take


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


@pytest.fixture(scope="module")
def device(device):
    """As jobs name it, without its number, which not all of torch.cuda takes."""
    return torch.device(device.type)


@pytest.fixture(autouse=True)
def same_sums(monkeypatch):
    """The CPU sums as the accelerator: in its blocks, zeros too, attention in plain operations.

    Else the two differ by rounding, which changes a level of M3DM's 8-bit blur here and there, and
    which 500 updates of its fusion (variant `paper`) enlarge to 12 % of the largest value.
    """
    monkeypatch.setattr(AtOnce, "on", lambda sizes, device: sizes.accelerator)
    monkeypatch.setattr("methods.m3dm.pfa.starts_fast", lambda device: False)
    layout = staticmethod(lambda device: torch.contiguous_format)
    monkeypatch.setattr("methods.dsr3d.networks.InstanceNorm.memory_format", layout)
    with sdpa_kernel(SDPBackend.MATH):
        yield


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
        given |= (
            run if "stages" in run else {"stages": stages(name, where)(settings, setting)} | run
        )
        method = methods.get(name)(settings, setting, Run(**given))
        method.fit(samples[name], samples[name])
        return method

    return fitted


def predicted(method, samples):
    """Of samples, in batches, on the CPU."""
    found = [method.predict(batch) for batch in samples.batches(2, method.run.device)]
    return [torch.cat([getattr(f, part) for f in found]).cpu() for part in ("maps", "scores")]


def same(found, wanted):
    return all(map(torch.equal, found, wanted))


def tensors(state):
    """All in a saved state."""
    if torch.is_tensor(state):
        return [state]
    parts = state.values() if isinstance(state, dict) else state
    return [
        t for p in parts if isinstance(p, (torch.Tensor, dict, list, tuple)) for t in tensors(p)
    ]


@pytest.fixture
def within(request):
    """Whether a cell's stages, fit and predictions cost no more than counts.csv says.

    A tensor that forgets its device where torch forgives it, an index say, is one more wait or
    copy; work on the wrong side is many launches. `--counts FILE` adds the row instead.
    """
    new = request.config.getoption("--counts")

    def compare(cell, found):
        told = {"launches": found.launches, "waits": found.syncs, "copies": found.to_device}
        if new:
            with open(new, "a", encoding="utf-8") as file:
                file.write(",".join(map(str, [cell, *told.values()])) + "\n")
            return
        with COUNTS.open(encoding="utf-8") as file:
            row = next(row for row in csv.DictReader(file) if row["cell"] == cell)
        assert told["waits"] <= int(row["waits"]), found.waits
        assert told["copies"] <= int(row["copies"])
        assert told["launches"] <= SPARE * int(row["launches"]), found.operators

    return compare


def possible(name, variant, setting):
    try:
        settings = tiny_of(name, variant)
        methods.get(name)(settings, setting)
        methods.get(name).stage_settings(settings, setting)
        return settings
    except ValueError as error:
        pytest.skip(f"not a cell: {error}")


@pytest.mark.parametrize("name, variant, setting", [*kinds()])
def test_a_device_gives_the_bits_of_the_cpu(
    device, fit, samples, name, variant, setting, tmp_path, tmp_path_factory, within, request
):
    settings = possible(name, variant, setting)
    wanted = predicted(fit(name, settings, setting, "cpu"), samples[name])
    with fake.counted() as counts:
        made = Stages(name, samples[name], tmp_path_factory.mktemp, device)(settings, setting)
        method = fit(name, settings, setting, device, stages=made)
        found = predicted(method, samples[name])
    assert same(found, wanted)
    within(request.node.callspec.id, counts)

    method.save(tmp_path)
    for file in tmp_path.glob("*.pt*"):  # which a machine without the device can read
        assert all(t.is_cpu for t in tensors(torch.load(file, weights_only=True))), file.name
    for where in (device, "cpu"):
        loaded = type(method)(settings, setting, Run(category=CATEGORY, device=where))
        loaded.load(tmp_path)
        assert same(predicted(loaded, samples[name]), wanted), where


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
    assert same(predicted(resumed, samples[name]), wanted)


@pytest.mark.parametrize("setting, features", [("3d", "point"), ("rgb", "rgb")])
def test_attention_of_a_cpu_differs_by_rounding(samples, setting, features):
    """M3DM's features; that of swin_unet and of timm's networks is the same function."""

    def computed(*kinds):
        method = methods.get("m3dm")(tiny_of("m3dm"), setting, Run(category=CATEGORY))
        with sdpa_kernel([*kinds]):
            return method.patches.features(samples["m3dm"].batch([0, 1], "cpu"))[features]

    plain, fused = computed(SDPBackend.MATH), computed(SDPBackend.FLASH_ATTENTION)
    assert not torch.equal(fused, plain)
    assert (fused - plain).abs().max() <= 1e-6 * plain.abs().max()
