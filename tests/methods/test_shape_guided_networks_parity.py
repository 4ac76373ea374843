"""Shape-Guided's networks against the recorded numbers: both experts, and how one learns."""

import numpy as np
import pytest
import torch

from methods.shape_guided.appearance import Appearance, combine
from methods.shape_guided.sdf import ShapeNet, pull, pull_loss
from methods.shape_guided.settings import Net, Rgb
from methods.shape_guided.weights import shape_net
from tests.methods.shape_guided_parity import (  # noqa: F401 (fixtures)
    SIZE,
    close,
    normal,
    p,
    shape,
    statistics,
    unit,
)

pytestmark = pytest.mark.parity


def mostly_close(got, expected, isolated, share=0.995):
    off = np.abs(np.asarray(got, np.float64) - expected)
    assert (off < 1e-5).mean() >= share and off.max() < isolated


def test_shape_expert_has_the_authors_checkpoint_s_entries(p, shape):
    layout = [[key, list(value.shape)] for key, value in shape.state_dict().items()]
    assert layout == p.state_dict_list("sdf_model")
    assert sum(v.numel() for v in shape.encoder.parameters()) == 734_848
    assert sum(v.numel() for v in shape.NIF.parameters()) == 2_435_585


def test_shape_expert_matches(p, shape):
    f = p.npz("sdf_model")
    patches, queries = (0.25 * normal(p, n, (4, 500, 3)) for n in ("sdf_patches", "sdf_queries"))
    feature = shape.features(patches)
    close(feature, f["feature"], 2e-6)
    close(shape.distances(feature, queries), f["sdf"][..., 0], 1e-6)
    with torch.no_grad():
        pulled, s, gradient = pull(shape, feature, queries)
        loss = pull_loss(shape, patches, queries, patches)
    close(s, f["sdf"][..., 0], 1e-6)
    mostly_close(gradient[:, ::5], f["sdf_gradient"], 5e-4)
    mostly_close(pulled, f["pulled"], 1e-3)
    assert loss.item() == pytest.approx(float(f["loss_eval"]), abs=1e-6)
    assert loss.item() == pytest.approx(float(f["loss_eval_float64"]), abs=1e-6)


def learning(p, dtype):
    """Network, batch and recorded numbers of the first steps of a training."""
    net = ShapeNet(Net())
    p.fill(net.train())
    patches, queries = (0.25 * normal(p, n, (4, 500, 3)) for n in ("sdf_patches", "sdf_queries"))
    return net.to(dtype), patches.to(dtype), queries.to(dtype), p.npz("sdf_model")


def test_first_step_of_the_shape_expert_is_the_original_s(p):
    # In float64: batch norms over four patches make 1e-6 of rounding before them 4e-5 of a
    # feature, which in float32 moves the loss by up to 1.3e-5, more or less by processor.
    net, patches, queries, f = learning(p, torch.float64)
    loss = pull_loss(net, patches, queries, patches)
    loss.backward()
    assert loss.item() == pytest.approx(float(f["train_losses"][0]), abs=1e-5)
    norms = {name: v.grad.norm().item() for name, v in net.named_parameters()}
    assert list(norms) == f["train_param_names"].tolist()
    for name, norm in zip(norms, f["train_grad_norms"]):
        assert norms[name] == pytest.approx(norm, rel=1e-3, abs=1e-6), name
    close(net.encoder.bn1.running_mean, f["bn1_running_mean"], 1e-6)
    close(net.encoder.bn5.running_mean, f["bn5_running_mean"], 1e-6)
    close(net.encoder.bn5.running_var, f["bn5_running_var"], 1e-6)


def test_shape_expert_learns_like_the_original(p):
    net, patches, queries, f = learning(p, torch.float32)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4, betas=(0.9, 0.999))
    for expected in f["train_losses"]:
        loss = pull_loss(net, patches, queries, patches)
        assert loss.item() == pytest.approx(float(expected), abs=5e-4)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def test_initial_shape_experts_have_the_recorded_statistics(p):
    f = p.npz("init_stats")
    patches = 0.25 * normal(p, "sdf_patches", (4, 500, 3))
    queries = patches + 0.08 * normal(p, "init_noise", (4, 500, 3))
    found = []
    for seed in range(10):
        net = shape_net(Net(), seed).train()
        loss = pull_loss(net, patches, queries, patches)
        feature = net.encoder(patches)
        s = net.NIF(feature, queries)
        gains = torch.cat([getattr(net.NIF, f"fc4{i}").weight_g for i in range(7)])
        found.append(
            {
                "loss_train_mode": loss,
                "sdf_mean": s.mean(),
                "sdf_std": s.std(correction=0),
                "feature_mean": feature.mean(),
                "weight_g_mean": gains.mean(),
                "feature_zero_fraction": (feature == 0).float().mean(),
                "fc5_weight_mean": net.NIF.fc5.weight.mean(),
                "fc3_weight_std": net.NIF.fc3.weight.std(),
            }
        )
    for name, mean, std in zip(f["names"].tolist(), f["mean"], f["std"]):
        values = np.array([float(one[name]) for one in found])
        # Both means are of few draws.
        allowed = 3 * std * (1 / len(found) + 1 / f["count"]) ** 0.5
        assert values.mean() == pytest.approx(mean, abs=allowed), name


def test_appearance_features_match(p):
    f = p.npz("wrn50_layer12")
    net = Appearance(Rgb()).eval()
    layout = [[key, list(value.shape)] for key, value in net.backbone.state_dict().items()]
    assert layout == p.state_dict_list("wrn50_layer12")
    p.fill(net.backbone)
    image = normal(p, "rgb_image", (1, 3, SIZE, SIZE))
    with torch.no_grad():
        layer1, layer2 = net.backbone(image)
    features = net(image)[0]
    for name, whole, part in [
        ("layer1", layer1, layer1[0, ::16, ::7, ::7]),
        ("layer2", layer2, layer2[0, ::32, ::4, ::4]),
        ("features", features, features[::7, ::8]),
    ]:
        close(part, f[name], 1e-5 * whole.abs().mean().item())
        np.testing.assert_allclose(statistics(whole), f[f"{name}_stats"], rtol=1e-5)


def test_feature_maps_are_joined_alike(p):
    f = p.npz("rgb_pool")
    layer1 = unit(p, "layer1_map", (1, 256, 56, 56))
    layer2 = unit(p, "layer2_map", (1, 512, 28, 28))
    features = combine(layer1, layer2)[0]
    close(features[::7, ::8], f["features"], 1e-6)
    np.testing.assert_allclose(statistics(features), f["features_stats"], rtol=1e-6)
