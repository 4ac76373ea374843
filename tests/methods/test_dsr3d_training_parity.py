"""3DSR's training against the recorded numbers: losses, gradients, anomalies, simulated depth."""

import re

import numpy as np
import pytest
import torch

from methods.blocks.losses import focal
from methods.blocks.perlin import perlin_noise, rotate
from methods.dsr3d import anomalies, simulation
from methods.dsr3d.dada import CHANNELS
from methods.dsr3d.model import Output, Simulated, stage2_loss
from methods.dsr3d.samples import Draws, draw, noise_mask
from methods.dsr3d.settings import Anomaly, Augment, Dada, DadaLoss, Loss, Mask
from methods.dsr3d.stage import dada_loss
from methods.dsr3d.weights import ours
from tests.methods.dsr3d_parity import autoencoder, close, input_of, same_stat, stat, whole_net

pytestmark = pytest.mark.parity

SETTINGS = {"rgbd": "rgb+3d", "d": "3d"}


@pytest.fixture
def p(parity):
    return parity("3dsr")


def relative(got, expected, tolerance):
    got = got.detach() if torch.is_tensor(got) else got
    np.testing.assert_allclose(np.asarray(got), expected, rtol=tolerance, atol=1e-9)


def gradient_norms(p, name, net):
    """In the order of the published checkpoint."""
    parameters = dict(net.named_parameters())
    keys = [ours(key) for key, _ in p.state_dict_list(name)]
    return np.array([float(parameters[k].grad.norm()) for k in keys if not k.startswith("vq_")])


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_step_of_stage_1_matches(p, kind):
    f, setting = p.npz(f"dada_step_{kind}"), SETTINGS[kind]
    net = autoencoder(p, f"dada_{kind}")
    x = input_of(p, f"dada_{kind}", net.encoder_hi)
    coded = net.train()(x)
    terms = dada_loss(coded, x, DadaLoss(), setting)
    for ours_, theirs in [
        ("recon", "recon_loss"),
        ("codes_lo", "loss_t"),
        ("codes_hi", "loss_b"),
        ("total", "loss"),
    ]:
        relative(terms[ours_], f[theirs], 1e-5)
    error = (coded.recon - x).abs()
    relative(error[:, :1].mean(), f["depth_term"], 1e-5)
    if kind == "rgbd":
        relative(error[:, 1:].mean(), f["rgb_term"], 1e-5)

    terms["total"].backward()
    norms = gradient_norms(p, f"dada_{kind}", net)
    assert len(norms) == len(f["grad_norms"])
    large = f["grad_norms"] > 1e-6 * f["grad_norms"].max()
    relative(norms[large], f["grad_norms"][large], 5e-3)
    for letter, quantiser in (("t", net.vq_lo), ("b", net.vq_hi)):
        relative(quantiser.ema_count[:256], f[f"cluster_{letter}"], 1e-5)
        close(quantiser.codebook[:8], f[f"weight_{letter}"], 1e-5)
        relative(stat(quantiser.ema_count)[1:], f[f"cluster_{letter}_stat"][1:], 1e-5)
        same_stat(quantiser.codebook, f[f"weight_{letter}_stat"], 1e-5)


def recorded_draws(f):
    """The random numbers of a recorded step; codes are looked up by `recorded_codes`."""
    shape = {"lo": f["draw_lo_columns"].shape}
    hi = f["draw_hi_on_clean_lo_columns"].shape
    shape |= {"hi_on_anomalous_lo": hi, "hi_on_clean_lo": hi}
    calls = []
    for tag, (batch, positions) in shape.items():
        side = int(positions**0.5)
        shuffle = float(f[f"draw_{tag}_shuffle_u"][0]) > 0.5
        patch = 2 ** int(f[f"draw_{tag}_patch_exponent"][0]) if shuffle else 1
        order = f[f"draw_{tag}_perm"] if shuffle else np.zeros((batch, 1))
        u = torch.zeros(batch, side, side)
        calls.append(anomalies.Call(u, shuffle, patch, torch.from_numpy(order.astype(np.int64))))
    flags = (torch.from_numpy(f[f"draw_use_{n}"].reshape(-1) > 0) for n in ("both", "lo"))
    strengths = (torch.from_numpy(f[f"draw_strength_{n}"]).double() for n in ("lo", "hi"))
    return anomalies.Draws(*strengths, *flags, *calls)


