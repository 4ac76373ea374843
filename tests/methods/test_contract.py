"""What every method must do: the same bits again, each sample alone, on from a kill, clear faults.

What is particular to one stands in its own test_*_method.py.
"""

import dataclasses
import functools
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import methods
from methods.contract import SETTINGS, Run, Samples
from methods.contract_suite import CHECKS, Case, run_one, same, state_of
from methods.work import patch_macs
from tests.methods.shape_guided_scenes import scenes
from tests.methods.tiny import (
    CATEGORY,
    OWN_VARIANT,
    SAMPLES,
    SIZES,
    Killed,
    Stages,
    kill_at,
    tiny_of,
)

EVERY = pytest.mark.parametrize("name", methods.METHODS)
EVERY_SETTING = pytest.mark.parametrize("setting", SETTINGS)
# Of one sample alone from many, maps and scores: absolute, and relative to the largest
ALONE = {
    "dbrn": ((5e-6, 0), (5e-6, 0)),
    "3dsr": ((2e-5, 0), (2e-5, 0)),
    "das3d": ((1e-6, 0), (1e-6, 0)),
    "m3dm": ((0, 0.02), (0, 1e-4)),  # levels of 8 bits may tip
    "shape_guided": ((0, 0.01), (1e-6, 1e-4)),
    "baseline": ((0, 0), (0, 0)),
}
# Seeds of a method that its predictions know of; another one is to load the same.
SEEDED_PREDICTION = ("dbrn", "shape_guided")
SEEDLESS = ("baseline",)  # draws nothing
REFITTED = ("same_seed", "resumed", "figures")  # checks that fit anew: in one setting
CHECKED = [
    (name, setting, check)
    for name in methods.METHODS
    for setting in SETTINGS
    for check in CHECKS
    if setting == "rgb+3d" or check not in REFITTED
]


@pytest.fixture(scope="module")
def samples():
    return {name: make() for name, make in SAMPLES.items()}


@pytest.fixture(scope="module")
def new(samples):
    """Samples to predict; of Shape-Guided others, since it finds its own again without error."""
    others = scenes(3, SIZES["shape_guided"], seed=1, bump=(1,))
    return samples | {"shape_guided": named(others)}


@pytest.fixture(scope="module")
def stages(samples, tmp_path_factory):
    return {name: Stages(name, samples[name], tmp_path_factory.mktemp) for name in SAMPLES}


@pytest.fixture(scope="module")
def fitted(samples, stages):
    def fit(name, settings=None, setting="rgb+3d", **run):
        settings = settings or tiny_of(name, OWN_VARIANT.get((name, setting), ""))
        run = {"stages": stages[name](settings, setting)} | run
        method = methods.get(name)(settings, setting, Run(category=CATEGORY, **run))
        method.fit(samples[name], samples[name])
        return method

    return fit


def named(samples):
    """Under ids that no stage has kept anything of."""
    return Samples(samples.arrays, tuple(f"new/{i}" for i in range(len(samples))))


@pytest.fixture(scope="module")
def case(samples, new, tmp_path_factory):
    """What the suite for authors checks of a method of ours."""

    @functools.cache
    def make(name, setting):
        settings = tiny_of(name, OWN_VARIANT.get((name, setting), ""))
        data = {"train": samples[name], "validation": samples[name], "test": new[name]}
        size = (SIZES[name], SIZES[name])
        of = (methods.get(name), settings, setting, data, tmp_path_factory.mktemp)
        return Case(*of, CATEGORY, size=size, alone=ALONE[name])

    return make


@pytest.mark.parametrize("name, setting, check", CHECKED)
def test_ours_pass_the_suite_for_authors(case, name, setting, check):
    result = run_one(case(name, setting), check)
    assert result.state != "failed", result.why


@EVERY
@EVERY_SETTING
def test_a_saved_method_predicts_the_same_bits(new, fitted, name, setting, tmp_path):
    method = fitted(name, setting=setting)
    method.save(tmp_path)
    seed = 0 if name in SEEDED_PREDICTION else 5
    loaded = type(method)(method.settings, setting, Run(category=CATEGORY, seed=seed))
    loaded.load(tmp_path)
    batch = new[name].batch(range(len(new[name])))
    found, wanted = loaded.predict(batch), method.predict(batch)
    assert torch.equal(found.maps, wanted.maps) and torch.equal(found.scores, wanted.scores)


