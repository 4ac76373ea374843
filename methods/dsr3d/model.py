"""3DSR and DSR in whole: a frozen autoencoder, and the networks trained for a category.

Zavrtanik et al., WACV 2024 and ECCV 2022 (methods/dsr3d/README.md, sections 4 to 8). The general
decoder shows the image as it is, the object's decoder shows it from restricted features, as it
should be; a U-Net compares the two.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.losses import focal
from methods.blocks.maps import gaussian_line, window_mean
from methods.dsr3d import anomalies
from methods.dsr3d.dada import CHANNELS, Autoencoder, init_convolutions
from methods.dsr3d.networks import AnomalyNet, ObjectDecoder, Restriction
from methods.dsr3d.settings import Anomaly, Loss, Pipeline, Score


class Simulated(NamedTuple):
    """A training batch in the space of codes."""

    lo: torch.Tensor  # (B, D, H/8, W/8) with anomalies
    hi: torch.Tensor  # (B, D, H/4, W/4) with anomalies
    clean_lo: torch.Tensor  # (B, D, H/8, W/8)
    clean_hi: torch.Tensor  # (B, D, H/4, W/4)
    target: torch.Tensor  # (B, 1, H, W) in {0, 1}, as blocky as the level's features
    general: torch.Tensor  # (B, C, H, W) image of the anomalous features


class Output(NamedTuple):
    restricted_lo: torch.Tensor  # (B, D, H/8, W/8) F_lo, before quantising
    restricted_hi: torch.Tensor  # (B, D, H/4, W/4) F_hi
    codes_lo: torch.Tensor  # (B, H/8, W/8)
    codes_hi: torch.Tensor  # (B, H/4, W/4)
    object: torch.Tensor  # (B, C, H, W) image of the object, I_S
    general: torch.Tensor  # (B, C, H, W) image as it is, I_G
    logits: torch.Tensor  # (B, 2, H, W), channel 1 = anomaly


class Dsr3dNet(nn.Module):
    """setting "rgb" makes DSR of it, with its upsampling module; see `Autoencoder` for inputs.

    x (B, C, H, W) in [0, 1], H and W divisible by 32.
    """

    def __init__(self, pipeline: Pipeline, setting: str):
        super().__init__()
        s, channels, dim = pipeline, CHANNELS[setting], pipeline.dada.net.dim
        self.detach, self.init_std = s.loss.detach, s.init_std
        self.autoencoder = Autoencoder(s.dada.net, setting).requires_grad_(False)
        self.restrict_lo = Restriction(dim, s.restriction_base)
        self.restrict_hi = Restriction(dim, s.restriction_base)
        self.object_decoder = ObjectDecoder(
            2 * dim,
            channels,
            s.decoder.width,
            s.decoder.bottleneck,
            s.decoder.hidden,
            (s.decoder.residual_layers, s.decoder.residual_hidden),
        )
        self.anomaly_net = AnomalyNet(2 * channels, s.unet_base)
        if setting == "rgb":
            self.upsampler = AnomalyNet(2 * channels + 2, s.upsampler.base)

    def init_weights(self, generator: torch.Generator) -> None:
        """N(0, init_std) for decoder and U-Nets, PyTorch's for the restriction modules."""
        self.autoencoder.init_weights(generator)
        for net in (self.restrict_lo, self.restrict_hi):
            init_convolutions(net, generator, None)
        for net in (self.object_decoder, self.anomaly_net, getattr(self, "upsampler", None)):
            if net is not None:
                init_convolutions(net, generator, self.init_std)

    def train(self, mode: bool = True):
        """The autoencoder stays as it is: its codebooks would follow the data."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def forward(self, x: torch.Tensor) -> Output:
        coded = self.autoencoder(x)
        return self.compare(coded.lo.q, coded.hi.q, coded.recon)

    def compare(self, lo: torch.Tensor, hi: torch.Tensor, general: torch.Tensor) -> Output:
        """From the codes of an image, and the image they give, to where it is anomalous."""
        restricted_lo, restricted_hi = self.restrict_lo(lo), self.restrict_hi(hi)
        q_lo, codes_lo, _ = self.autoencoder.vq_lo(restricted_lo)
        q_hi, codes_hi, _ = self.autoencoder.vq_hi(restricted_hi)
        shown = self.object_decoder(self.autoencoder.upsample(q_lo), q_hi)
        seen = shown.detach() if self.detach else shown
        logits = self.anomaly_net(seen, general)
        return Output(restricted_lo, restricted_hi, codes_lo, codes_hi, shown, general, logits)

    @torch.no_grad()
    def simulate(
        self, x: torch.Tensor, mask: torch.Tensor, draws: anomalies.Draws, s: Anomaly
    ) -> Simulated:
        """Anomalies in the codes of normal images x, where mask (B, 1, H, W) is 1."""
        ae = self.autoencoder
        enc_hi, lo = ae.encode(x)
        hi = ae.quantise_hi(enc_hi, ae.upsample(lo.q))
        mask_lo, mask_hi = (anomalies.shrink(mask, level.q.shape) for level in (lo, hi))
        both, only_hi = (flag.view(-1, 1, 1, 1) for flag in (draws.both, ~draws.both & ~draws.lo))
        # Anomalies that no sample of the batch shows are not made: masks are 0 there.
        at_lo, on_anomalous, on_clean = anomalies.places(
            mask_lo * ~only_hi, mask_hi * both, mask_hi * only_hi
        )
        low = anomalies.generate(
            lo.z, lo.q, ae.vq_lo.codebook, at_lo, draws.strength_lo, draws.low, s
        )
        leaked = ae.quantise_hi(enc_hi, ae.upsample(low))
        high_on_anomalous = anomalies.generate(
            leaked.z,
            leaked.q,
            ae.vq_hi.codebook,
            on_anomalous,
            draws.strength_hi,
            draws.high_on_anomalous,
            s,
        )
        high_on_clean = anomalies.generate(
            hi.z,
            hi.q,
            ae.vq_hi.codebook,
            on_clean,
            draws.strength_hi,
            draws.high_on_clean,
            s,
        )
        high = torch.where(both, high_on_anomalous, high_on_clean)
        target = torch.where(
            only_hi, F.interpolate(mask_hi, scale_factor=4), F.interpolate(mask_lo, scale_factor=8)
        )
        general = ae.decode(ae.upsample(low), high)
        return Simulated(low, high, lo.q, hi.q, target, general)

    def refine(self, output: Output) -> torch.Tensor:
        """DSR's upsampling module: logits (B, 2, H, W) of the final map."""
        probability = output.logits.softmax(dim=1)
        return self.upsampler(output.object, output.general, probability)