class RecordedCodes:
    """Stands in for `choose_codes`: the recorded codes of each call, in the order of calls.

    Also checks that our own choice at the recorded rank is as far away as the recorded code.
    """

    def __init__(self, f, masks):
        tags = ("lo", "hi_on_anomalous_lo", "hi_on_clean_lo")
        self.calls = [
            (f[f"draw_{t}_codes"], f[f"draw_{t}_columns"], mask)
            for t, mask in zip(tags, masks)
            if float(f[f"draw_{t}_shuffle_u"][0]) <= 0.5
        ]
        self.choose = anomalies.choose_codes

    def __call__(self, rows, codebook, strength, u, s):
        codes, columns, mask = self.calls.pop(0)
        codes, columns = (torch.from_numpy(x.astype(np.int64))[mask] for x in (codes, columns))
        _, count = anomalies.candidates(strength, len(codebook), s.drop_nearest)
        chosen = self.choose(rows, codebook, strength, (columns + 0.5) / count, s)
        far, recorded = ((rows - codebook[c]).square().sum(dim=1) for c in (chosen, codes))
        close(far, recorded.detach(), 1e-3)
        return codes


def step_of(p, kind, monkeypatch):
    f, setting = p.npz(f"stage2_step_{kind}"), SETTINGS[kind]
    net = whole_net(p, kind).train()
    x = 4 * p.input(f"stage2.{kind}.x{int(f['x_index'])}", (3, CHANNELS[setting], 64, 64))
    x = torch.from_numpy(x)
    mask = torch.from_numpy((p.input("stage2.mask", (3, 1, 64, 64), "unit") > 0.997) * 1.0).float()
    draws = recorded_draws(f)
    only_hi = (~draws.both & ~draws.lo).view(-1, 1)
    lo, hi = (anomalies.shrink(mask, (s, s)).flatten(1) > 0 for s in (8, 16))
    masks = [lo & ~only_hi, hi & draws.both.view(-1, 1), hi & only_hi]
    recorded = RecordedCodes(f, masks)
    monkeypatch.setattr(anomalies, "choose_codes", recorded)
    simulated = net.simulate(x, mask, draws, Anomaly())
    assert not recorded.calls
    return f, net, x, simulated, net.compare(simulated.lo, simulated.hi, simulated.general)


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_step_of_stage_2_matches(p, kind, monkeypatch):
    f, net, x, simulated, output = step_of(p, kind, monkeypatch)
    close(simulated.clean_lo[:, ::32], f["q_t"], 1e-5)
    close(simulated.clean_hi[:, ::32], f["q_b_real"], 1e-5)
    close(simulated.lo[:, ::16], f["anomalous_lo"], 1e-5)
    close(simulated.hi[:, ::32], f["anomalous_hi"], 1e-5)
    same_stat(simulated.lo, f["anomalous_lo_stat"], 1e-5)
    same_stat(simulated.hi, f["anomalous_hi_stat"], 1e-5)
    target = np.unpackbits(f["mask_target"])[: simulated.target.numel()]
    assert np.array_equal(simulated.target.numpy().ravel(), target)
    close(simulated.general[:, :, ::2, ::2], f["general"], 1e-4)
    close(output.object[:, :, ::2, ::2], f["object"], 1e-4)
    close(output.logits.softmax(dim=1)[:, 1, ::2, ::2], f["prob"], 1e-4)

    terms = stage2_loss(output, simulated, x, Loss())
    for ours_, theirs in [
        ("feature_hi", "feat_hi"),
        ("feature_lo", "feat_lo"),
        ("image", "img"),
        ("focal", "focal"),
        ("mask_l1", "l1"),
        ("total", "total"),
    ]:
        relative(terms[ours_], f[f"loss_{theirs}"], 1e-5)

    modules = {
        "restriction_hi": (net.restrict_hi, "restriction"),
        "restriction_lo": (net.restrict_lo, "restriction"),
        "object_decoder": (net.object_decoder, f"object_decoder_{kind}"),
        "seg": (net.anomaly_net, f"seg_{kind}"),
    }
    (terms["focal"] + terms["mask_l1"]).backward(retain_graph=True)
    alone = [np.linalg.norm(gradient_norms(p, name, module)) for module, name in modules.values()]
    relative(alone, f["segmentation_only_grad_norms"], 5e-3)
    net.zero_grad()
    terms["total"].backward()
    for key, (module, name) in modules.items():
        norms, want = gradient_norms(p, name, module), f[f"grad_norms_{key}"]
        large = want > 1e-6 * want.max()
        relative(norms[large], want[large], 5e-3)
        weights = [w.grad for w in module.parameters() if w.ndim == 4]
        keys = [ours(k) for k, shape in p.state_dict_list(name) if len(shape) == 4]
        found = dict(module.named_parameters())
        first, last = found[keys[0]].grad, found[keys[-1]].grad
        assert len(weights) == len(keys)
        for grad, want in ((first, f[f"grad_first_{key}"]), (last, f[f"grad_last_weight_{key}"])):
            close(grad[:4, :4], want, 2e-2 * np.abs(want).max())
    assert all(w.grad is None for w in net.autoencoder.parameters())