@EVERY
def test_the_same_seed_gives_the_same_bits_and_another_does_not(new, fitted, name, tmp_path):
    batch = new[name].batch(range(3))
    first, again, other = (fitted(name, seed=seed) for seed in (1, 1, 2))
    states = [state_of(m, tmp_path / n) for m, n in ((first, "a"), (again, "b"), (other, "c"))]
    found = [method.predict(batch) for method in (first, again, other)]
    assert same(states[0], states[1]) and same(*(vars(f) for f in found[:2]))
    if name in SEEDLESS:
        assert same(states[0], states[2]) and same(vars(found[0]), vars(found[2]))
        return
    assert not same(states[0], states[2])
    assert not torch.equal(found[0].scores, found[2].scores)


DBRN_KILLED = {"train__norm_batches": 2}


@pytest.mark.parametrize(
    "name, variant, changes, setting, phase, step",
    [
        ("das3d", "", {}, "rgb+3d", "train", 4),
        ("dbrn", "ms", DBRN_KILLED, "rgb+3d", "train", 3),
        ("dbrn", "swin_unet_swin_unet", DBRN_KILLED, "rgb+3d", "train", 3),
        ("3dsr", "", {}, "rgb+3d", "train", 3),
        ("3dsr", "", {}, "rgb", "train", 3),
        ("3dsr", "", {}, "rgb", "upsample", 3),
        ("m3dm", "", {}, "rgb+3d", "project rgb", 3),
        ("m3dm", "", {}, "rgb+3d", "project fusion", 3),
        ("shape_guided", "", {}, "rgb+3d", "remember", 4),
        ("shape_guided", "", {}, "rgb+3d", "align", 2),
    ],
)
def test_a_killed_and_resumed_fit_equals_an_undisturbed_one(
    fitted, name, variant, changes, setting, phase, step, tmp_path, monkeypatch
):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    settings, work = tiny_of(name, variant, **changes), tmp_path / "work"
    work.mkdir()
    whole, seen = [], []
    undisturbed = fitted(name, settings, setting, report=whole.append)
    kill = {"checkpoint_every_s": 0.0, "report": kill_at(phase, step)}
    with pytest.raises(Killed):
        fitted(name, settings, setting, folder=work, **kill)
    resumed = fitted(name, settings, setting, folder=work, report=seen.append)
    whole, seen = ([(p.phase, p.step, p.total, p.loss) for p in ps] for ps in (whole, seen))
    left = next(i for i, report in enumerate(whole) if report[:2] == (phase, step))
    # The step that killed it was not saved before; what came before is not repeated.
    assert seen == whole[left:]
    assert same(state_of(resumed, tmp_path / "a"), state_of(undisturbed, tmp_path / "b"))


@pytest.mark.parametrize(
    "name, setting, other",
    [
        *((name, "rgb", "depth") for name in ("das3d", "dbrn", "3dsr")),
        *((name, "3d", "rgb") for name in methods.METHODS),
        ("m3dm", "rgb", "xyz"),
        ("baseline", "rgb", "height"),
    ],
)
def test_one_modality_needs_no_data_of_the_other(new, fitted, name, setting, other):
    method, own = fitted(name, setting=setting), named(new[name])
    noise = np.random.default_rng(1).permuted(own.arrays[other])
    changed = Samples({**own.arrays, other: noise}, own.ids)
    found, wanted = (method.predict(s.batch(range(3))) for s in (changed, own))
    assert torch.equal(found.maps, wanted.maps) and torch.equal(found.scores, wanted.scores)


@EVERY
def test_sizes_and_view_are_those_of_the_settings(fitted, name):
    method = fitted(name)
    sizes = method.sizes()
    assert sizes["weight_bytes"] >= 4 * sizes["parameters"] > 0
    assert all(isinstance(value, int) for value in sizes.values())
    assert type(method).view(method.settings, method.setting).size == SIZES[name]


