"""DBRN as a plug-in: its simulation beside the slow version; rows and switches say what they do."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import methods
from harness.data.cache import open_split
from harness.data.datasets import open_dataset
from harness.data.synthetic import PRESETS
from harness.data.synthetic.generate import write_category
from harness.data.views.build import build_view
from harness.planning.values import plain
from methods.blocks.draem import Discriminative, image_score
from methods.blocks.res_unet import ResUnet
from methods.blocks.samples import rgbd
from methods.blocks.swin_unet import SwinUnet
from methods.blocks.textures import procedural
from methods.blocks.training import epoch_order
from methods.contract import Run, Samples, save_tensors, settings_from
from methods.dbrn.discriminator import Discriminator
from methods.dbrn.losses import dbrn_loss, reconstruction_terms
from methods.dbrn.method import Dbrn
from methods.dbrn.network import DbrnNet, SameImage
from methods.dbrn.settings import Settings
from methods.dbrn.simulation import anomaly_mask, draw_samples, simulate
from methods.errors import UserError
from methods.seeds import seed_for
from tests.methods import dbrn_oracle as oracle
from tests.methods.tiny import SAMPLES, SIZES, same_weights, tiny_of

SIZE, tiny = SIZES["dbrn"], partial(tiny_of, "dbrn")
ROWS = [name for name in Dbrn.variants if name != "untrained"]


@pytest.fixture(scope="module")
def samples():
    return SAMPLES["dbrn"]()


def fitted(samples, settings=None, setting="rgb+3d", **run):
    method = Dbrn(settings or tiny(), setting, Run(category="disc", **run))
    method.fit(samples, samples)
    return method


def draws_for(settings, seeds=range(6), setting="rgb+3d"):
    return draw_samples(seeds, settings, setting, lambda rng: procedural(rng, SIZE))


@pytest.mark.parametrize("variant", ["", *ROWS])
def test_every_row_of_the_tables_fits_and_predicts_each_sample_on_its_own(samples, variant):
    settings = tiny(variant, train__steps=1)
    method = fitted(samples, settings)
    many = method.predict(samples.batch([0, 1, 2, 3]))
    assert many.maps.shape == (4, SIZE, SIZE) and many.scores.shape == (4,)
    assert many.maps.dtype == many.scores.dtype == torch.float32
    for place, batch in ((2, [2]), (0, [5, 0])):
        one = method.predict(samples.batch(batch))
        torch.testing.assert_close(one.maps[-1], many.maps[place], rtol=0, atol=5e-6)
        torch.testing.assert_close(one.scores[-1], many.scores[place], rtol=0, atol=5e-6)


@pytest.mark.parametrize("setting", ["rgb", "3d"])
def test_one_modality_needs_no_data_of_the_other(samples, setting):
    method = fitted(samples, tiny(train__steps=2, multi_scale=True), setting)
    assert list(method.net.branches) == [{"rgb": "rgb", "3d": "depth"}[setting]]
    assert not hasattr(method.net.disc, "ism")
    other = "depth" if setting == "rgb" else "rgb"
    noise = np.random.default_rng(1).permuted(samples.arrays[other])
    changed = Samples({**samples.arrays, other: noise}, samples.ids)
    assert torch.equal(
        method.predict(samples.batch(range(3))).maps, method.predict(changed.batch(range(3))).maps
    )


def test_norms_can_be_set_after_training_to_plain_means_over_batches(samples):
    running, settled = (fitted(samples, tiny(train__norm_batches=n)) for n in (0, 3))
    parameters = dict(settled.net.named_parameters())
    assert all(torch.equal(p, parameters[name]) for name, p in running.net.named_parameters())

    seen = []
    first = running.net.disc.pe[1]
    first.register_forward_pre_hook(lambda norm, x: seen.append(x[0].movedim(1, 0).flatten(1)))
    running.net.train()
    order = partial(seed_for, "order", "dbrn", "disc", 0)
    for step in range(4, 7):  # after the four of training
        seeds = [seed_for("simulate", "dbrn", "disc", 0, step, i) for i in range(3)]
        with torch.no_grad():
            draws = draw_samples(seeds, running.settings, "rgb+3d", running._texture())
            drops = running._training_drops(step)
            batch = samples.batch(epoch_order(step, 3, len(samples), order))
            running._objective(*running._shown(batch, draws, drops))
    norm = settled.net.disc.pe[1]
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(1) for x in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(1) for x in seen]).mean(0))
    assert norm.momentum == first.momentum == 0.1 and not settled.net.training


def test_dropout_at_test_time_is_named_by_sample_pass_and_seeds(samples):
    method = Dbrn(tiny(), "rgb+3d", Run(category="disc"))

    def masks(ids=("a", "b"), number=0, method=method):
        drops = method.inference_drops(ids, number, "cpu")
        return [*drops.rgb.skips, *drops.depth.skips]

    first = masks()
    assert all(torch.equal(x, y) for x, y in zip(first, masks()))
    assert all(torch.equal(x[0], y[1]) for x, y in zip(first, masks(("c", "a"))))
    assert not any(torch.equal(x[0], x[1]) for x in first)  # samples
    assert not any(torch.equal(x, y) for x, y in zip(first[:3], first[3:]))  # branches
    assert not any(torch.equal(x, y) for x, y in zip(first, masks(number=1)))  # passes
    for settings, run in (
        (tiny(test__seed=1), Run(category="disc")),
        (tiny(), Run(category="disc", seed=1)),
        (tiny(), Run(category="plate")),
    ):
        other = masks(method=Dbrn(settings, "rgb+3d", run))
        assert not any(torch.equal(x, y) for x, y in zip(first, other))


def test_passes_are_averaged_and_dropout_can_be_switched_off(samples):
    batch, run = samples.batch(range(3)), Run(category="disc")
    one, four, off = (
        Dbrn(tiny(**changes), "rgb+3d", run)
        for changes in ({}, {"test__passes": 4}, {"test__dropout": False, "test__passes": 4})
    )
    rgb, depth, _ = rgbd(batch)
    with torch.inference_mode():
        each = torch.stack(
            [
                one.net.anomaly_map(rgb, depth, one.inference_drops(batch.ids, n, "cpu"))
                for n in range(4)
            ]
        )
        plain = off.net.anomaly_map(rgb, depth)
    assert torch.equal(one.predict(batch).maps, each[0])
    torch.testing.assert_close(four.predict(batch).maps, each.mean(dim=0), rtol=0, atol=1e-7)
    assert torch.equal(off.predict(batch).maps, plain)
    assert not torch.equal(each[0], each[1]) and not torch.equal(each[0], plain)


def test_maps_and_scores_follow_their_settings(samples):
    batch, run = samples.batch(range(3)), Run(category="disc")
    plain, largest, masked = (
        Dbrn(tiny(**c), "rgb+3d", run).predict(batch)
        for c in ({}, {"score": "max"}, {"test__mask_background": True})
    )
    assert torch.equal(plain.maps, largest.maps)
    assert torch.equal(largest.scores, largest.maps.amax(dim=(1, 2)))
    assert torch.equal(plain.scores, image_score(plain.maps, 21))
    assert torch.equal(masked.maps, plain.maps * batch["foreground"])


def test_bfloat16_maps_stay_near_the_full_ones(samples):
    batch, run = samples.batch(range(3)), Run(category="disc")
    full, low = (
        Dbrn(tiny(test__precision=precision), "rgb+3d", run).predict(batch).maps
        for precision in ("float32", "bfloat16")
    )
    assert low.dtype == torch.float32 and not torch.equal(full, low)
    assert (full - low).abs().max() < 0.02


@pytest.mark.slow
def test_compiled_maps_stay_near_the_eager_ones_also_with_new_weights(samples, tmp_path):
    batch, run = samples.batch(range(2)), Run(category="disc")
    eager, compiled = (Dbrn(tiny(test__compile=c), "rgb+3d", run) for c in (False, True))
    first = eager.predict(batch).maps
    torch.testing.assert_close(compiled.predict(batch).maps, first, rtol=0, atol=1e-5)
    other, generator = Dbrn(tiny(), "rgb+3d", run), torch.Generator().manual_seed(0)
    for weight in other.net.state_dict().values():
        if weight.is_floating_point():
            weight.add_(0.1 * torch.rand(weight.shape, generator=generator))
    other.save(tmp_path)
    compiled.load(tmp_path)
    eager.load(tmp_path)
    wanted = eager.predict(batch).maps
    assert (wanted - first).abs().max() > 1e-4
    torch.testing.assert_close(compiled.predict(batch).maps, wanted, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["", "res_unet_unet"])
def test_a_compiled_step_has_the_gradients_of_the_eager_one(samples, variant, monkeypatch):
    """As one graph, which is then run operation by operation: to fuse them takes minutes."""
    eager = fitted(samples, tiny(variant, train__steps=1))
    whole = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", whole)
    compiled = fitted(samples, tiny(variant, train__steps=1, train__compile=True))
    for nets in zip(eager.net.children(), compiled.net.children(), strict=True):
        wanted, found = (torch.cat([p.grad.flatten() for p in net.parameters()]) for net in nets)
        assert 0 < (found - wanted).norm() <= 1e-4 * wanted.norm()


@pytest.mark.parametrize("which", ["test__compile", "train__compile"])
def test_without_a_compiler_compiling_is_refused_before_the_fit(which, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="no no-such-compiler: install one.*CXX"):
        Dbrn(tiny(**{which: True}), "rgb")
    Dbrn(tiny(), "rgb")


def test_compiled_training_is_an_option_that_leaves_keys_alone():
    assert plain(tiny()) == plain(tiny(train__compile=False)) != plain(tiny(train__compile=True))


def test_training_in_mixed_precision_lowers_no_loss_s_precision(samples):
    method = fitted(samples, tiny(train__steps=2, train__mixed_precision=True))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in method.net.parameters())


def test_simulation_of_one_equals_that_of_many(samples):
    settings = tiny()
    rgb, depth, foreground = rgbd(samples.batch(range(6)))
    many = simulate(rgb, depth, foreground, draws_for(settings), settings)
    for i in range(6):
        j = slice(i, i + 1)
        one = simulate(rgb[j], depth[j], foreground[j], draws_for(settings, [i]), settings)
        for a, b in zip(one, many):
            torch.testing.assert_close(a[0], b[i], rtol=0, atol=1e-6)
        assert torch.equal(one.mask[0], many.mask[i])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sim__share_p": False},
        {"sim__share_source": False, "sim__share_beta": True},
        {"sim__max_retries": 2, "sim__perlin__threshold": 0.9},
    ],
)
def test_simulation_matches_the_slow_version(samples, changes):
    settings = tiny(**changes)
    draws = draws_for(settings, range(24))
    batch = samples.batch(np.arange(24) % 7)
    made = simulate(*rgbd(batch), draws, settings)
    assert 0 < made.mask.sum((1, 2, 3)).gt(0).sum() < 24
    for i in range(24):
        arrays = [batch[k][i].numpy() for k in ("rgb", "depth", "foreground")]
        rgb, depth, mask = oracle.simulate(arrays[0] / 255, *arrays[1:], draws, i, settings.sim)
        differing = made.mask[i, 0].numpy() != mask
        assert differing.sum() <= 2  # float32: noise on the threshold
        same = ~differing
        np.testing.assert_allclose(made.rgb[i].permute(1, 2, 0)[same], rgb[same], atol=1e-5)
        np.testing.assert_allclose(made.depth[i, 0][same], depth[same], atol=1e-5)


def test_the_three_cases_have_their_shares():
    p = draws_for(tiny(), range(600)).p
    assert torch.equal(p[:, 0], p[:, 1])
    shares = [(p > 0.7).double().mean(), ((p > 0.5) & (p <= 0.7)).double().mean()]
    assert [float(s) for s in shares] == pytest.approx([0.3, 0.2], abs=0.06)
    own = draws_for(tiny(sim__share_p=False), range(50)).p
    assert not torch.equal(own[:, 0], own[:, 1])


def test_what_is_shared_by_the_modalities_can_be_drawn_for_each():
    default = draws_for(tiny())
    assert default.texture.shape[1] == 1 and (default.beta[:, 0] != default.beta[:, 1]).all()
    other = draws_for(tiny(sim__share_source=False, sim__share_beta=True, sim__beta_max=0.25))
    assert other.texture.shape[1] == 2 and torch.equal(other.beta[:, 0], other.beta[:, 1])
    assert other.beta.max() <= 0.25
    blended = other.p[:, 0] <= 0.5
    assert (other.texture[blended, 0] != other.texture[blended, 1]).any()
    assert other.texture[~blended].sum() == 0  # not drawn where not seen


@pytest.mark.parametrize("setting", ["rgb", "3d"])
def test_the_absent_modality_counts_as_normal(samples, setting):
    settings = tiny(sim__share_p=False)
    draws = draws_for(settings, range(40), setting)
    made = simulate(*rgbd(samples.batch(np.arange(40) % 7)), draws, settings)
    own = draws.p[:, 0 if setting == "rgb" else 1]
    absent = (made.depth, made.clean_depth) if setting == "rgb" else (made.rgb, made.clean_rgb)
    assert torch.equal(*absent)
    assert made.mask.sum((1, 2, 3))[own > 0.7].sum() == 0
    assert made.mask.sum((1, 2, 3))[own <= 0.7].gt(0).float().mean() > 0.5


def test_a_mask_that_misses_the_object_can_be_drawn_again(samples):
    foreground = rgbd(samples.batch([0] * 40))[2]
    foreground[:, :, :30] = foreground[:, :, 36:] = 0  # a strip that noise often misses
    empty = []
    for retries in (0, 4):
        settings = tiny(sim__max_retries=retries)
        mask = anomaly_mask(foreground, draws_for(settings, range(40)), settings.sim)
        empty.append(int((mask.sum((1, 2, 3)) == 0).sum()))
    assert empty[0] > 4 and empty[1] < empty[0] / 2


def test_the_clean_pair_can_be_turned(samples):
    settings = tiny(aug__rotate_prob=1.0)
    made = simulate(*rgbd(samples.batch(range(6))), draws_for(settings), settings)
    assert not torch.equal(made.clean_depth, rgbd(samples.batch(range(6)))[1])
    assert (made.clean_depth[..., 0, 0] - 0.8).abs().max() < 1e-6  # corners: background
    assert set(made.foreground.unique().tolist()) == {0.0, 1.0}


def test_colours_are_embedded_one_by_one_and_averaged():
    disc = Discriminator(tiny()).eval()
    rgb, rgb_r = torch.rand(2, 2, 3, SIZE, SIZE)
    depth, depth_r = torch.rand(2, 2, 1, SIZE, SIZE)
    with torch.inference_mode():
        f_rgb, f_depth = disc.features(rgb, rgb_r, depth, depth_r)
        each = [disc.pe(torch.cat([rgb[:, c : c + 1], rgb_r[:, c : c + 1]], 1)) for c in range(3)]
        own = disc.pe(torch.cat([depth, depth_r], 1))
    torch.testing.assert_close(f_rgb, sum(each) / 3)
    torch.testing.assert_close(f_depth, own)


def test_a_hidden_reconstruction_gives_the_weight_to_the_other_modality():
    net = DbrnNet(tiny(multi_scale=True)).eval()
    rgb, depth, clean = (
        torch.rand(2, 3, SIZE, SIZE),
        torch.rand(2, 1, SIZE, SIZE),
        torch.rand(2, 3, SIZE, SIZE),
    )
    seen = []
    net.disc.register_forward_pre_hook(lambda module, args: seen.append(args))
    hide = torch.tensor([True, False])
    with torch.inference_mode():
        output = net(rgb, depth, same=SameImage(hide, ~hide, clean, depth))
    first, recon_rgb, second, recon_depth, _ = seen[0]
    for s in range(3):  # scale s, sample b at s * B + b
        assert torch.equal(first[2 * s], clean[0]) and torch.equal(recon_rgb[2 * s], clean[0])
        assert torch.equal(first[2 * s + 1], rgb[1])
        assert torch.equal(recon_rgb[2 * s + 1], output.full_rgb[2 * s + 1])
        assert torch.equal(recon_depth[2 * s], output.full_depth[2 * s])
        assert torch.equal(recon_depth[2 * s + 1], second[2 * s + 1])


@pytest.mark.parametrize("prob, hidden", [(0.5, 0.25), (1.0, 0.5), (0.0, 0.0)])
def test_the_same_image_trick_hides_each_modality_equally_often(samples, prob, hidden):
    settings = tiny(ism__same_image_prob=prob)
    method = Dbrn(settings, "rgb+3d")
    draws = draws_for(settings, range(400))
    made = simulate(*rgbd(samples.batch(np.arange(400) % 7)), draws, settings)
    same = method._same_image(made, draws)
    if not prob:
        assert same is None
        return
    assert not (same.hide_rgb & same.hide_depth).any()
    for flags in (same.hide_rgb, same.hide_depth):
        assert flags.float().mean() == pytest.approx(hidden, abs=0.07)
    assert same.rgb is made.rgb and same.depth is made.depth
    clean = Dbrn(tiny(ism__same_image="clean"), "rgb+3d")._same_image(made, draws)
    assert clean.rgb is made.clean_rgb
    assert Dbrn(tiny(fusion="cat"), "rgb+3d")._same_image(made, draws) is None


def test_parts_learn_at_their_own_rates():
    method = Dbrn(tiny(disc__net="swin_unet"), "rgb+3d")
    rates = {id(p): g["lr"] for g in method._optimiser().param_groups for p in g["params"]}
    assert len(rates) == len(list(method.net.parameters()))
    train = method.settings.train
    for name, parameter in method.net.named_parameters():
        part = "ism" if name.startswith("disc.ism.") else name.split("_")[0].split(".")[0]
        assert rates[id(parameter)] == getattr(train, f"lr_{part}"), name
    defaults = Settings().train
    assert (defaults.lr_recon, defaults.lr_disc, defaults.lr_ism) == (1e-4, 1e-5, 1e-3)


def test_the_focal_gradient_can_be_kept_from_the_reconstruction(samples):
    rgb, depth, _ = rgbd(samples.batch(range(2)))
    for detach in (False, True):
        net = DbrnNet(tiny(detach_recon=detach))
        net(rgb, depth).logits.square().sum().backward()
        assert (net.recon_rgb.output.weight.grad is not None) != detach


def test_other_switches_of_the_networks(samples):
    rgb, depth, _foreground = rgbd(samples.batch(range(2)))
    patch4 = tiny(disc__pe="patch4", prep__size=128, swin__window=8)
    wide = [torch.nn.functional.interpolate(x, 128) for x in (rgb, depth)]
    with torch.inference_mode():
        assert DbrnNet(patch4).eval()(*wide).logits.shape == (2, 2, 128, 128)
        for changes in ({"ism__out": "channel"}, {"ism__act": "sigmoid"}):
            assert DbrnNet(tiny(**changes)).eval()(rgb, depth).logits.isfinite().all()
        two = DbrnNet(tiny(multi_scale=True, scales=(1.0, 0.5))).eval()
        output = two(rgb, depth)
    assert output.logits.shape == (4, 2, SIZE, SIZE) and len(output.recon_rgb) == 2


def test_weights_of_the_loss_weigh_and_maps_may_be_averaged_first(samples):
    rgb, depth, foreground = rgbd(samples.batch(range(2)))
    net = DbrnNet(tiny(multi_scale=True))
    output = net(rgb, depth)
    settings = tiny(loss__w_depth=0.0, loss__w_focal=2.0, focal__alpha=None)
    terms = dbrn_loss(output, rgb, depth, foreground, foreground, settings)
    torch.testing.assert_close(terms["total"], terms["rgb"] + 2 * terms["focal"])
    mean = dbrn_loss(
        output,
        rgb,
        depth,
        foreground,
        foreground,
        tiny(loss__focal_on="mean", focal__alpha=None),
    )
    assert mean["focal"] <= terms["focal"]  # the loss is convex


def test_draws_belong_to_a_sample_not_to_its_batch():
    settings = tiny(sim__max_retries=1)
    seeds = [seed_for("simulate", "dbrn", "disc", 0, 5, i) for i in range(4)]
    many = draws_for(settings, seeds)
    for i, seed in enumerate(seeds):
        one = draws_for(settings, [seed])
        assert all(torch.equal(getattr(one, k)[0], getattr(many, k)[i]) for k in vars(many))


def test_inputs_sizes_and_notes_tell_what_a_result_rests_on(tmp_path):
    donor = Dbrn(tiny(), "rgb+3d").net.recon_rgb
    save_tensors(tmp_path / "swin.pt", donor.state_dict())
    (tmp_path / "a.jpg").touch()
    settings = tiny(
        texture__source="folder",
        texture__folder=str(tmp_path),
        swin__pretrained=str(tmp_path / "swin.pt"),
    )
    weights = tmp_path / "swin.pt"
    assert Dbrn.inputs(settings, "rgb") == {"texture.folder": tmp_path, "swin.pretrained": weights}
    assert Dbrn.inputs(settings, "3d") == {"texture.folder": None, "swin.pretrained": weights}
    assert Dbrn.inputs(tiny(), "rgb") == {"texture.folder": None, "swin.pretrained": None}
    method = Dbrn(settings, "rgb+3d", Run(seed=3))
    assert torch.equal(method.net.recon_rgb.norm.weight, donor.norm.weight)
    assert torch.equal(
        method.net.recon_rgb.layers[0].blocks[0].mlp.fc1.weight,
        donor.layers[0].blocks[0].mlp.fc1.weight,
    )
    assert method.notes() == {"texture_source": "folder", "weights": "swin.pt"}
    sizes = method.sizes()
    assert sizes["weight_bytes"] > 4 * sizes["parameters"] > 0
    assert Dbrn.view(settings, "rgb+3d").size == SIZE


def test_the_full_networks_have_the_sizes_of_the_spec():
    with torch.device("meta"):
        swin, res = (
            DbrnNet(settings_from(Settings, {"recon": {"net": n}}))
            for n in ("swin_unet", "res_unet")
        )
    count = {
        name: sum(p.numel() for p in net.parameters()) / 1e6
        for name, net in (
            ("swin", swin.recon_rgb),
            ("res", res.recon_rgb),
            ("body", swin.disc.body),
        )
    }
    assert count["swin"] == pytest.approx(34.3, abs=0.05)
    assert count["res"] == pytest.approx(94, abs=0.5)
    assert count["body"] == pytest.approx(28.4, abs=0.05)


@pytest.mark.slow
def test_networks_half_as_wide_restore_what_the_simulation_changed(tmp_path):
    omegaconf = pytest.importorskip("omegaconf")
    root = Path(methods.__file__).parents[1]
    demo = omegaconf.OmegaConf.to_container(omegaconf.OmegaConf.load(root / "configs/demo.yaml"))
    made = demo["datasets"]["synthetic"]["synthetic"]
    write_category(
        tmp_path / "data", "cookie", replace(PRESETS["small"], categories=("cookie",), **made)
    )
    larger = {"prep": {"size": 96}, "disc": {"base": 16}}  # than the demo, and longer
    for group, values in {**larger, "swin": {"window": 6, "width": 48}}.items():
        demo["dbrn"][group].update(values)
    demo["dbrn"]["train"].update(steps=300, norm_batches=30)
    s = settings_from(Settings, demo["dbrn"])
    folder = tmp_path / "view"
    build_view(open_dataset("mvtec3d", tmp_path / "data").category("cookie"), s.prep, folder)
    train, _ = open_split(folder, "train")
    method = Dbrn(s, "rgb+3d", Run(category="cookie"))
    method.fit(train, train)

    unseen = draw_samples(range(1000, 1024), s, "rgb+3d", method._texture())
    x = simulate(*rgbd(train.batch(range(24))), unseen, s)
    drops = method.inference_drops(tuple(map(str, range(24))), 0, "cpu")
    with torch.inference_mode():
        output = method.net(x.rgb, x.depth, drops)
    for clean, shown, restored in (
        (x.clean_rgb, x.rgb, output.full_rgb),
        (x.clean_depth, x.depth, output.full_depth),
    ):
        mask = x.mask.bool().expand_as(clean)
        before, after = ((y - clean).abs()[mask].mean() for y in (shown, restored))
        assert after < 0.6 * before
        # And not by showing one and the same image for all: what was normal stays near itself.
        kept = ~mask & x.foreground.bool()
        spread = (clean - clean.mean(dim=(0, 2, 3), keepdim=True)).abs()[kept].mean()
        assert (restored - clean).abs()[kept].mean() < 0.6 * spread


def decisions():
    """Rows of the README's table of decisions: setting and default, as written there."""
    text = (Path(methods.__file__).parent / "dbrn" / "README.md").read_text()
    table = text.partition("## Decisions")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([\w.]+)` \| `([^`]+)`", table, re.M)


def test_the_table_of_decisions_names_settings_and_their_defaults():
    rows = decisions()
    assert len(rows) > 40
    for name, written in rows:
        value = Settings()
        for part in name.split("."):
            value = getattr(value, part)
        shown = (
            ", ".join(f"{v:g}" for v in value)
            if isinstance(value, tuple)
            else (f"{value:g}" if type(value) is float else str(value).lower())
        )
        assert written == shown, name


def test_the_rows_of_every_table_have_a_variant():
    assert set(ROWS) >= {
        "ms",
        "res_unet_swin_unet",
        "res_unet_unet",
        "swin_unet_swin_unet",
        "no_loss_weighting",
        "lfg_only",
        "lmask_only",
        "fusion_early_cat",
        "fusion_deep_hadamard",
        "fusion_deep_cat",
    }


def networks(recon, body):
    """The reconstruction networks and the discriminator's body are of these classes."""

    def check(method, loss):
        assert all(type(net) is recon for net in method.net.branches.values())
        assert type(method.net.disc.body) is body

    return check


def weights(*expected):
    """The loss weighs background, foreground, mask and SSIM so."""

    def check(method, loss):
        terms = [
            reconstruction_terms(image, recon[0], loss.x.foreground, loss.x.mask)
            for image, recon in (
                (loss.x.clean_rgb, loss.output.recon_rgb),
                (loss.x.clean_depth, loss.output.recon_depth),
            )
        ]
        focal = loss.terms["focal"]
        total = focal + sum(terms) @ torch.tensor(expected)
        torch.testing.assert_close(loss.terms["total"], total)

    return check


def fusion(kind, channels):
    """Pairs of that many channels are embedded, and two features become one so."""

    def check(method, loss):
        disc = method.net.disc
        assert disc.pe[0].in_channels == channels and not hasattr(disc, "ism")
        if kind == "early":
            return
        a, b = torch.rand(2, 1, disc.pe[0].out_channels, 4, 4)
        want = a * b if kind == "hadamard" else disc.fuse(torch.cat([a, b], dim=1))
        torch.testing.assert_close(disc._fuse(a, b), want)

    return check


def three_scales(method, loss):
    assert [x.shape[-1] for x in loss.output.recon_rgb] == [SIZE, SIZE // 2, SIZE // 4]
    assert len(loss.output.logits) == 3 * len(loss.x.mask)


def nothing_learned(method, loss):
    fresh = Dbrn(method.settings, "rgb+3d", method.run)
    assert same_weights(method, fresh)


SAYS = {
    "ms": three_scales,
    "res_unet_swin_unet": networks(ResUnet, SwinUnet),
    "res_unet_unet": networks(ResUnet, Discriminative),
    "swin_unet_swin_unet": networks(SwinUnet, SwinUnet),
    "no_loss_weighting": weights(1.0, 1.0, 1.0, 1.0),
    "lfg_only": weights(1.0, 4.0, 1.0, 1.0),
    "lmask_only": weights(1.0, 1.0, 10.0, 1.0),
    "fusion_early_cat": fusion("early", 8),
    "fusion_deep_hadamard": fusion("hadamard", 2),
    "fusion_deep_cat": fusion("cat", 2),
    "untrained": nothing_learned,
}


@pytest.mark.parametrize("variant", Dbrn.variants)
def test_every_variant_changes_what_it_says_and_steps_with_it_differ(samples, variant):
    # Adam's first step hardly knows the size of a gradient, so other weights show from the third
    steps = {} if variant == "untrained" else {"train__steps": 3}
    method, default = (fitted(samples, s) for s in (tiny(variant, **steps), tiny(train__steps=3)))
    settings = method.settings
    draws = draws_for(settings, range(4))
    x = simulate(*rgbd(samples.batch(range(4))), draws, settings)
    with torch.inference_mode():
        output = method.net(x.rgb, x.depth)
        terms = dbrn_loss(output, x.clean_rgb, x.clean_depth, x.foreground, x.mask, settings)
    SAYS[variant](method, SimpleNamespace(x=x, output=output, terms=terms))
    batch = samples.batch(range(2))
    assert not torch.equal(method.predict(batch).maps, default.predict(batch).maps)


def test_without_a_variant_the_networks_and_weights_are_the_full_ones(samples):
    method = fitted(samples, tiny(train__steps=1))
    networks(SwinUnet, Discriminative)(method, None)
    assert method.net.scales == 1 and method.net.disc.fusion == "ism"
    assert method.settings.loss.weights == (1.0, 4.0, 10.0, 1.0)


@pytest.mark.parametrize("multi_scale", [False, True])
def test_fresh_networks_can_begin_with_flat_images(multi_scale):
    rgb, depth = torch.rand(2, 3, SIZE, SIZE), torch.rand(2, 1, SIZE, SIZE)
    flat, published = (
        Dbrn(tiny(swin__start_level=level, multi_scale=multi_scale), "rgb+3d").net
        for level in (0.4, None)
    )
    with torch.inference_mode():
        for image in (y for part in flat(rgb, depth)[:2] for y in part):
            assert (image - 0.4).abs().max() < 0.1
        assert published(rgb, depth).full_rgb.std() > 0.1


def test_the_optimiser_forgets_gradients_as_the_settings_say():
    for settings, beta2 in ((tiny(), 0.999), (tiny(train__beta2=0.9), 0.9)):
        groups = Dbrn(settings, "rgb+3d")._optimiser().param_groups
        assert {g["betas"] for g in groups} == {(0.9, beta2)}