def test_focal_and_l1_terms_match(p):
    f = p.npz("focal_loss")
    logits = torch.from_numpy(p.input("focal.logits", (2, 2, 32, 48)))
    target = torch.from_numpy(p.input("focal.target", (2, 1, 32, 48), "unit") > 0.8).float()
    empty = torch.zeros(2, 1, 8, 8)
    output = Output(empty, empty, None, None, empty, None, logits)
    simulated = Simulated(None, None, empty, empty, target, None)
    terms = stage2_loss(output, simulated, empty, Loss())
    relative(terms["focal"], f["focal"], 1e-5)
    relative(terms["mask_l1"], f["l1"], 1e-5)
    wrong = torch.stack([torch.ones_like(target), torch.zeros_like(target)], dim=1)[:, :, 0]
    close(focal(wrong, torch.ones_like(target)), f["focal_all_wrong_hard"], 1e-4)
    close(focal(wrong, torch.zeros_like(target)), f["focal_all_right_hard"], 1e-6)


@pytest.fixture
def codebook(p):
    return torch.from_numpy(p.parameter("quantiser._embedding.weight", (2048, 256)))


def anomaly_inputs(p):
    z = torch.from_numpy(0.5 * p.input("feature_anomaly.z", (1, 256, 8, 8)))
    return z, z.permute(0, 2, 3, 1).reshape(64, 256)