@EVERY
def test_settings_fit_a_structured_config(name):
    omegaconf = pytest.importorskip("omegaconf")
    Settings = methods.get(name).Settings
    changes, wanted = STRUCTURED[name]
    config = omegaconf.OmegaConf.merge(omegaconf.OmegaConf.structured(Settings), changes)
    settings = omegaconf.OmegaConf.to_object(config)
    for dotted, value in wanted.items():
        found = settings
        for part in dotted.split("."):
            found = getattr(found, part)
        assert (tuple(found) if isinstance(value, tuple) else found) == value, dotted
    untouched = {f.name for f in dataclasses.fields(Settings)} - set(changes)
    assert all(getattr(settings, f) == getattr(Settings(), f) for f in untouched)


STRUCTURED = {  # method: what is given -> what comes of it
    "baseline": ({"cue": "plane", "prep": {"size": 64}}, {"cue": "plane", "prep.size": 64}),
    "das3d": (
        {"skew": {"sigma": [1.0, 1.0], "h": 7}, "texture": {"folder": "somewhere"}},
        {"skew.h": 7, "skew.sigma": (1.0, 1.0), "texture.folder": "somewhere"},
    ),
    "dbrn": (
        {
            "prep": {"fg_threshold": 0.004},
            "focal": {"alpha": None},
            "loss": {"weights": [1, 1, 1, 1]},
            "scales": [1.0, 0.5],
        },
        {
            "prep.fg_threshold": "0.004",
            "focal.alpha": None,
            "loss.weights": (1, 1, 1, 1),
            "scales": (1.0, 0.5),
        },
    ),
    "3dsr": (
        {"dada": {"weights": "a.pckl", "net": {"init_std": None}}, "mask": {"threshold": [0, 1]}},
        {"dada.weights": "a.pckl", "dada.net.init_std": None, "mask.threshold": (0.0, 1.0)},
    ),
    "m3dm": (
        {"weights": {"rgb": "random-init"}, "uff": {"iterations": 250}},
        {"weights.rgb": "random-init", "uff.iterations": 250},
    ),
    "shape_guided": (
        {"net": {"points": [8, 16, 32]}, "weights": {"rgb": "random-init"}},
        {"net.points": (8, 16, 32), "weights.rgb": "random-init"},
    ),
}


