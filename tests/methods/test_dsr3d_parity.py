"""3DSR and DSR against the recorded numbers: networks, quantiser, whole inference."""

import numpy as np
import pytest
import torch

from methods.blocks.losses import ssim
from methods.blocks.quantiser import Quantiser, distances
from methods.dsr3d import model
from methods.dsr3d.dada import Autoencoder
from methods.dsr3d.model import Dsr3dNet, smooth
from methods.dsr3d.networks import AnomalyNet, ObjectDecoder, Restriction
from methods.dsr3d.settings import Dsr, Pipeline, Score
from methods.dsr3d.weights import compare, load_authors, ours
from tests.methods.dsr3d_parity import (
    NETWORKS,
    authors_state,
    autoencoder,
    close,
    input_of,
    perplexity,
    same_stat,
    whole_net,
)

pytestmark = pytest.mark.parity


@pytest.fixture
def p(parity):
    return parity("3dsr")


def stage2_parts(setting):
    net = Dsr3dNet(Dsr() if setting == "rgb" else Pipeline(), setting)
    return {
        "restriction": net.restrict_hi,
        "object_decoder": net.object_decoder,
        "seg": net.anomaly_net,
        "upsampling": getattr(net, "upsampler", None),
    }


def same_layout(p, name, net):
    """Same keys through the key map, same shapes, and no two of the authors' keys alike."""
    listed = p.state_dict_list(name)
    renamed = {ours(key): list(shape) for key, shape in listed}
    assert len(renamed) == len(listed)
    assert renamed == {key: list(value.shape) for key, value in net.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_autoencoders_have_the_published_layout(p, name):
    pipeline, setting = NETWORKS[name]
    same_layout(p, name, Autoencoder(pipeline.dada.net, setting))


def test_stage_2_networks_have_the_published_layout(p):
    for setting, suffix in (("rgb+3d", "_rgbd"), ("3d", "_d")):
        parts = stage2_parts(setting)
        same_layout(p, "restriction", parts["restriction"])
        same_layout(p, f"object_decoder{suffix}", parts["object_decoder"])
        same_layout(p, f"seg{suffix}", parts["seg"])
    for name, net in stage2_parts("rgb").items():
        same_layout(p, f"dsr_{name}", net)


@pytest.mark.parametrize("name", NETWORKS)
def test_autoencoders_match(p, name):
    net, f = autoencoder(p, name), p.npz(name)
    x = input_of(p, name, net.encoder_hi)
    with torch.inference_mode():
        enc_hi, lo = net.encode(x)
        upsampled = net.upsample(lo.q)
        hi = net.quantise_hi(enc_hi, upsampled)
        recon, again_lo, again_hi = net(x)
        enc_lo = net.encoder_lo(enc_hi)

    for key, got, slices in [
        ("enc_b", enc_hi, np.s_[:, ::16, ::2, ::2]),
        ("enc_t", enc_lo, np.s_[:, ::16]),
        ("z_t", lo.z, np.s_[:, ::8]),
        ("z_b", hi.z, np.s_[:, ::16, ::2, ::2]),
        ("up_t", upsampled, np.s_[:, ::16, ::2, ::2]),
        ("recon", recon, np.s_[:]),
    ]:
        close(got[slices], f[key], 2e-5)
        same_stat(got, f[f"{key}_stat"], 2e-5)
    for level, letter, quantiser in ((lo, "t", net.vq_lo), (hi, "b", net.vq_hi)):
        assert np.array_equal(level.codes, f[f"idx_{letter}"])
        rows = level.z.permute(0, 2, 3, 1).flatten(0, 2)
        nearest, second = distances(rows, quantiser.codebook).topk(2, largest=False).values.T
        close((second - nearest).reshape(level.codes.shape), f[f"gap_{letter}"], 1e-4)
        close(level.loss, f[f"loss_{letter}"], 1e-5)
        used = perplexity(level.codes, len(quantiser.codebook))
        np.testing.assert_allclose(used, f[f"perplexity_{letter}"], rtol=1e-5)
    assert torch.equal(again_lo.q, lo.q) and torch.equal(again_hi.codes, hi.codes)


@pytest.mark.parametrize("name", NETWORKS)
def test_pieces_of_the_general_decoder_match(p, name):
    net, f = autoencoder(p, name), p.npz(f"general_decoder_{name}")
    E = NETWORKS[name][0].dada.net.dim
    shapes = {"up_t": (12, 16), "q_b": (12, 16), "q_t": (6, 8), "enc_b": (12, 16)}
    up_t, q_b, q_t, enc_b = (
        torch.from_numpy(p.input(f"general_decoder.{key}", (1, E, *size)))
        for key, size in shapes.items()
    )
    with torch.inference_mode():
        out, up = net.decode(up_t, q_b), net.upsample(q_t)
        pre_vq = net.quantise_hi(enc_b, up_t).z
    for key, got, slices in [
        ("out", out, np.s_[:]),
        ("up", up, np.s_[:, ::8]),
        ("pre_vq", pre_vq, np.s_[:, ::8]),
    ]:
        close(got[slices], f[key], 2e-5)
        same_stat(got, f[f"{key}_stat"], 2e-5)


@pytest.fixture
def quantiser(p):
    codebook = p.parameter("quantiser._embedding.weight", (2048, 256))
    counts = 0.5 + p.input("quantiser._ema_cluster_size", (2048,), "unit")
    net = Quantiser(2048, 256)
    state = {"codebook": codebook, "ema_sum": codebook * counts[:, None], "ema_count": counts}
    net.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return net.eval()


def quantiser_input(p):
    k = int(p.npz("quantiser")["z_index"])
    return torch.from_numpy(0.5 * p.input(f"quantiser.z{k}", (2, 256, 6, 8)))


def relative(got, expected, tolerance=1e-5):
    """Within a share of the largest value."""
    scale = max(np.abs(np.asarray(expected)).max(), 1e-12)
    close(got, expected, tolerance * scale)


def test_quantiser_matches(p, quantiser):
    f, z = p.npz("quantiser"), quantiser_input(p)
    found = quantiser(z)
    assert np.array_equal(found.codes, f["idx"])
    relative(found.q[:, ::8], f["quantised"])
    same_stat(found.q, f["quantised_stat"], 1e-6)
    relative(found.loss, f["loss"])
    relative(perplexity(found.codes, 2048), f["perplexity"])

    learnt = Quantiser(2048, 256, learning="gradient")
    learnt.load_state_dict({"codebook": quantiser.codebook})
    relative(learnt(z).loss, f["gradient_variant_loss"])


def test_quantiser_passes_the_gradient_straight_through(p, quantiser):
    f, z = p.npz("quantiser"), quantiser_input(p).requires_grad_()
    found = quantiser(z)
    cotangent = torch.from_numpy(p.input("quantiser.cot", (2, 256, 6, 8)))
    (3 * found.loss + (found.q * cotangent).sum()).backward()
    relative(z.grad[:, ::16], f["grad_z"])
    same_stat(z.grad, f["grad_z_stat"], 1e-6)
    assert quantiser.codebook.grad is None


def test_quantiser_follows_the_data_after_looking_up(p, quantiser):
    f, z = p.npz("quantiser"), quantiser_input(p)
    found = quantiser.train()(z)
    relative(found.loss, f["train_loss"])
    same_stat(found.q, f["train_quantised_stat"], 1e-6)
    relative(quantiser.ema_count, f["new_cluster_size"])
    rows = f["rows"]
    relative(quantiser.ema_sum[rows], f["new_ema_w_rows"])
    relative(quantiser.codebook[rows], f["new_weight_rows"])
    same_stat(quantiser.ema_sum, f["new_ema_w_stat"], 1e-6)
    same_stat(quantiser.codebook, f["new_weight_stat"], 1e-6)


def test_restriction_matches(p):
    f = p.npz("restriction")
    net = Restriction(256, 128).eval()
    load_authors(net, authors_state(p, "restriction"))
    quantiser = autoencoder(p, "dada_rgbd").vq_hi
    hi = torch.from_numpy(p.input(f"restriction.f{int(f['f_index'])}", (1, 256, 24, 32)))
    lo = torch.from_numpy(p.input("restriction.f_lo", (1, 256, 12, 16)))
    with torch.inference_mode():
        out, out_lo, b3 = net(hi), net(lo), net.bottleneck(hi)
        found = quantiser(out)
    close(out[:, ::16, ::2, ::2], f["out"], 1e-4)
    same_stat(out, f["out_stat"], 1e-4)
    close(b3[:, ::32], f["b3"], 1e-4)
    close(out_lo[:, ::16], f["out_lo"], 1e-4)
    same_stat(out_lo, f["out_lo_stat"], 1e-4)
    assert np.array_equal(found.codes, f["idx"])
    close(found.loss, f["loss"], 1e-5)
    same_stat(found.q, f["quantised_stat"], 1e-4)


@pytest.mark.parametrize("kind, channels", [("rgbd", 4), ("d", 1)])
def test_object_decoder_and_anomaly_net_match(p, kind, channels):
    parts = stage2_parts("rgb+3d" if kind == "rgbd" else "3d")
    decoder, f = parts["object_decoder"].eval(), p.npz(f"object_decoder_{kind}")
    load_authors(decoder, authors_state(p, f"object_decoder_{kind}"))
    q = torch.from_numpy(p.input("object_decoder.q", (1, 512, 16, 24)))
    with torch.inference_mode():
        out = decoder(*q.chunk(2, dim=1))
    close(out, f["out"], 2e-5)
    same_stat(out, f["out_stat"], 2e-5)

    seg, f = parts["seg"].eval(), p.npz(f"seg_{kind}")
    load_authors(seg, authors_state(p, f"seg_{kind}"))
    images = [
        torch.from_numpy(p.input(f"seg.{name}", (1, channels, 64, 96), "unit"))
        for name in ("object", "general")
    ]
    with torch.inference_mode():
        logits = seg(*images)
    close(logits[:, :, ::2, ::2], f["logits"], 1e-4)
    same_stat(logits, f["logits_stat"], 1e-4)
    close(logits.softmax(dim=1)[:, 1, ::2, ::2], f["prob"], 1e-4)


def test_stage_2_networks_of_dsr_match(p):
    f = p.npz("dsr_stage2")
    parts = stage2_parts("rgb")
    for name, net in parts.items():
        load_authors(net.eval(), authors_state(p, f"dsr_{name}"))
    features, q = (
        torch.from_numpy(p.input(f"dsr.{name}", (1, channels, 16, 24)))
        for name, channels in (("f", 128), ("q", 256))
    )
    images = [
        torch.from_numpy(p.input(f"dsr.{name}", (1, 3, 64, 96), "unit"))
        for name in ("object", "general")
    ]
    with torch.inference_mode():
        restricted = parts["restriction"](features)
        shown = parts["object_decoder"](*q.chunk(2, dim=1))
        logits = parts["seg"](*images)
        refined = parts["upsampling"](*images, logits.softmax(dim=1))
    for key, stat, got, slices in [
        ("restriction", "restriction_stat", restricted, np.s_[:, ::8, ::2, ::2]),
        ("object", "object_stat", shown, np.s_[:, :, ::2, ::2]),
        ("seg_logits", "seg_stat", logits, np.s_[:, :, ::4, ::4]),
        ("up_logits", "up_stat", refined, np.s_[:, :, ::4, ::4]),
    ]:
        close(got[slices], f[key], 1e-4)
        same_stat(got, f[stat], 1e-4)


@pytest.mark.parametrize("kind, setting", [("rgbd", "rgb+3d"), ("d", "3d")])
def test_the_whole_inference_matches(p, kind, setting):
    f, net = p.npz(f"end_to_end_{kind}"), whole_net(p, kind)
    x = input_of(p, f"dada_{kind}", net.autoencoder.encoder_hi)
    with torch.inference_mode():
        output = net(x)
        probability = output.logits.softmax(dim=1)[:, 1]
        maps = smooth(probability, Score(), setting)
    close(output.general[:, :, ::2, ::2], f["general_recon"], 1e-4)
    same_stat(output.general, f["general_recon_stat"], 1e-4)
    close(output.restricted_hi[:, ::32, ::2, ::2], f["restricted_hi"], 1e-4)
    close(output.restricted_lo[:, ::16], f["restricted_lo"], 1e-4)
    same_stat(output.restricted_hi, f["restricted_hi_stat"], 1e-4)
    same_stat(output.restricted_lo, f["restricted_lo_stat"], 1e-4)
    assert np.array_equal(output.codes_hi, f["idx_hi"])
    assert np.array_equal(output.codes_lo, f["idx_lo"])
    close(output.object, f["object_recon"], 1e-4)
    same_stat(output.object, f["object_recon_stat"], 1e-4)
    close(probability, f["prob"], 1e-4)
    close(maps, f["anomaly_map"], 1e-5)
    same_stat(maps, f["map_stat"], 1e-5)
    close(maps.amax(dim=(1, 2)), f["image_score"], 1e-5)
    close(probability.amax(), f["raw_max"], 1e-4)
    assert abs(float(f["raw_max"]) - float(maps.amax())) > 1e-3


def test_smoothing_matches(p):
    f = p.npz("post")
    maps = torch.from_numpy(p.input("post.prob", (2, 1, 40, 56), "unit"))[:, 0]
    for window in (11, 21):
        smoothed = smooth(maps, Score(window_px=window), "3d")
        close(smoothed, f[f"map{window}"].reshape(smoothed.shape), 1e-6)
        close(smoothed.amax(dim=(1, 2)), f[f"score{window}"], 1e-6)
    assert model.window_of(Score(), "rgb+3d") == 11
    assert model.window_of(Score(), "3d") == model.window_of(Score(), "rgb") == 21


def test_draem_s_ssim_matches(p):
    f = p.npz("ssim")
    a, b = (torch.from_numpy(p.input(f"ssim.{n}", (2, 3, 40, 56), "unit")) for n in "ab")
    close(1 - ssim(a, 0.7 * a + 0.3 * b), f["loss"], 1e-5)
    close(1 - ssim(a, a), f["loss_identical"], 1e-5)


def test_a_checkpoint_that_does_not_fit_is_reported_key_by_key(p):
    state = authors_state(p, "seg_rgbd")
    report = compare(state, AnomalyNet(8, 32)).report
    assert report.fits and len(report.loaded) == len(state)
    wider = compare(state, AnomalyNet(8, 64)).report
    assert not wider.fits and any("block1.0.weight: (32, 8, 3, 3)" in d for d in wider.differing)
    other = compare(state, ObjectDecoder(512, 4, 512, 64, 256, (2, 128))).report
    assert other.missing and other.unexpected
