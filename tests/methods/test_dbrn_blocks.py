"""DBRN's building blocks against their slow versions, and what they must not change."""

import numpy as np
import pytest
import torch

from methods.blocks import swin_unet
from methods.blocks.res_unet import ResUnet
from methods.blocks.swin_unet import (
    Drops,
    PatchMerging,
    SwinUnet,
    WindowAttention,
    load_pretrained,
    shift_mask,
)
from methods.contract import save_tensors
from methods.dbrn.dropout import (
    PIECE,
    draw_kept,
    inference_drops,
    kept,
    multipliers,
    onto,
    training_drops,
)
from methods.dbrn.losses import reconstruction_loss, reconstruction_terms
from methods.dbrn.network import AllDrops
from methods.dbrn.settings import Dropout
from tests.methods import dbrn_oracle as oracle


def small(in_channels=3, out_channels=3, **changes):
    defaults = dict(width=8, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=4)
    return SwinUnet(64, in_channels, out_channels, **(defaults | changes))


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_windows_attend_as_one_token_at_a_time_would(shift):
    grid, window, heads, d = 8, 4, 2, 3
    torch.manual_seed(0)
    attention = WindowAttention(heads * d, window, heads).double()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    x = torch.randn(1, grid, grid, heads * d, dtype=torch.float64)
    rolled = swin_unet.windows_of(x.roll((-shift, -shift), (1, 2)), window)
    mask = shift_mask(grid, window, shift).double() if shift else None
    with torch.no_grad():
        got = swin_unet.grid_of(attention(rolled, mask), window, grid).roll((shift, shift), (1, 2))
        qkv = attention.qkv(x[0]).view(grid, grid, 3, heads, d).numpy()
        q, k, v = np.moveaxis(qkv, 2, 0)
        table = attention.relative_position_bias_table.numpy()
        slow = oracle.window_attention(q * d**-0.5, k, v, table, window, shift)
        want = attention.proj(torch.from_numpy(slow.reshape(grid, grid, -1)))
    np.testing.assert_allclose(got[0], want, atol=1e-10)


def test_windows_and_spread_tokens_keep_their_places():
    x = torch.arange(2 * 8 * 8 * 3.0).view(2, 8, 8, 3)
    windows = swin_unet.windows_of(x, 4)
    assert torch.equal(windows[1].view(4, 4, 3), x[0, :4, 4:])
    assert torch.equal(swin_unet.grid_of(windows, 4, 8), x)

    tokens = torch.zeros(1, 9, 4 * 5)
    tokens[0, 4] = torch.arange(20.0)  # the middle one of 3 x 3
    fine = swin_unet.spread(tokens, 3, 2).view(6, 6, 5)
    assert torch.equal(fine[2:4, 2:4].reshape(-1), torch.arange(20.0))
    assert fine.abs().sum() == torch.arange(20.0).sum()


def test_patches_merge_in_the_published_order():
    x = torch.randn(2, 4, 4, 3)
    merging = PatchMerging(3, 4)
    quarters = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    want = merging.reduction(merging.norm(torch.cat(quarters, dim=-1)))
    torch.testing.assert_close(merging(x.view(2, 16, 3)), want.view(2, 4, 6))


@pytest.mark.parametrize("make", [small, lambda **k: ResUnet(64, 3, 3, 4, **k)])
def test_an_image_does_not_depend_on_its_batch(make):
    net = make(extra_scales=2).eval()
    x = torch.rand(5, 3, 64, 64)
    with torch.inference_mode():
        many, one = net(x), net(x[3:4])
    assert [tuple(y.shape[1:]) for y in many] == [(3, 64, 64), (3, 32, 32), (3, 16, 16)]
    for a, b in zip(many, one):
        torch.testing.assert_close(a[3:4], b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [small, lambda **k: ResUnet(64, 3, 3, 4, **k)])
