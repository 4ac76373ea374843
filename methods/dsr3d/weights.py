"""The authors' checkpoints: their keys for our names, and a strict report of what does not fit.

All are plain state dicts (methods/dsr3d/README.md, section 11): DADA_RGB_D.pckl, DADA_D.pckl and
DSR's vq_model_pretrained_128_4096.pckl for the autoencoder, and four files a category of stage 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.weights import (
    Fit,
    fit,
    load,
    read_checkpoint,
    require_tensors,
)
from methods.dsr3d.dada import Autoencoder
from methods.dsr3d.settings import Dada

# Theirs -> ours, applied in this order to every key of any of the networks.
RENAMED = (
    (r"^_encoder_t\.", "encoder_lo."),
    (r"^_encoder_b\.", "encoder_hi."),
    (r"^_pre_vq_conv_top\.", "pre_vq_lo."),
    (r"^_pre_vq_conv_bot\.(_pre_vq_conv_bot\.)?", "pre_vq_hi."),
    (r"^_vq_vae_top\.", "vq_lo."),
    (r"^_vq_vae_bot\.", "vq_hi."),
    (r"^_decoder_b\.", "decoder."),
    (r"^upsample_t\.", "upsample."),
    (r"_embedding\.weight$", "codebook"),
    (r"_ema_w$", "ema_sum"),
    (r"_ema_cluster_size$", "ema_count"),
    (r"_residual_stack\._layers\.(\d+)\._block\.1\.", r"residuals.\1.conv_1."),
    (r"_residual_stack\._layers\.(\d+)\._block\.3\.", r"residuals.\1.conv_2."),
    (r"_conv_trans_(\d)\.", r"up_\1."),
    (r"input_conv_(depth|rgb)\.", r"conv_\1."),
    (r"_conv_out_(depth|rgb)\.", r"out_\1."),
    (r"(^|\.)_conv_(\d)\.", r"\1conv_\2."),
    (r"^unet\.(encoder|decoder)\.", ""),  # restriction, segmentation, upsampling
    (r"^pre_vq_conv\.", "bottleneck."),  # object decoder, from here on
    (r"^upblock(\d)\.", r"enlarge_\1."),
)


def ours(key: str) -> str:
    """Our name for an entry of a published checkpoint."""
    for pattern, replacement in RENAMED:
        key = re.sub(pattern, replacement, key)
    return key


def compare(state: Mapping[str, torch.Tensor], net: nn.Module) -> Fit:
    """How the authors' `state` fits `net`; loads nothing."""
    return fit({ours(key): (key, value) for key, value in state.items()}, net)


def load_authors(
    net: nn.Module, state: Mapping[str, torch.Tensor], source: object = "the checkpoint"
) -> None:
    """Fill `net` with `state`, under the authors' keys or ours; WeightsError unless all fits."""
    load(net, compare(state, net), source)


def read(path: Path) -> dict[str, torch.Tensor]:
    """A checkpoint file as published."""
    return require_tensors(read_checkpoint(path), path)


def published_dada(dada: Dada, setting: str) -> Callable[[Path], Fit]:
    """A published autoencoder: its file -> how it fits the one of these settings."""
    return lambda path: compare(read(path), Autoencoder(dada.net, setting))


@torch.inference_mode()
def errors_by_skip(autoencoder: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Reconstruction error of x for either residual skip: the smaller tells how it was trained.

    The released definition of DADA skips the input, DSR's its ReLU, and nobody has said which
    of the published files were trained with which code.
    """
    blocks = [m for m in autoencoder.modules() if hasattr(m, "relu_skip")]
    before, errors = [b.relu_skip for b in blocks], {}
    try:
        for name, relu_skip in (("input", False), ("relu", True)):
            for b in blocks:
                b.relu_skip = relu_skip
            errors[name] = float(F.mse_loss(autoencoder(x).recon, x))
    finally:
        for b, skip in zip(blocks, before):
            b.relu_skip = skip
    return errors