@pytest.mark.parametrize("name, lr", [("das3d", "lr"), ("dbrn", "lr_recon"), ("3dsr", "lr")])
def test_a_diverged_loss_stops_the_fit(fitted, name, lr, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    with pytest.raises(FloatingPointError, match=f"{name}: loss is .*train.lr"):
        fitted(name, tiny_of(name, **{f"train__{lr}": 1e30}))


@pytest.mark.parametrize("name", ["das3d", "dbrn"])
def test_a_missing_texture_folder_says_which_setting_names_it(fitted, name):
    with pytest.raises(FileNotFoundError, match=f"{name}.texture.folder"):
        fitted(name, tiny_of(name, texture__source="dtd"))
    fitted(name, tiny_of(name, texture__source="dtd", train__steps=0))  # no training, no textures


@pytest.mark.parametrize(
    "name, changes, said",
    [
        ("baseline", {"cue": "depth"}, "cue is 'depth'; it can be plane, colour, both, missing"),
        ("baseline", {"normal": "mean"}, "normal is 'mean'; it can be pixel, image"),
        ("baseline", {"window": 4}, "window is 4; it must be odd"),
        ("baseline", {"colour_noise": 0.0}, "colour_noise is 0.0; it must be above 0"),
        ("das3d", {"score": "mean"}, "score is 'mean'; it can be window, max"),
        ("das3d", {"skew__norm": "l2"}, "skew.norm is 'l2'; it can be sum, max, result"),
        ("das3d", {"skew__h": 8}, "skew.h is 8; it must be odd"),
        ("das3d", {"texture__source": "web"}, "texture.source is 'web'; it can be dtd"),
        ("das3d", {"features": "b1,b9"}, "features is 'b9'; it can be b1, b2"),
        ("das3d", {"depth_channels": 2}, "depth_channels is 2; it can be 1, 3"),
        ("das3d", {"prep__size": 80}, "prep.size is 80 px; it must divide by 32"),
        ("dbrn", {"score": "mean"}, "score is 'mean'; it can be window, max"),
        ("dbrn", {"fusion": "late"}, "fusion is 'late'; it can be ism, early, hadamard, cat"),
        ("dbrn", {"recon__net": "unet"}, "recon.net is 'unet'; it can be swin_unet, res_unet"),
        ("dbrn", {"dropout__type": "pixel"}, "dropout.type is 'pixel'; it can be element"),
        ("dbrn", {"loss__ms": "max"}, "loss.ms is 'max'; it can be enlarged, native, sum"),
        ("dbrn", {"scales": (0.5, 0.25)}, "scales is .*it can be the first of"),
        ("dbrn", {"sim__e2": 0.8}, "e2 is 0.8 and dbrn.sim.e1 0.7; they must satisfy"),
        ("dbrn", {"prep__size": 80}, "prep.size is 80 px; it must divide by 32"),
        ("dbrn", {"disc__pe": "patch4"}, "prep.size is 64 px; it must divide by 128"),
        ("dbrn", {"swin__window": 7}, "swin.window is 7; it must divide 16"),
        ("dbrn", {"swin__heads": [3, 6, 12, 24]}, "stage 0 has 8 channels.*3 heads"),
        ("dbrn", {"test__passes": 0}, "test.passes is 0"),
        ("dbrn", {"score_window": 20}, "score_window is 20; it must be odd"),
        ("3dsr", {"dada__net__codebook": "mean"}, "codebook is 'mean'; it can be ema, gradient"),
        ("3dsr", {"anomaly__replacement": "any"}, "replacement is 'any'; it can be ranked, random"),
        (
            "3dsr",
            {"mask__threshold": [0.8, 0.4]},
            "mask.threshold is .*must not be above .*, both within 0 and 1",
        ),
        ("3dsr", {"score__window_px": 4}, "window_px is 4; it must be odd"),
        ("3dsr", {"prep__size": 80}, "prep.size is 80 px; it must divide by 32"),
        ("3dsr", {"dada__size": 30}, "dada.size is 30 px; it must divide by 8"),
        ("3dsr", {"dada__net__hidden": 12}, "hidden 12 must divide by 8"),
        ("m3dm", {"banks": "rgb,fusion"}, "banks is 'rgb,fusion'; it can be xyz"),
        ("m3dm", {"coreset__share": 0.0}, "coreset.share is 0.0"),
        ("m3dm", {"point__mode": "train"}, "point.mode is 'train'; it can be batchstat"),
        ("m3dm", {"point__depth": 4}, "multiple of 3"),
        ("m3dm", {"rgb__backbone": "resnet"}, "rgb.backbone is 'resnet'"),
        ("m3dm", {"pfa__level": "group", "pfa__rule": "all"}, "interpolates with"),
        ("shape_guided", {"search__code_sdf": "lasso"}, "code_sdf is 'lasso'; it can be omp, nn"),
        (
            "shape_guided",
            {"search__expansion": "square"},
            "expansion is 'square'; it can be shift, dilate",
        ),
        (
            "shape_guided",
            {"align__leave_out": "none"},
            "leave_out is 'none'; it can be entry, image",
        ),
        ("shape_guided", {"maps__overlap": "max"}, "overlap is 'max'; it can be min, mean"),
        (
            "shape_guided",
            {"train__encoder_input": "all"},
            "encoder_input is 'all'; it can be targets, patch",
        ),
        ("shape_guided", {"patches__points": 1}, "patches.points is 1; it must be at least 2"),
        ("shape_guided", {"patches__scale": 0.0}, "patches.scale is 0.0; it must be above 0"),
        ("shape_guided", {"patches__overlap": -1.0}, "patches.overlap is -1.0; it must be above 0"),
        ("shape_guided", {"search__k_rgb": 0}, "k_rgb is 0; it must be at least 1"),
        ("shape_guided", {"prep__size": 100}, "prep.size is 100 px; it must divide by 8"),
    ],
)
def test_bad_choices_say_what_would_do(name, changes, said):
    with pytest.raises(ValueError, match=rf"{name}[.:].*{said}"):
        tiny_of(name, **changes)


def test_shape_guided_tells_its_work_on_rgb_and_the_macs_of_a_patch(fitted):
    method, seen = fitted("shape_guided"), []

    def part(name):
        seen.append(name)
        return nullcontext()

    method.run.part = part
    try:
        method.predict(SAMPLES["shape_guided"]().batch([0]))
    finally:
        del method.run.part
    assert set(seen) == {"rgb"}
    s = method.settings
    assert method.sizes()["macs_per_patch"] == patch_macs(s.net, s.patches.scaled.points) > 0
