"""DAS3D as a plug-in: repeatable, resumable, independent of batching; its switches switch."""

import dataclasses

import numpy as np
import pytest
import torch

from methods.blocks.draem import image_score
from methods.blocks.samples import rgbd
from methods.blocks.textures import procedural
from methods.blocks.training import decay
from methods.contract import Run, Samples, settings_from
from methods.das3d.method import Das3d
from methods.das3d.network import Das3dNet, das3d_loss
from methods.das3d.settings import Settings
from methods.das3d.synthesis import draw_samples, synthesise
from methods.seeds import seed_for
from tests.methods import das3d_oracle as oracle

SIZE = 64
TINY = {
    "prep": {"size": SIZE},
    "texture": {"source": "procedural"},
    "recon": {"width": 4},
    "disc": {"base": 4},
    "train": {"steps": 6, "batch": 3, "lr": 1e-3},
}


def tiny(**changes):
    """Settings.tiny, with "train__steps=3" for train.steps = 3."""
    values = {k: dict(v) for k, v in TINY.items()}
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        (values.setdefault(group, {}) if group else values)[key] = value
    return settings_from(Settings, values)


@pytest.fixture(scope="module")
def samples():
    """Seven shaded discs on a background at depth 1."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    radius = np.hypot(x, y)[None] / rng.uniform(18, 26, (7, 1, 1))
    inside = radius < 1
    depth = np.where(inside, 0.6 * radius**2, 1).astype(np.float32)
    shade = inside[..., None] * (120 + 60 * radius[..., None]) * rng.uniform(0.8, 1.2, 3)
    rgb = np.clip(shade + rng.normal(0, 3, shade.shape) * inside[..., None], 0, 255)
    arrays = {"rgb": rgb.astype(np.uint8), "depth": depth, "foreground": inside}
    return Samples(arrays, tuple(f"{i:03d}" for i in range(7)))


def fitted(samples, settings=None, setting="rgb+3d", **run):
    method = Das3d(settings or tiny(), setting, Run(category="disc", **run))
    method.fit(samples, samples)
    return method


def same_weights(a, b):
    a, b = a.net.state_dict(), b.net.state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


def draws_for(settings, seeds=range(6), setting="rgb+3d"):
    return draw_samples(seeds, settings, setting, lambda rng: procedural(rng, SIZE))


@pytest.mark.parametrize("setting", ["rgb", "3d", "rgb+3d"])
def test_prediction_of_one_equals_that_of_many(samples, setting, tmp_path):
    method = fitted(samples, tiny(train__steps=2), setting)
    many = method.predict(samples.batch(range(7)))
    assert many.maps.shape == (7, SIZE, SIZE) and many.scores.shape == (7,)
    assert many.maps.dtype == many.scores.dtype == torch.float32
    for i in range(7):
        one = method.predict(samples.batch([i]))
        torch.testing.assert_close(one.maps[0], many.maps[i], rtol=0, atol=1e-6)
        torch.testing.assert_close(one.scores[0], many.scores[i], rtol=0, atol=1e-6)

    method.save(tmp_path)
    loaded = Das3d(method.settings, setting, Run(seed=5))
    loaded.load(tmp_path)
    assert torch.equal(loaded.predict(samples.batch(range(7))).maps, many.maps)


def test_synthesis_of_one_equals_that_of_many(samples):
    settings = tiny()
    rgb, depth, foreground = rgbd(samples.batch(range(6)))
    many = synthesise(rgb, depth, foreground, draws_for(settings), settings)
    for i in range(6):
        j = slice(i, i + 1)
        one = synthesise(rgb[j], depth[j], foreground[j], draws_for(settings, [i]), settings)
        for a, b in zip(one, many):
            torch.testing.assert_close(a[0], b[i], rtol=0, atol=1e-6)
        assert torch.equal(one.mask[0], many.mask[i])


def test_synthesis_matches_the_slow_version(samples):
    settings = tiny()
    batch = samples.batch(range(6))
    draws = draws_for(settings)
    made = synthesise(*rgbd(batch), draws, settings)
    assert made.mask.sum() > 0
    for i in range(6):
        arrays = [batch[k][i].numpy() for k in ("rgb", "depth", "foreground")]
        rgb, depth, mask = oracle.synthesise(arrays[0] / 255, *arrays[1:], draws, i, settings)
        agree = made.mask[i, 0].numpy() == mask
        assert agree.mean() > 0.995  # float32: thresholds can tip a pixel
        shown = made.rgb[i].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(shown[agree], rgb[agree], atol=1e-5)
        near = np.abs(made.depth[i, 0].numpy() - depth)
        assert near.max() < 0.05 and np.median(near) < 1e-6


def test_the_same_seed_gives_the_same_bits_and_another_does_not(samples):
    first, again, other = (fitted(samples, seed=s) for s in (1, 1, 2))
    assert same_weights(first, again)
    assert not same_weights(first, other)


class Killed(Exception):
    pass


def test_a_killed_and_resumed_fit_equals_an_undisturbed_one(samples, tmp_path, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    undisturbed = fitted(samples)

    def kill(progress):
        if progress.step == 4:
            raise Killed

    with pytest.raises(Killed):
        fitted(samples, folder=tmp_path, checkpoint_every_s=0.0, report=kill)
    seen = []
    resumed = fitted(samples, folder=tmp_path, report=seen.append)
    assert [p.step for p in seen] == [4, 5, 6]  # step 4 was not saved before the kill
    assert same_weights(resumed, undisturbed)


def test_progress_is_reported_now_and_then_and_at_the_end(samples, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 1e9)
    seen = []
    fitted(samples, report=seen.append)
    assert [p.step for p in seen] == [6]
    assert np.isfinite(seen[-1].loss) and seen[-1].seconds_left == 0


def test_a_few_steps_lower_the_loss(samples):
    settings = tiny(train__steps=60, train__batch=4, train__lr=3e-3)
    made = synthesise(*rgbd(samples.batch(range(6))), draws_for(settings), settings)

    def loss(method):
        with torch.inference_mode():
            output = method.net(made.rgb, made.depth)
        return das3d_loss(output, made.clean_rgb, made.clean_depth, made.mask, settings.loss)

    before = loss(fitted(samples, dataclasses.replace(settings, train=tiny(train__steps=0).train)))
    after = loss(fitted(samples, settings))
    assert after["total"] < 0.6 * before["total"]
    assert after["focal"] < 0.6 * before["focal"]


def test_dropout_can_be_switched_off(samples):
    always, never = (draws_for(tiny(p_d=p), range(40)) for p in (0.5, 0.0))
    assert not (never.drop_rgb | never.drop_depth).any()
    share = (always.drop_rgb & always.drop_depth).float().mean()
    assert 0.05 < share < 0.5
    normal = draws_for(tiny(p_d=0.0, train__normal_prob=1.0))
    assert (normal.drop_rgb & normal.drop_depth).all()


def test_dropped_samples_are_clean(samples):
    settings = tiny(p_d=1.0)
    made = synthesise(*rgbd(samples.batch(range(6))), draws_for(settings), settings)
    assert torch.equal(made.rgb, made.clean_rgb) and torch.equal(made.depth, made.clean_depth)
    assert made.mask.sum() == 0


@pytest.mark.parametrize("setting", ["rgb", "3d"])
def test_one_modality_is_clean_with_probability_p_d(samples, setting):
    settings = tiny()
    draws = draws_for(settings, range(40), setting)
    own, other = draws.drop_rgb, draws.drop_depth
    if setting == "3d":
        own, other = other, own
    assert other.all() and 0.2 < own.float().mean() < 0.8
    made = synthesise(*rgbd(samples.batch(np.arange(40) % 7)), draws, settings)
    assert (made.mask.sum((1, 2, 3))[own] == 0).all()
    assert made.mask.sum((1, 2, 3))[~own].gt(0).float().mean() > 0.5


def test_the_filter_can_be_switched_off(samples):
    inputs = rgbd(samples.batch(range(6)))
    for literal in (False, True):
        settings = tiny(p_d=0.0, skew__enabled=False, skew__literal_ablation=literal)
        draws = draws_for(settings)
        made = synthesise(*inputs, draws, settings)
        change = (made.depth - made.clean_depth).abs()
        p_z = torch.ones(6) if literal else draws.p_z
        steps = torch.where(made.mask > 0, p_z.view(-1, 1, 1, 1), 0.0)
        torch.testing.assert_close(change, steps, rtol=0, atol=1e-6)


def test_other_switches_of_the_synthesis(samples):
    inputs = rgbd(samples.batch(range(6)))

    def made(**changes):
        settings = tiny(p_d=0.0, **changes)
        return synthesise(*inputs, draws_for(settings), settings)

    default = made()
    outside = default.mask * (1 - inputs[2])
    assert outside.sum() > 0
    cut = made(mask__intersect_foreground=True)
    assert torch.equal(cut.mask, default.mask * inputs[2])
    largest = (made(skew__norm="result", p_z=(0.2, 0.2)).depth - inputs[1]).abs().amax((1, 2, 3))
    assert ((largest - 0.2).abs() < 1e-5).all()
    assert made(skew__norm="max").mask.sum() > default.mask.sum()
    for change in [{"skew__standardise": True}, {"skew__rho": 0.5}, {"skew__h": 9}]:
        assert not torch.equal(made(**change).depth, default.depth)
    turned = made(aug__rotate_prob=1.0)
    assert not torch.equal(turned.clean_depth, inputs[1])
    assert turned.clean_depth[:, :, 0, 0].sub(1).abs().max() < 1e-6  # corners: background


def test_switches_of_the_network():
    rgb, depth = torch.rand(1, 3, SIZE, SIZE), torch.rand(1, 1, SIZE, SIZE)
    widths = {"b1,b2,db3,db4": 40, "b1,db4": 16, "b1,b2,db4,out": 36}
    for features, channels in widths.items():
        net = Das3dNet(tiny(features=features)).eval()
        assert net(rgb, depth).fuse.shape == (1, channels, SIZE, SIZE)
    net = Das3dNet(tiny(depth_channels=3, recon__skips=True)).eval()
    assert net(rgb, depth).recon_depth.shape == (1, 3, SIZE, SIZE)
    for detach in (False, True):
        net = Das3dNet(tiny(detach_features=detach))
        net(rgb, depth).logits.sum().backward()
        touched = net.recon_rgb.encoder.block1[0].weight.grad is not None
        assert touched != detach


def test_weights_of_the_loss_weigh(samples):
    settings = tiny(loss__w_depth=0.0, loss__w_focal=2.0)
    rgb, depth, foreground = rgbd(samples.batch(range(2)))
    output = Das3dNet(settings)(rgb, depth)
    terms = das3d_loss(output, rgb, depth, foreground, settings.loss)
    expected = terms["rgb"] + terms["ssim"] + 2 * terms["focal"]
    torch.testing.assert_close(terms["total"], expected)


def test_scores_are_of_the_map_or_of_its_average(samples):
    batch = samples.batch(range(3))
    plain, averaged = (Das3d(tiny(score=s), "3d").predict(batch) for s in ("max", "window"))
    assert torch.equal(plain.scores, plain.maps.amax(dim=(1, 2)))
    assert torch.equal(averaged.scores, image_score(averaged.maps, 21))


def test_image_score_averages_over_the_window_with_zeros_outside():
    maps = torch.zeros(2, 40, 40)
    maps[0, 0, 0] = maps[1, 10:31, 10:31] = 1
    torch.testing.assert_close(image_score(maps, 21), torch.tensor([1 / 441, 1.0]))


def test_the_learning_rate_falls_at_the_milestones():
    train = Settings().train
    steps = (0, 15_999, 16_000, 17_999, 18_000)
    rates = [train.lr * decay(step, train) for step in steps]
    assert rates == pytest.approx([1e-4, 1e-4, 2e-5, 2e-5, 4e-6])


def test_every_epoch_sees_every_sample_once():
    method = Das3d(tiny(train__batch=3), "3d")
    order = np.concatenate([method._order(step, 7) for step in range(14)])
    epochs = order.reshape(6, 7)
    assert (np.sort(epochs, axis=1) == np.arange(7)).all()
    assert len({tuple(e) for e in epochs}) > 1
    assert method._order(0, 2).max() < 2  # a batch longer than the training set


def test_draws_belong_to_a_sample_not_to_its_batch():
    settings = tiny()
    seeds = [seed_for("simulate", "das3d", "disc", 0, 5, i) for i in range(4)]
    many = draws_for(settings, seeds)
    for i, seed in enumerate(seeds):
        one = draws_for(settings, [seed])
        assert all(torch.equal(getattr(one, k)[0], getattr(many, k)[i]) for k in vars(many))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"score": "mean"}, "score is 'mean'; it can be window, max"),
        ({"skew__norm": "l2"}, "skew.norm is 'l2'; it can be sum, max, result"),
        ({"skew__h": 8}, "skew.h is 8; it must be odd"),
        ({"texture__source": "web"}, "texture.source is 'web'; it can be dtd"),
        ({"features": "b1,b9"}, "features is 'b9'; it can be b1, b2"),
        ({"depth_channels": 2}, "depth_channels is 2; it can be 1, 3"),
        ({"prep__size": 80}, "prep.size is 80 px; it must divide by 32"),
    ],
)
def test_bad_choices_say_what_would_do(changes, said):
    with pytest.raises(ValueError, match=said):
        tiny(**changes)


def test_a_missing_texture_folder_says_which_setting_names_it(samples):
    with pytest.raises(FileNotFoundError, match="das3d.texture.folder"):
        fitted(samples, tiny(texture__source="dtd"))
    fitted(samples, tiny(texture__source="dtd", train__steps=1), "3d")  # depth has no colours
    fitted(samples, tiny(texture__source="dtd", train__steps=0))  # nor has no training


def test_inputs_sizes_and_notes_tell_what_a_result_rests_on(tmp_path):
    settings = tiny(texture__source="folder", texture__folder=str(tmp_path))
    assert Das3d.inputs(settings, "rgb+3d") == {"texture.folder": tmp_path}
    assert Das3d.inputs(settings, "3d") == Das3d.inputs(tiny(), "rgb") == {"texture.folder": None}
    method = Das3d(settings, "rgb+3d")
    assert method.notes() == {"texture_source": "folder"}
    sizes = method.sizes()
    assert sizes["weight_bytes"] > 4 * sizes["parameters"] > 0
    assert Das3d.view(settings).size == SIZE


def test_variants_name_settings_that_exist():
    for overrides in Das3d.variants.values():
        for name in overrides:
            target = Settings()
            for part in name.split("."):
                target = getattr(target, part)


def test_a_diverged_loss_stops_the_fit(samples, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    with pytest.raises(FloatingPointError, match="train.lr"):
        fitted(samples, tiny(train__lr=1e30))


def test_settings_fit_a_structured_config():
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.structured(Settings)
    changes = {"skew": {"sigma": [1.0, 1.0], "h": 7}, "texture": {"folder": "somewhere"}}
    settings = omegaconf.OmegaConf.to_object(omegaconf.OmegaConf.merge(config, changes))
    assert settings.skew.h == 7 and tuple(settings.skew.sigma) == (1.0, 1.0)
    assert settings.train == Settings().train