def test_dropped_skips_are_multiplied_away(make):
    net = make().eval()
    x = torch.rand(2, 3, 64, 64)
    ones = Drops([torch.ones(2, L, C) for L, C in net.skip_shapes])
    none = Drops([torch.zeros(2, 1, 1) for _ in net.skip_shapes])
    with torch.inference_mode():
        [plain], [kept], [dropped] = net(x), net(x, ones), net(x, none)
        assert torch.equal(plain, kept) and not torch.allclose(plain, dropped)
        for k, (L, _C) in enumerate(net.skip_shapes):  # each reaches the image
            single = [torch.ones(1, 1, 1)] * 3
            single[k] = torch.zeros(2, L, 1)
            assert not torch.allclose(net(x, Drops(single))[0], plain)


def test_a_block_whose_branches_are_dropped_changes_nothing():
    net = small()
    rows = len(net.path_rates)
    assert rows == 2 * (8 + 6)
    x = torch.rand(3, 3, 64, 64)
    block = net.layers[0].blocks[1]
    tokens = torch.randn(3, 256, 8)
    assert torch.equal(block(tokens, torch.zeros(2, 3)), tokens)
    with torch.inference_mode():
        [plain], [kept], [less] = (
            net(x),
            net(x, Drops(paths=torch.ones(rows, 3))),
            net(x, Drops(paths=torch.tensor([[1.0, 1.0, 0.0]]).expand(rows, 3))),
        )
    torch.testing.assert_close(plain, kept, rtol=0, atol=1e-6)
    assert torch.equal(less[:2], kept[:2]) and not torch.allclose(less[2], kept[2])


def test_the_decoder_mirrors_the_rates_of_stochastic_depth():
    rates = small(depths=(2, 2, 4, 2), path_rate=0.9).path_rates[::2]
    np.testing.assert_allclose(rates[:10], np.linspace(0, 0.9, 10), atol=1e-6)
    np.testing.assert_allclose(rates[10:], [0.4, 0.5, 0.6, 0.7, 0.2, 0.3, 0.0, 0.1], atol=1e-6)


@pytest.mark.parametrize("kind", ["element", "token", "channel"])
def test_dropout_has_its_rates_its_form_and_the_mean_it_replaces(kind):
    net, dropout = small(), Dropout(type=kind)
    drawn = AllDrops(training_drops(net, 6, dropout, torch.Generator().manual_seed(0)))
    drops = multipliers(onto(drawn, "cpu"), dropout).rgb
    test = inference_drops(net, [lambda k, i=i: 10 * i + k for i in range(6)], dropout, "cpu")
    for masks in (drops.skips, test.skips):
        for mask, (L, C), rate in zip(masks, net.skip_shapes, dropout.rates, strict=True):
            shape = {"element": (6, L, C), "token": (6, L, 1), "channel": (6, 1, C)}[kind]
            assert mask.shape == shape
            assert set(mask.unique().tolist()) <= {0.0, np.float32(1 / (1 - rate))}
            error = (rate * (1 - rate) / mask.numel()) ** 0.5
            assert abs((mask == 0).float().mean() - rate) < 4.5 * error
    assert (drops.paths >= 0).all() and drops.paths.shape == (28, 6)


@pytest.mark.parametrize("shape", [(2, 300, 400), (3, 1, 5), (1, 1, PIECE)])
@pytest.mark.parametrize("rate", [0, 0.2, 0.4, 0.6, 1 - 2**-24])
def test_what_is_kept_is_what_floats_say_that_are_drawn_one_by_one(shape, rate):
    pairs, whole = (torch.Generator().manual_seed(7) for _ in range(2))
    assert torch.equal(kept(shape, rate, pairs), torch.rand(shape, generator=whole) >= rate)
    assert torch.equal(pairs.get_state(), whole.get_state())
    found = np.empty(np.prod(shape), bool)
    draw_kept(found, rate, np.random.default_rng(7))
    uniform = np.random.default_rng(7).random(shape, np.float32)
    assert np.array_equal(found.reshape(shape), uniform >= np.float32(rate))