def stage2_loss(
    output: Output, simulated: Simulated, x: torch.Tensor, s: Loss
) -> dict[str, torch.Tensor]:
    """Terms of the loss, not yet weighted, and their weighted sum "total". x: the clean image."""
    distance = F.mse_loss if s.feature == "mse" else F.l1_loss
    probability, target = output.logits.float().softmax(dim=1), simulated.target
    terms = {
        "feature_hi": distance(output.restricted_hi.float(), simulated.clean_hi),
        "feature_lo": distance(output.restricted_lo.float(), simulated.clean_lo),
        "image": F.mse_loss(output.object.float(), x),
        "focal": focal(probability, target, s.gamma),
        "mask_l1": (probability - torch.cat([1 - target, target], dim=1)).abs().mean(),
    }
    total = (
        s.feature_weight * (terms["feature_hi"] + terms["feature_lo"])
        + s.image_weight * terms["image"]
        + s.focal_weight * terms["focal"]
        + s.mask_l1_weight * terms["mask_l1"]
    )
    return {**terms, "total": total}


def window_of(s: Score, setting: str) -> int:
    return s.window_px or (11 if setting == "rgb+3d" else 21)


def smooth(maps: torch.Tensor, s: Score, setting: str) -> torch.Tensor:
    """Average maps (B, H, W) over a window, or by a Gaussian, zeros outside -> same shape."""
    if s.smoothing == "mean":
        return window_mean(maps, window_of(s, setting))
    reach = round(4 * s.sigma_px)
    line = gaussian_line(s.sigma_px, reach, maps).view(1, 1, -1, 1)
    rows = F.conv2d(maps[:, None], line, padding=(reach, 0))
    return F.conv2d(rows, line.mT, padding=(0, reach))[:, 0]
