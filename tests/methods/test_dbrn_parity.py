"""DBRN against the recorded numbers: networks, fusion, losses, simulation and its statistics."""

import numpy as np
import pytest
import torch

from methods.blocks.draem import image_score
from methods.blocks.losses import focal, ssim, ssim_map
from methods.blocks.perlin import draw_perlin, perlin_noise, rotate
from methods.blocks.swin_unet import Drops, SwinUnet
from methods.contract import settings_from
from methods.dbrn.discriminator import Discriminator
from methods.dbrn.ism import ImportanceScoring
from methods.dbrn.losses import dbrn_loss, reconstruction_loss, reconstruction_terms
from methods.dbrn.network import AllDrops, DbrnNet, enlarged
from methods.dbrn.settings import Settings
from methods.dbrn.simulation import corrupt
from tests.methods.dbrn_oracle import keep
from tests.methods.dbrn_parity import close, fill, layout, same_stats, tensor

pytestmark = pytest.mark.parity

SWIN = {
    # name: side, channels in and out, what differs from the defaults, seen deviation
    "swin_unet_lite224": (224, 3, 9, {"depths": (2, 2, 2, 2), "path_rate": 0.2}, 5.5e-6),
    "swin_unet_2242_rgb224": (224, 3, 3, {}, 5.3e-6),
    "swin_unet_2242_depth224": (224, 1, 1, {}, 5.5e-6),
    "swin_unet_2242_rgb256w8": (256, 3, 3, {"window": 8}, 5.4e-6),
}
DISCRIMINATORS = {
    # name: settings, side, slices of features, weights and maps (channels, pixels), seen
    "disc_unet_ism": ({}, 64, (8, 2), (1, 2), 2, 7.3e-7),
    "disc_unet_ism_channel_sigmoid": (
        {"ism": {"out": "channel", "act": "sigmoid"}},
        64,
        (8, 2),
        (8, 2),
        2,
        7.3e-7,
    ),
    "disc_unet_early": ({"fusion": "early"}, 64, (8, 2), None, 2, 7.3e-7),
    "disc_unet_hadamard": ({"fusion": "hadamard"}, 64, (8, 2), None, 2, 7.3e-7),
    "disc_unet_cat": ({"fusion": "cat"}, 64, (8, 2), None, 2, 7.3e-7),
    "disc_swin_ism": ({"disc": {"net": "swin_unet"}}, 224, (12, 2), (1, 2), 8, 2.8e-6),
}
WEIGHTS = {
    "default": (1, 4, 10, 1),
    "none": (1, 1, 1, 1),
    "fg_only": (1, 4, 1, 1),
    "mask_only": (1, 1, 10, 1),
    "no_ssim": (1, 4, 10, 0),
}


@pytest.fixture
def p(parity):
    return parity("dbrn")


def unit(p, name, *shape):
    return torch.from_numpy(p.input(name, shape, "unit"))


