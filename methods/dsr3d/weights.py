"""The authors' checkpoints: their keys for our names, and a strict report of what does not fit.

All are plain state dicts (specs/3dsr.md, section 7): DADA_RGB_D.pckl, DADA_D.pckl and DSR's
vq_model_pretrained_128_4096.pckl for the autoencoder, and four files a category of stage 2.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

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
    (r"^unet\.(encoder|decoder)\.", ""),                  # restriction, segmentation, upsampling
    (r"^pre_vq_conv\.", "bottleneck."),                   # object decoder, from here on
    (r"^upblock(\d)\.", r"enlarge_\1."),
)


class WeightsError(ValueError):
    """A checkpoint that does not fit the network it is meant for."""


@dataclass(frozen=True)
class Report:
    """How a checkpoint fits a network; keys are the checkpoint's where it has them, else ours."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    differing: tuple[str, ...]       # "key: shape in the file, shape wanted"

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.differing)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} entries fit"]
        for name in ("missing", "unexpected", "differing"):
            if keys := getattr(self, name):
                parts.append(f"{len(keys)} {name}: {'; '.join(keys)}")
        return ", ".join(parts)


def ours(key: str) -> str:
    """Our name for an entry of a published checkpoint."""
    for pattern, replacement in RENAMED:
        key = re.sub(pattern, replacement, key)
    return key


def compare(state: Mapping[str, torch.Tensor], net: nn.Module) -> Report:
    """How the authors' `state` fits `net`; loads nothing."""
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    found = {ours(key): (key, tuple(value.shape)) for key, value in state.items()}
    both = [key for key in found if key in wanted]
    return Report(
        loaded=tuple(found[k][0] for k in both if found[k][1] == wanted[k]),
        missing=tuple(key for key in wanted if key not in found),
        unexpected=tuple(found[key][0] for key in found if key not in wanted),
        differing=tuple(
            f"{found[k][0]}: {found[k][1]} in the file, {wanted[k]} wanted"
            for k in both if found[k][1] != wanted[k]
        ),
    )  # fmt: skip


def load_authors(
    net: nn.Module, state: Mapping[str, torch.Tensor], source: object = "these weights"
) -> Report:
    """Fill `net` with the authors' `state`; WeightsError unless every entry has its place."""
    report = compare(state, net)
    if not report.fits:
        raise WeightsError(
            f"{source} does not fit the {type(net).__name__} of these settings: {report}; check "
            "that file, setting (rgb, 3d, rgb+3d) and the settings' widths belong together"
        )
    net.load_state_dict({ours(key): value for key, value in state.items()})
    return report


def read(path: Path | str) -> dict[str, torch.Tensor]:
    """A checkpoint file as published. Nothing in it is executed."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is no file; the weights of DADA are in the folder 'checkpoints' of the "
            "authors' repository VitjanZ/3DSR (DADA_RGB_D.pckl, DADA_D.pckl)"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is no PyTorch checkpoint: {error}".splitlines()[0]) from error
    if not isinstance(state, Mapping) or not all(torch.is_tensor(v) for v in state.values()):
        raise WeightsError(f"{path} holds a {type(state).__name__}; expected a plain state dict")
    return dict(state)


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
