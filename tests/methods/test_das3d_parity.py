"""DAS3D against the recorded numbers: networks, loss, kernels, synthesis and its statistics."""

import re

import numpy as np
import pytest
import torch

from methods.blocks.draem import Discriminative, Reconstructive, image_score
from methods.das3d import synthesis
from methods.das3d.network import Das3dNet, das3d_loss
from methods.das3d.settings import Disc, Loss, Perlin, Recon, Settings, Skew

pytestmark = pytest.mark.parity

NETWORKS = {
    # name: setting, size, slice of maps, slices of fuse (channels, pixels)
    "das3d_w128_both": ("rgb+3d", 64, 1, (32, 4)),
    "das3d_w16_both": ("rgb+3d", 256, 4, (4, 16)),
    "das3d_w16_rgb": ("rgb", 128, 2, (2, 8)),
    "das3d_w16_3d": ("3d", 128, 2, (2, 8)),
}
DROPPED = {  # d_I, d_Z
    "none_dropped": (False, False),
    "rgb_dropped": (True, False),
    "depth_dropped": (False, True),
    "both_dropped": (True, True),
}
SYNTHESIS_GRID = (4, 8)


@pytest.fixture
def p(parity):
    return parity("das3d")


def close(got, expected, tolerance):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=tolerance)


def tensor(array):
    return torch.from_numpy(np.asarray(array, np.float64))


def network(name, setting):
    narrow = Settings(recon=Recon(width=16), disc=Disc(base=16))
    return Das3dNet(Settings() if "w128" in name else narrow, setting)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_match(p, name):
    setting, size, every, (channels, pixels) = NETWORKS[name]
    net = network(name, setting)
    layout = [[key, list(value.shape)] for key, value in net.state_dict().items()]
    assert layout == p.state_dict_list(name)
    p.fill(net.eval())
    rgb = torch.from_numpy(p.input("rgb", (1, 3, size, size), "unit"))
    depth = torch.from_numpy(p.input("depth", (1, 1, size, size), "unit"))
    with torch.inference_mode():
        output = net(rgb, depth)
    prob = output.logits.softmax(dim=1)[:, 1:]

    expected = p.npz(name)
    results = {k: v for k, v in {**output._asdict(), "prob": prob}.items() if v is not None}
    assert {k for k in expected if not k.endswith("__stats")} == {*results, "score21"}
    for key, value in results.items():
        value = value.numpy()
        seen = 1.9e-6 if key == "fuse" else 3e-7
        c, e = (channels, pixels) if key == "fuse" else (1, every)
        close(value[:, ::c, ::e, ::e], expected[key], 5 * seen + 1e-6)
        whole = value.astype(np.float64)
        stats = [whole.mean(), whole.std(), np.abs(whole).sum()]
        np.testing.assert_allclose(stats, expected[f"{key}__stats"], rtol=1e-5, atol=2e-6)
    close(image_score(prob[:, 0], 21)[0], expected["score21"], 5 * 3e-7 + 1e-6)


@pytest.mark.parametrize("case", DROPPED)
def test_total_loss_matches_in_every_dropout_case(p, case):
    net = network("das3d_w16_both", "rgb+3d").eval()
    p.fill(net)
    net.double()
    rgb, rgb_a = (tensor(p.input(n, (2, 3, 64, 64), "unit")) for n in ("I", "Ia"))
    depth, depth_a = (tensor(p.input(n, (2, 1, 64, 64), "unit")) for n in ("Z", "Za"))
    mask = tensor(p.input("M", (2, 1, 64, 64), "unit") > 0.9)
    dropped = (torch.full((2,), d) for d in DROPPED[case])
    shown_rgb, shown_depth, target = synthesis.drop(rgb, rgb_a, depth, depth_a, mask, *dropped)
    with torch.inference_mode():
        terms = das3d_loss(net(shown_rgb, shown_depth), rgb, depth, target, Loss())
    got = [float(terms[k]) for k in ("depth", "rgb", "ssim", "focal", "total")]
    close(got, p.npz("total_loss")[case], 1e-7)