def test_candidates_are_those_of_the_published_generator(p, codebook):
    f, (_, rows) = p.npz("feature_anomaly"), anomaly_inputs(p)
    strengths = [k.removeprefix("n_candidates_") for k in f if k.startswith("n_candidates_")]
    assert strengths
    for name in strengths:
        strength = torch.full((64,), float(name), dtype=torch.float64)
        _, count = anomalies.candidates(strength, 2048, Anomaly().drop_nearest)
        n = int(f[f"n_candidates_{name}"])
        assert (count == n).all()
        for column, rank in enumerate((0, n // 2, n - 1)):
            u = torch.full((64,), (rank + 0.5) / n, dtype=torch.float64)
            codes = anomalies.choose_codes(rows, codebook, strength, u, Anomaly())
            far = (rows - codebook[codes]).square().sum(dim=1)
            close(far, f[f"dist_{name}"][:, column], 1e-4)


def test_patches_are_shuffled_as_published(p):
    f = p.npz("feature_anomaly")
    x = torch.from_numpy(p.input("feature_anomaly.x", (2, 4, 8, 8)))
    for side in (1, 2, 4):
        order = torch.from_numpy(f[f"perm_{side}"].astype(np.int64))
        close(anomalies.shuffled(x, order, side), f[f"shuffled_{side}"], 0)


def test_the_whole_generator_matches(p, codebook):
    f, (z, rows) = p.npz("feature_anomaly"), anomaly_inputs(p)
    q = codebook[torch.cdist(rows, codebook).argmin(dim=1)].T.reshape(1, 256, 8, 8)
    mask = torch.from_numpy(p.input("feature_anomaly.mask", (1, 1, 64, 64), "unit") > 0.99)
    inside = anomalies.shrink(mask.float(), (8, 8))
    assert np.array_equal(inside[0, 0], f["replaced"])
    count = int(f["n_candidates_0.5"])
    u = torch.from_numpy((f["columns"] + 0.5) / count).reshape(1, 8, 8)
    call = anomalies.Call(u, False, 1, torch.zeros(1, 1, dtype=torch.int64))
    (place,) = anomalies.places(inside)
    strength = torch.tensor([0.5], dtype=torch.float64)
    out = anomalies.generate(z, q, codebook, place, strength, call, Anomaly())
    close(out[:, ::8], f["out"], 1e-4)
    same_stat(out, f["out_stat"], 1e-4)


def field(p, rows, columns, name, size):
    u = torch.from_numpy(p.input(name, (rows + 1, columns + 1), "unit"))[None]
    return perlin_noise(u.double(), torch.tensor([[rows, columns]]), (size, size))


def test_noise_masks_and_simulated_depth_match(p):
    f = p.npz("perlin")
    names = [k for k in f if re.fullmatch(r"noise384_\d+x\d+", k)]
    assert names
    for name in names:
        rows, columns = map(int, name.removeprefix("noise384_").split("x"))
        noise = field(p, rows, columns, f"perlin.angles.{rows}x{columns}", 384)[0].numpy()
        close(noise[::16, ::16], f[name], 1e-6)
        found = [noise.mean(), noise.std(), np.abs(noise).sum(), noise.min(), noise.max()]
        np.testing.assert_allclose(found, f[f"{name}_stat"], rtol=1e-5, atol=1e-6)
    small = field(p, 4, 2, "perlin.angles.256", 256)[None]
    close(small[0, 0, ::8, ::8], f["noise256_4x2"], 1e-6)

    large = field(p, 2, 8, "perlin.angles.2x8", 384)[None]
    for key in [k for k in f if k.startswith("rotated_")]:
        angle = float(key.removeprefix("rotated_"))
        close(rotate(large, torch.tensor([angle]))[0, 0, ::16, ::16], f[key], 5e-3)
    for key in [k for k in f if k.startswith("mask_")]:
        angle, threshold = map(float, key.removeprefix("mask_").split("_"))
        grid = torch.tensor([[2, 8]])
        u = torch.from_numpy(p.input("perlin.angles.2x8", (3, 9), "unit"))[None].double()
        draws = Draws(None, None, u, grid, *torch.tensor([[angle], [threshold]]), None, None)
        mask = noise_mask(draws, (384, 384), both_signs=True)[0, 0, ::4, ::4].numpy()
        differing = np.packbits(mask > 0) != f[key]
        assert differing.sum() <= 6
    for key in [k for k in f if k.startswith("depth_a")]:
        alpha, b = map(float, re.fullmatch(r"depth_a([\d.]+)_b([\d.]+)", key).groups())
        depth = simulation.simulated_depth(small, *torch.tensor([[33.0], [alpha], [b]]))
        close(depth[0, 0, ::8, ::8], f[key], 1e-2)


def test_training_images_turn_as_published(p):
    f = p.npz("perlin")
    image = torch.from_numpy(f["image"]).permute(2, 0, 1)[None]
    for key in [k for k in f if k.startswith("image_rotated_")]:
        turned = rotate(image, torch.tensor([float(key.removeprefix("image_rotated_"))]))
        close(turned[0].permute(1, 2, 0)[::2, ::2], f[key], 2e-2)


QUANTILES = slice(1, -1)  # the outermost ones are extremes of the draw


@pytest.mark.parametrize("size", ["256", "384"])
def test_masks_and_depth_have_the_recorded_statistics(p, size):
    want, count, batch = p.json("statistics")["perlin_generator"][size], 500, 25
    rng, dada = np.random.default_rng(0), Dada(size=int(size))
    areas, thresholds, means, stds = [], [], [], []
    for _ in range(count // batch):
        draws = draw(rng, 1, batch, Mask(p_normal=0.0), Augment())
        mask = noise_mask(draws, (dada.size, dada.size), both_signs=True)
        areas.append(mask.mean(dim=(1, 2, 3)))
        thresholds.append(draws.threshold)
        depth = simulation.Draws.stacked(
            [simulation.draw_sample(rng, dada, "3d", None) for _ in range(batch)]
        )
        depth = simulation.images(depth, dada, "3d")
        means.append(depth.mean(dim=(1, 2, 3)))
        stds.append(depth.std(dim=(1, 2, 3)))
    areas, thresholds, means, stds = (
        torch.cat(x).numpy() for x in (areas, thresholds, means, stds)
    )
    assert (areas == 0).mean() == pytest.approx(want["empty_mask_fraction"], abs=0.04)
    assert areas.mean() == pytest.approx(want["area_mean"], abs=0.015)
    assert thresholds.mean() == pytest.approx(want["threshold_mean"], abs=0.02)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    for found, name, tolerance in [
        (areas, "area_quantiles", 0.03),
        (means, "depth_mean_quantiles", 0.06),
        (stds, "depth_std_quantiles", 0.02),
    ]:
        close(np.quantile(found, levels), want[name][QUANTILES], tolerance)


def test_anomalies_have_the_recorded_statistics(p):
    want, s = p.json("statistics")["feature_anomaly"], Anomaly()
    rng = np.random.default_rng(0)
    ranks, shuffles = [], []
    for _ in range(300):
        draws = anomalies.draw(rng, 8, (8, 8), s)
        shuffles.append(draws.low.shuffle)
        strength = draws.strength_lo.view(-1, 1, 1).expand(8, 8, 8)
        dropped, count = anomalies.candidates(strength, 2048, s.drop_nearest)
        ranks.append((dropped + (draws.low.u.double() * count).long()).flatten())
    ranks = torch.cat(ranks).numpy()
    assert np.mean(shuffles) == pytest.approx(s.shuffle_probability, abs=0.1)
    assert want["shuffle_fraction"] == pytest.approx(s.shuffle_probability, abs=0.1)
    assert ranks.min() == want["rank_min"]
    assert ranks.mean() == pytest.approx(want["rank_mean"], rel=0.1)
    for level in (5, 25, 50, 75, 95):
        found = np.percentile(ranks, level)
        assert found == pytest.approx(want["rank_quantiles"][str(level)], rel=0.15), level