def test_initial_weights_come_from_the_generator():
    nets = [small(extra_scales=1) for _ in range(2)]
    for net in nets:
        swin_unet.init_weights(net, torch.Generator().manual_seed(3))
    a, b = (net.state_dict() for net in nets)
    assert all(torch.equal(a[k], b[k]) for k in a)
    wide = SwinUnet(64, 1, 1, width=48, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), window=4)
    swin_unet.init_weights(wide, torch.Generator().manual_seed(0))
    assert wide.layers[3].blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert wide.layers[3].blocks[0].mlp.fc1.bias.abs().max() == 0
    assert wide.patch_embed.proj.weight.abs().max().item() == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("prefix, wrap", [("", False), ("", True), ("swin_unet.", False)])
def test_a_published_encoder_starts_the_encoder_and_its_mirror_image(prefix, wrap, tmp_path):
    donor, net = small(), small(in_channels=1, out_channels=1)
    before = net.layers_up[0].expand.weight.clone()
    state = {
        prefix + k: v
        for k, v in donor.state_dict().items()
        if k.startswith(("patch_embed", "layers.", "norm."))
    }
    save_tensors(tmp_path / "swin.pt", {"model": state} if wrap else state)
    loaded = load_pretrained(net, tmp_path / "swin.pt")
    assert "layers_up.3.blocks.1.attn.qkv.weight" in loaded
    assert "patch_embed.proj.weight" not in loaded  # another number of channels
    own, given = net.state_dict(), donor.state_dict()
    assert torch.equal(
        own["layers.1.blocks.0.mlp.fc1.weight"], given["layers.1.blocks.0.mlp.fc1.weight"]
    )
    assert torch.equal(
        own["layers_up.2.blocks.0.mlp.fc1.weight"], given["layers.1.blocks.0.mlp.fc1.weight"]
    )
    assert torch.equal(net.layers_up[0].expand.weight, before)


def test_a_checkpoint_that_fits_nothing_is_refused(tmp_path):
    save_tensors(tmp_path / "other.pt", {"conv.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="no entry that fits.*conv.weight.*same width and window"):
        load_pretrained(small(), tmp_path / "other.pt")


def test_the_weighted_error_matches_one_pixel_at_a_time():
    rng = np.random.default_rng(0)
    image, recon = rng.random((2, 2, 3, 12, 12))
    foreground = rng.random((2, 1, 12, 12)) < 0.6
    mask = foreground & (rng.random((2, 1, 12, 12)) < 0.3)
    weights = (1.0, 4.0, 10.0, 0.0)
    tensors = [torch.from_numpy(a.astype(np.float64)) for a in (image, recon, foreground, mask)]
    got = reconstruction_loss(tensors[0], [tensors[1]], *tensors[2:], weights)
    assert float(got) == pytest.approx(
        oracle.squared_error(image, recon, foreground, mask, weights), rel=1e-12
    )


def test_subsets_are_averaged_on_their_own_and_may_be_empty():
    image, recon = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    foreground, mask = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    foreground[..., :2] = 1
    terms = reconstruction_terms(image, recon, foreground, mask, "subset")
    assert terms[:3].tolist() == pytest.approx([0.25, 0.25, 0])
    common = reconstruction_terms(image, recon, foreground, mask)
    assert common[:3].tolist() == pytest.approx([0.25 * 0.75, 0.25 * 0.25, 0])


def test_scales_can_be_compared_at_their_own_size_or_added_up():
    image = torch.rand(2, 1, 16, 16)
    foreground, mask = torch.ones(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)
    recons = [torch.rand(2, 1, 16, 16), torch.rand(2, 1, 8, 8)]
    args = (foreground, mask, (1.0, 4.0, 10.0, 1.0), "common")
    each = [reconstruction_loss(image, [r], *args) for r in recons]
    mean, total = (reconstruction_loss(image, recons, *args, ms) for ms in ("enlarged", "sum"))
    torch.testing.assert_close(mean, sum(each) / 2)
    torch.testing.assert_close(total, sum(each))
    small_image = torch.nn.functional.avg_pool2d(image, 2)
    exact = reconstruction_loss(image, [small_image], *args, "native")
    assert exact.abs() < 1e-6 < reconstruction_loss(image, [small_image], *args)