def test_skew_kernels_match_the_formula(p):
    expected = p.npz("skew_kernel")
    for name in [k.removesuffix("_alpha") for k in expected if k.endswith("_alpha")]:
        alpha, Sigma = (tensor(expected[f"{name}_{k}"])[None] for k in ("alpha", "sigma"))
        want = expected[f"{name}_kernel"]
        rule = int(synthesis.kernel_side(Sigma))
        h = None if rule == len(want) else len(want)
        kernel = synthesis.skew_kernels(alpha, Sigma, h)[0].numpy()
        close(kernel, want, 1e-12)
        close(kernel / kernel.sum(), expected[f"{name}_kernel_sum1"], 1e-12)
        close(kernel / kernel.max(), expected[f"{name}_kernel_max1"], 1e-12)


def test_skew_kernels_of_a_batch_are_those_of_each_with_zeros_around(p):
    expected = p.npz("skew_kernel")
    names = [k.removesuffix("_alpha") for k in expected if k.endswith("_alpha")]
    alpha = torch.stack([tensor(expected[f"{n}_alpha"]) for n in names])
    Sigma = torch.stack([tensor(expected[f"{n}_sigma"]) for n in names])
    for i, kernel in enumerate(synthesis.skew_kernels(alpha, Sigma)):
        alone = synthesis.skew_kernels(alpha[i : i + 1], Sigma[i : i + 1])[0]
        around = (len(kernel) - len(alone)) // 2
        close(kernel, np.pad(alone, around), 1e-15)


def case_inputs(p):
    f = p.npz("synthesis")
    foreground = tensor(f["Mf"])[None, None]
    rgb = tensor(p.input("syn_I", (3, 64, 64), "unit"))[None] * foreground
    texture = tensor(p.input("syn_T", (3, 64, 64), "unit"))[None]
    return f, foreground, rgb, texture, tensor(f["Z"])[None, None], tensor(f["P"])[None, None]


def same_mask(got, want, change):
    """Equal but where p_z |dZ| lies on the threshold to rounding: those differ by 1e-9."""
    assert (got.numpy() != want).sum() <= (np.abs(change) < 1e-9).sum()


def test_synthesis_noise_matches(p):
    f = p.npz("synthesis")
    rows, cols = SYNTHESIS_GRID
    u = tensor(p.input("syn_perlin", (rows + 1, cols + 1), "unit"))[None]
    noise = synthesis.perlin_noise(u, torch.tensor([SYNTHESIS_GRID]), f["P"].shape)
    close(synthesis.rotate(noise[:, None], torch.tensor([25.0]))[0, 0], f["P"], 1e-6)


def test_synthesis_matches_step_by_step(p):
    f, foreground, rgb, texture, depth, noise = case_inputs(p)
    cases = [k.removesuffix("_params") for k in f if k.endswith("_params")]
    assert cases
    for n in cases:
        alpha_row, alpha_col, sigma, p_z, t_h, beta, t_p = f[f"{n}_params"]
        signs = synthesis.ternary(noise, t_p)
        region = signs * foreground
        assert (signs[0, 0].numpy() == f[f"{n}_Mp"]).all()
        assert (region[0, 0].numpy() == f[f"{n}_Mt"]).all()

        Sigma = synthesis.isotropic(tensor([sigma]), 0.0)
        kernels = synthesis.skew_kernels(tensor([[alpha_row, alpha_col]]), Sigma)
        change = synthesis.depth_change(region, kernels)
        close(change[0, 0], f[f"{n}_dZ"], 1e-6)
        mask = synthesis.refined_mask(change, tensor(p_z), t_h)
        same_mask(mask[0, 0], f[f"{n}_Mstar"], p_z * np.abs(change[0, 0].numpy()) - t_h)
        depth_a = depth + p_z * change
        rgb_a = synthesis.paste(rgb, texture, mask, beta)
        close(depth_a[0, 0], f[f"{n}_Za"], 1e-6)
        close(rgb_a[0, :, ::2, ::2], f[f"{n}_Ia"], 1e-6)

        for key in [k for k in f if k.startswith(f"{n}_dropout_")]:
            d_rgb, d_depth = (torch.tensor([bit == "1"]) for bit in key[-2:])
            shown = synthesis.drop(rgb, rgb_a, depth, depth_a, mask, d_rgb, d_depth)
            np.testing.assert_allclose([float(x.sum()) for x in shown], f[key], rtol=1e-8)