@pytest.mark.parametrize("name", SWIN)
def test_swin_unets_match_the_official_ones(p, name):
    side, channels_in, channels_out, changes, seen = SWIN[name]
    net = SwinUnet(side, channels_in, channels_out, **changes).eval()
    assert layout(net) == p.state_dict_list(name)
    fill(p, net)
    found = {}

    def keep_output(key, pick):
        return lambda module, given, output: found.__setitem__(key, pick(given, output))

    for i in range(3):
        net.layers[i].register_forward_hook(keep_output(f"skip{i}", lambda x, y: x[0]))
    net.norm.register_forward_hook(keep_output("bottleneck", lambda x, y: y))
    for j in range(4):
        passed_on = (lambda x, y: y[1]) if j else (lambda x, y: y)
        net.layers_up[j].register_forward_hook(keep_output(f"up{j}", passed_on))
    with torch.inference_mode():
        [found["out"]] = net(unit(p, "x", 1, channels_in, side, side))

    expected = p.npz(name)
    assert {k for k in expected if not k.endswith("__stats")} == set(found)
    for key, value in found.items():
        part = (
            np.s_[:, :, ::8, ::8]
            if key == "out"
            else np.s_[:, :: max(1, value.shape[1] // 49), ::16]
        )
        close(value[part], expected[key], 5 * seen + 1e-6)
        same_stats(value, expected[f"{key}__stats"])


def recorded_drops(p, net, branch):
    """Skip dropout as recorded: uniform numbers by name, at the paper's rates."""
    return Drops(
        [
            keep(unit(p, f"drop_{branch}_{k}", 1, L, C), rate)
            for k, ((L, C), rate) in enumerate(zip(net.skip_shapes, Settings().dropout.rates))
        ]
    )


@pytest.mark.parametrize("branch, channels", [("rgb", 3), ("depth", 1)])
def test_reconstruction_networks_match_at_every_scale_with_and_without_dropout(p, branch, channels):
    name = f"swin_unet_ms_{branch}"
    net = SwinUnet(224, channels, channels, extra_scales=2).eval()
    assert layout(net) == p.state_dict_list(name)
    fill(p, net)
    x, expected = unit(p, "x", 1, channels, 224, 224), p.npz(name)
    for kind, drops in (("nodrop", Drops()), ("drop", recorded_drops(p, net, branch))):
        with torch.inference_mode():
            images = net(x, drops)
        for image, every in zip(images, (8, 4, 2), strict=True):
            key = f"{kind}_{image.shape[-1]}"
            close(image[:, :, ::every, ::every], expected[key], 5 * 3.8e-6 + 1e-6)
            same_stats(image, expected[f"{key}__stats"])


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_match_in_every_fusion(p, name):
    changes, side, features, weights, every, seen = DISCRIMINATORS[name]
    disc = Discriminator(settings_from(Settings, changes)).eval()
    assert layout(disc) == p.state_dict_list(name)
    fill(p, disc)
    rgb, rgb_r = (unit(p, n, 1, 3, side, side) for n in ("rgb", "rgb_r"))
    depth, depth_r = (unit(p, n, 1, 1, side, side) for n in ("d", "d_r"))
    expected, found = p.npz(name), {}
    with torch.inference_mode():
        found["logits"] = disc(rgb, rgb_r, depth, depth_r)
        if disc.fusion != "early":
            f_rgb, f_depth = disc.features(rgb, rgb_r, depth, depth_r)
            found |= {"f_rgb": f_rgb, "f_d": f_depth}
        if disc.fusion == "ism":
            found["w_rgb"], found["w_d"] = disc.ism.weights(f_rgb, f_depth)
            found["fused"] = disc.ism(f_rgb, f_depth)
        if "logits_same_rgb" in expected:
            found["logits_same_rgb"] = disc(rgb, rgb, depth, depth_r)
            found["logits_same_depth"] = disc(rgb, rgb_r, depth, depth)
    found["prob"] = found["logits"].softmax(dim=1)[:, 1:]
    assert {k for k in expected if not k.endswith("__stats")} == set(found)
    for key, value in found.items():
        c, e = {"f": features, "w": weights}.get(key[0], (1, every))
        close(value[:, ::c, ::e, ::e], expected[key], 5 * seen + 1e-6)
        same_stats(value, expected[f"{key}__stats"])


def test_the_whole_pass_and_its_losses_match(p):
    settings = settings_from(Settings, {"multi_scale": True})
    net = DbrnNet(settings).eval()
    for part in (net.recon_rgb, net.recon_depth, net.disc):
        fill(p, part)
    rgb, depth = unit(p, "x", 1, 3, 224, 224), unit(p, "xd", 1, 1, 224, 224)
    drops = AllDrops(
        *(recorded_drops(p, net.branches[branch], branch) for branch in ("rgb", "depth"))
    )
    with torch.inference_mode():
        output = net(rgb, depth, drops)
        anomaly_map = net.mean_map(output.logits)[:, None]
    scales = output.logits.softmax(dim=1)[:, 1:]

    expected = p.npz("dbrn_e2e")
    for value, key in ((scales, "prob_scales"), (anomaly_map, "map")):
        close(value[:, :, ::4, ::4], expected[key], 5 * 2e-7 + 1e-6)
        same_stats(value, expected[f"{key}__stats"])
    close(image_score(anomaly_map[:, 0], 21), expected["score"], 5 * 2e-7 + 1e-6)
    close(image_score(scales[0], 21), expected["score_single"], 5 * 2e-7 + 1e-6)

    clean_rgb, clean_depth = (
        unit(p, f"e2e_clean_{n}", 1, c, 224, 224) for n, c in (("rgb", 3), ("depth", 1))
    )
    foreground = (unit(p, "e2e_fg", 1, 1, 224, 224) > 0.4).float()
    mask = foreground * (unit(p, "e2e_m", 1, 1, 224, 224) > 0.8)
    weights = settings.loss.weights
    each = [
        float(reconstruction_loss(clean, [recon], foreground, mask, weights))
        for clean, recons in ((clean_rgb, output.recon_rgb), (clean_depth, output.recon_depth))
        for recon in recons
    ]
    terms = dbrn_loss(output, clean_rgb, clean_depth, foreground, mask, settings)
    got = each + [float(terms[k]) for k in ("rgb", "depth", "focal", "total")]
    np.testing.assert_allclose(got, expected["losses"], rtol=1e-5)


def test_importance_scoring_matches_in_every_form(p):
    expected = p.npz("ism")
    forms = {key.rsplit("_w_", 1)[0] for key in expected if "_w_" in key}
    assert len(forms) == 8
    f_rgb, f_depth = (tensor(p.input(n, (1, 8, 12, 10), "normal")) for n in ("ism_fr", "ism_fd"))
    for form in sorted(forms):
        ism = ImportanceScoring(8, *form.split("_")).eval()
        ism.load_state_dict(
            {
                k: torch.from_numpy(p.parameter(f"ism.{k}", v.shape))
                for k, v in ism.state_dict().items()
            }
        )
        ism.double()
        with torch.inference_mode():
            w_rgb, w_depth = ism.weights(f_rgb, f_depth)
            fused = ism(f_rgb, f_depth)
        for key, value in (("w_rgb", w_rgb), ("w_d", w_depth), ("fused", fused)):
            close(value[0], expected[f"{form}_{key}"], 1e-6)


def test_the_three_cases_of_the_simulation_match(p):
    expected, sim = p.npz("simulation"), Settings().sim
    depth = 0.2 + 0.6 * tensor(p.input("sim_depth", (1, 32, 32), "unit"))[None]
    rgb = tensor(p.input("sim_rgb", (3, 32, 32), "unit"))[None]
    grey = tensor(p.input("sim_Ag", (1, 32, 32), "unit"))[None]
    colour = tensor(p.input("sim_Aa", (3, 32, 32), "unit"))[None]
    foreground = tensor(p.input("sim_fg", (32, 32), "unit") > 0.3)
    mask = foreground * tensor(p.input("sim_mp", (32, 32), "unit") > 0.6)
    close(mask, expected["M"], 0)
    cases = {"normal": 0.85, "edge_e1": 0.7, "masked": 0.6, "edge_e2": 0.5, "blend": 0.2}
    for case, p_case in cases.items():
        number = torch.full((1, 1, 1, 1), p_case, dtype=torch.float64)
        close(corrupt(depth, grey, mask, number, 0.35, sim)[0], expected[f"{case}_depth"], 1e-6)
        close(corrupt(rgb, colour, mask, number, 0.6, sim)[0], expected[f"{case}_rgb"], 1e-6)
        close(mask * (p_case <= sim.e1), expected[f"{case}_mask"], 0)


@pytest.mark.parametrize("c", [3, 1])
def test_reconstruction_losses_match_for_every_row_of_the_ablation(p, c):
    expected = p.npz("losses")
    image = tensor(p.input(f"loss_I{c}", (2, c, 48, 48), "unit"))
    noise = tensor(p.input(f"loss_R{c}", (2, c, 48, 48), "unit"))
    recon = (image + 0.2 * (noise - 0.5)).clamp(-0.3, 1.2)
    foreground = tensor(p.input("loss_fg", (2, 1, 48, 48), "unit") > 0.35)
    mask = foreground * tensor(p.input("loss_m", (2, 1, 48, 48), "unit") > 0.7)
    close(ssim(recon, image), expected[f"c{c}_ssim"], 1e-8)
    close(ssim_map(recon, image)[:, :, ::4, ::4], expected[f"c{c}_ssim_map"], 1e-6)
    for reduction in ("common", "subset"):
        parts = reconstruction_terms(image, recon, foreground, mask, reduction)
        close(parts, expected[f"c{c}_parts_{reduction}"], 1e-8)
        for name, weights in WEIGHTS.items():
            got = reconstruction_loss(image, [recon], foreground, mask, weights, reduction)
            close(got, expected[f"c{c}_{name}_{reduction}"], 1e-8)

    recons = [
        tensor(p.input(f"loss_ms{c}_{side}", (2, c, side, side), "unit")) for side in (48, 24, 12)
    ]
    each = [reconstruction_loss(image, [r], foreground, mask, WEIGHTS["default"]) for r in recons]
    close(torch.stack(each), expected[f"c{c}_multiscale_each"], 1e-8)
    mean = reconstruction_loss(image, recons, foreground, mask, WEIGHTS["default"])
    close(mean, expected[f"c{c}_multiscale_mean"], 1e-8)


def test_focal_losses_match_for_every_class_weight(p):
    expected = p.npz("losses")
    logits = tensor(p.input("focal_logits", (2, 2, 20, 20), "normal"))
    target = tensor(p.input("focal_t", (2, 1, 20, 20), "unit") > 0.8)
    alphas = {"none": None, "25_75": (0.25, 0.75), "1_4": (1, 4), "float_0.25": (0.25, 1 - 0.25)}
    for name, alpha in alphas.items():
        got = focal(logits.softmax(dim=1), target, 2.0, alpha)
        close(got, expected[f"focal_alpha_{name}"], 1e-8)


def test_scores_match(p):
    expected = p.npz("score")
    maps = unit(p, "score_maps", 3, 1, 60, 60)
    mean = maps.mean(dim=0)
    close(mean[0], expected["mean"], 1e-6)
    close(image_score(mean, 21)[0], expected["score21"], 1e-6)
    close(image_score(mean, 11)[0], expected["score11"], 1e-6)
    close(mean.max(), expected["score_max"], 1e-6)


def test_perlin_noise_matches_at_this_size(p):
    expected = p.npz("perlin224")
    names = [k.removesuffix("_fraction") for k in expected if k.endswith("_fraction")]
    assert names
    for name in names:
        rows, cols = map(int, name.split("_")[1:])
        u = tensor(p.input(f"perlin_{rows}_{cols}", (rows + 1, cols + 1), "unit"))
        side = max(u.shape)
        table = torch.zeros(1, side, side, dtype=torch.float64)
        table[0, : rows + 1, : cols + 1] = u
        noise = perlin_noise(table, torch.tensor([[rows, cols]]), (224, 224))[0]
        close(noise[::8, ::8], expected[name], 1e-6)
        same_stats(noise, expected[f"{name}__stats"])
        close((noise > 0.5).double().mean(), expected[f"{name}_fraction"], 2e-5)


def test_masks_have_the_official_areas(p):
    expected, noise = p.json("perlin_statistics_224"), Settings().sim.perlin
    size, rng, found = expected["size"], np.random.default_rng(0), []
    for _ in range(20):
        draws = [
            draw_perlin(rng, (noise.min_exponent, noise.max_exponent), noise.rotation_deg)
            for _ in range(50)
        ]
        u = torch.from_numpy(np.stack([d.u for d in draws]))
        plain = perlin_noise(u, torch.tensor([d.grid for d in draws]), (size, size))
        turned = rotate(plain[:, None], torch.tensor([d.angle_deg for d in draws]))[:, 0]
        found.append(
            torch.stack(
                [
                    (turned > noise.threshold).float().mean((1, 2)),
                    (turned.abs() > noise.threshold).float().mean((1, 2)),
                    plain.std((1, 2), unbiased=False),
                ]
            )
        )
    names = [
        "fraction_above_0.5_after_rotation",
        "fraction_abs_above_0.5_after_rotation",
        "noise_std_before_rotation",
    ]
    for values, name in zip(torch.cat(found, dim=1).numpy(), names, strict=True):
        assert values.mean() == pytest.approx(expected[name]["mean"], rel=0.05), name
        assert (values == 0).mean() == pytest.approx(expected[name]["fraction_zero"], abs=0.02)


def test_enlarging_keeps_images_that_are_large_enough():
    image = torch.rand(1, 1, 8, 8)
    assert enlarged(image, (8, 8)) is image
    assert enlarged(image, (16, 16)).shape == (1, 1, 16, 16)
