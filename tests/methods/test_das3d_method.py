"""DAS3D as a plug-in: its synthesis beside the slow version, and its switches switch."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from methods.blocks.draem import image_score
from methods.blocks.samples import rgbd
from methods.blocks.textures import procedural
from methods.blocks.training import decay
from methods.contract import Run
from methods.das3d.method import Das3d
from methods.das3d.network import Das3dNet, das3d_loss
from methods.das3d.settings import Settings
from methods.das3d.synthesis import draw_samples, synthesise
from methods.seeds import seed_for
from tests.methods import das3d_oracle as oracle
from tests.methods.tiny import SAMPLES, SIZES, tiny_of

SIZE, tiny = SIZES["das3d"], partial(tiny_of, "das3d")


@pytest.fixture(scope="module")
def samples():
    return SAMPLES["das3d"]()


def fitted(samples, settings=None, setting="rgb+3d", **run):
    method = Das3d(settings or tiny(), setting, Run(category="disc", **run))
    method.fit(samples, samples)
    return method


def draws_for(settings, seeds=range(6), setting="rgb+3d"):
    return draw_samples(seeds, settings, setting, lambda rng: procedural(rng, SIZE))


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


def test_progress_is_reported_at_the_steps_of_the_curve_and_at_the_end(samples, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 1e9)
    seen = []
    fitted(samples, report=seen.append)
    assert [p.step for p in seen] == [1, 2, 3, 4, 5, 6]  # of so few all are on it
    monkeypatch.setattr("methods.blocks.training.on_curve", lambda step, total: step == total)
    seen.clear()
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
        assert all(np.array_equal(getattr(one, k)[0], getattr(many, k)[i]) for k in vars(many))


def test_depth_alone_has_no_colours_and_needs_no_textures(samples):
    fitted(samples, tiny(texture__source="dtd", train__steps=1), "3d")


def test_inputs_sizes_and_notes_tell_what_a_result_rests_on(tmp_path):
    (tmp_path / "a.jpg").touch()
    settings = tiny(texture__source="folder", texture__folder=str(tmp_path))
    assert Das3d.inputs(settings, "rgb+3d") == {"texture.folder": tmp_path}
    assert Das3d.inputs(settings, "3d") == Das3d.inputs(tiny(), "rgb") == {"texture.folder": None}
    method = Das3d(settings, "rgb+3d")
    assert method.notes() == {"texture_source": "folder"}
    sizes = method.sizes()
    assert sizes["weight_bytes"] > 4 * sizes["parameters"] > 0
    assert Das3d.view(settings, "rgb+3d").size == SIZE