def draws_of(p_z, beta, noise_size):
    """Draws that make the fixture's noise, nothing dropped, no colours."""
    flag = torch.zeros(1, dtype=torch.bool)
    return dict(
        p_z=tensor([p_z]),
        beta=tensor([beta]),
        drop_rgb=flag,
        drop_depth=flag,
        turn_deg=torch.zeros(1),
        texture=torch.zeros(1, noise_size, noise_size, 3, dtype=torch.uint8),
        alpha=torch.zeros(1, 2),
        sigma=torch.ones(1),
        angle_deg=torch.tensor([25.0]),
        grid=torch.tensor([SYNTHESIS_GRID]),
    )


def test_synthesis_without_the_filter_matches(p):
    f, foreground, rgb, _, depth, _noise = case_inputs(p)
    rows, cols = SYNTHESIS_GRID
    u = tensor(p.input("syn_perlin", (rows + 1, cols + 1), "unit"))[None]
    for key in [k for k in f if k.startswith("noskew_") and "Mstar" not in k]:
        literal = "literal" in key
        p_z = 1.0 if literal else float(key.partition("_pz")[2])
        settings = Settings(
            skew=Skew(enabled=False, literal_ablation=literal), perlin=Perlin(threshold=0.5)
        )
        draws = synthesis.Draws(u=u, **draws_of(0.2 if literal else p_z, 0.0, 64))
        made = synthesis.synthesise(rgb, depth, foreground, draws, settings)
        close(made.depth[0, 0], f[key], 1e-6)
    for key in [k for k in f if k.startswith("noskew_Mstar")]:
        p_z, t_h = map(float, re.fullmatch(r"noskew_Mstar_pz([\d.]+)_th([\d.]+)", key).groups())
        settings = Settings(skew=Skew(enabled=False), t_h=t_h)
        draws = synthesis.Draws(u=u, **draws_of(p_z, 0.0, 64))
        mask = synthesis.synthesise(rgb, depth, foreground, draws, settings).mask
        assert (mask[0, 0].numpy() == f[key]).all()


def ellipse(size, pixels):
    """A foreground of very nearly `pixels` pixels."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    ratio = 0.9
    a = np.sqrt(pixels / (np.pi * ratio))
    return (x / a) ** 2 + (y / (ratio * a)) ** 2 <= 1


def test_default_synthesis_has_the_recorded_statistics(p):
    expected = p.json("synthesis_statistics_256")
    size, count, batch = expected["size"], 1500, 25
    inside = ellipse(size, expected["foreground_pixels"])
    assert inside.sum() == pytest.approx(expected["foreground_pixels"], rel=0.01)
    foreground = torch.from_numpy(inside).float().expand(batch, 1, size, size)
    flat = torch.zeros(batch, 1, size, size)
    settings = Settings(p_d=0.0)
    found = []
    for first in range(0, count, batch):
        draws = synthesis.draw_samples(range(first, first + batch), settings, "3d", None)
        x = synthesis.synthesise(flat.expand(-1, 3, -1, -1), flat, foreground, draws, settings)
        noise = synthesis.rotate(
            synthesis.perlin_noise(draws.u, draws.grid, (size, size))[:, None], draws.angle_deg
        )
        region = synthesis.ternary(noise, settings.perlin.threshold) * foreground
        area = x.mask.sum((1, 2, 3))
        found.append(
            torch.stack(
                [
                    region.abs().sum((1, 2, 3)) / inside.sum(),
                    area / inside.sum(),
                    x.depth.abs().amax((1, 2, 3)),
                    (x.mask * (x.depth < 0)).sum((1, 2, 3)) / area.clamp(min=1),
                    (x.mask * (1 - foreground)).sum((1, 2, 3)) / area.clamp(min=1),
                ]
            )
        )
    names = [
        "ternary_mask_area_over_foreground",
        "refined_mask_area_over_foreground",
        "max_abs_depth_change",
        "share_of_refined_mask_with_negative_change",
        "share_of_refined_mask_outside_foreground",
    ]
    means = torch.cat(found, dim=1).mean(dim=1).tolist()
    for name, mean in zip(names, means):
        assert mean == pytest.approx(expected[name]["mean"], rel=0.05), name


def test_default_networks_are_draem_s(p):
    assert layout_of(Das3dNet(Settings()).recon_depth) == layout_of(Reconstructive(1, 1, 128))
    assert layout_of(Das3dNet(Settings()).disc) == layout_of(Discriminative(1280, 2, 64))


def layout_of(net):
    return [(k, v.shape) for k, v in net.state_dict().items()]
