"""What the parity tests of 3DSR share: networks filled as the fixtures' README says."""

import numpy as np
import torch

from methods.dsr3d.dada import Autoencoder
from methods.dsr3d.model import Dsr3dNet
from methods.dsr3d.settings import Dada, DadaNet, Dsr, Pipeline
from methods.dsr3d.weights import load_authors

# fixture's network -> settings of the pipeline, setting
NETWORKS = {
    "dada_rgbd": (Pipeline(), "rgb+3d"),
    "dada_d": (Pipeline(), "3d"),
    "vqvae_rgbd": (Pipeline(dada=Dada(net=DadaNet(grouped=False))), "rgb+3d"),
    "dsr_vqvae_rgb": (Dsr(), "rgb"),
}
MAX_INDEX = 200


def authors_state(p, name, prefix=""):
    """The checkpoint of fixture network `name` as the fixtures fill it, under the authors' keys."""
    state = {}
    for key, shape in p.state_dict_list(name):
        if key.endswith("_ema_cluster_size"):
            state[key] = 0.5 + p.input(key, shape, "unit")
        elif not key.endswith("_ema_w"):
            state[key] = p.parameter(prefix + key, shape)
    for key, _ in p.state_dict_list(name):
        if key.endswith("_ema_w"):
            level = key.removesuffix("_ema_w")
            counts = state[f"{level}_ema_cluster_size"]
            state[key] = state[f"{level}_embedding.weight"] * counts[:, None]
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}


def autoencoder(p, name):
    pipeline, setting = NETWORKS[name]
    net = Autoencoder(pipeline.dada.net, setting)
    load_authors(net, authors_state(p, name))
    return net.eval()


def whole_net(p, kind):
    """Stage 2's networks for kind "rgbd" or "d"."""
    pipeline, setting = NETWORKS[f"dada_{kind}"]
    net = Dsr3dNet(pipeline, setting)
    load_authors(net.autoencoder, authors_state(p, f"dada_{kind}"))
    load_authors(net.restrict_hi, authors_state(p, "restriction"))
    load_authors(net.restrict_lo, authors_state(p, "restriction", "lo:"))
    load_authors(net.object_decoder, authors_state(p, f"object_decoder_{kind}"))
    load_authors(net.anomaly_net, authors_state(p, f"seg_{kind}"))
    return net.eval()


def input_of(p, name, encoder):
    """4 x the input `name`.x<k>; k is the one whose features come near the recorded ones."""
    channels = {"dada_d": 1, "dsr_vqvae_rgb": 3}.get(name, 4)
    want = p.npz(name)["enc_b"]
    for k in range(MAX_INDEX):
        x = torch.from_numpy(4 * p.input(f"{name}.x{k}", (1, channels, 64, 96)))
        with torch.inference_mode():
            if np.abs(encoder(x)[:, ::16, ::2, ::2].numpy() - want).max() < 0.1:
                return x
    raise AssertionError(f"no input {name}.x0 to x{MAX_INDEX - 1} has the recorded features")


def stat(x):
    x = np.asarray(x.detach() if torch.is_tensor(x) else x, np.float64)
    return np.array([x.mean(), x.std(), np.abs(x).sum()])


def close(got, expected, tolerance):
    got = got.detach() if torch.is_tensor(got) else got
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=tolerance)


def same_stat(got, expected, tolerance):
    """Statistics of the whole tensor: mean and deviation within tolerance, sum relatively."""
    np.testing.assert_allclose(stat(got), expected, rtol=1e-5, atol=tolerance)


def perplexity(codes, count):
    """exp of the entropy of code usage: how many of the `count` codes are in even use."""
    share = torch.bincount(codes.flatten(), minlength=count) / codes.numel()
    return torch.exp(-(share * torch.log(share + 1e-10)).sum())
