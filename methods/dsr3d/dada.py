"""DADA, the depth-aware discrete autoencoder, and its ungrouped relatives.

Zavrtanik et al., WACV 2024 (methods/dsr3d/README.md, sections 2 and 8). Images become two maps of
code vectors, at an eighth ("lo") and a quarter ("hi") of their size. For RGB+D every
convolution has two groups, so that depth and colour meet in the quantisers only; the first half
of the channels is depth. With other inputs, in the ablation "vqvae" and in DSR there are no
groups. Tensors are (B, C, H, W), H and W divisible by 8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.quantiser import Quantiser
from methods.dsr3d.settings import DadaNet

CHANNELS = {"rgb": 3, "3d": 1, "rgb+3d": 4}  # depth first


class Residual(nn.Module):
    """y = x + W2(relu(W1(relu(x)))); with relu_skip y = relu(x) + ..., an in-place ReLU's doing."""

    def __init__(self, channels: int, hidden: int, groups: int, relu_skip: bool):
        super().__init__()
        self.relu_skip = relu_skip
        self.conv_1 = nn.Conv2d(channels, hidden, 3, padding=1, bias=False, groups=groups)
        self.conv_2 = nn.Conv2d(hidden, channels, 1, bias=False, groups=groups)

    def forward(self, x):
        positive = F.relu(x)
        return (positive if self.relu_skip else x) + self.conv_2(F.relu(self.conv_1(positive)))


class ResidualStack(nn.Sequential):
    def __init__(self, layers: int, *args):
        super().__init__(*(Residual(*args) for _ in range(layers)))

    def forward(self, x):
        return F.relu(super().forward(x))


class EncoderHi(nn.Module):
    """Image (B, C, H, W) -> (B, hidden, H/4, W/4)."""

    def __init__(self, channels: int, hidden: int, residual: tuple, groups: int):
        super().__init__()
        self.groups = groups
        if groups == 2:
            self.conv_depth = nn.Conv2d(1, hidden // 4, 1)
            self.conv_rgb = nn.Conv2d(3, hidden // 4, 1)
            channels = hidden // 2
        half = hidden // 2
        self.conv_1 = nn.Conv2d(channels, half, 4, stride=2, padding=1, groups=groups)
        self.conv_2 = nn.Conv2d(half, hidden, 4, stride=2, padding=1, groups=groups)
        self.conv_3 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups)
        self.residuals = ResidualStack(*residual)

    def forward(self, x):
        if self.groups == 2:
            depth, rgb = x.split([1, 3], dim=1)
            x = F.relu(torch.cat([self.conv_depth(depth), self.conv_rgb(rgb)], dim=1))
        x = F.relu(self.conv_1(x))  # (B, h/2, H/2, W/2)
        x = F.relu(self.conv_2(x))  # (B, h, H/4, W/4)
        return self.residuals(self.conv_3(x))


class EncoderLo(nn.Module):
    """(B, hidden, H/4, W/4) -> (B, hidden, H/8, W/8)."""

    def __init__(self, hidden: int, residual: tuple, groups: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(hidden, hidden, 4, stride=2, padding=1, groups=groups)
        self.conv_2 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups)
        self.residuals = ResidualStack(*residual)

    def forward(self, x):
        return self.residuals(F.relu(self.conv_2(F.relu(self.conv_1(x)))))


class ImageDecoder(nn.Module):
    """Features (B, in_channels, H/4, W/4) -> image (B, C, H, W), not clamped.

    residual: layers, hidden channels and relu_skip. With two groups depth and colour end in
    convolutions of their own.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        hidden: int,
        residual: tuple[int, int, bool],
        groups: int = 1,
    ):
        super().__init__()
        self.groups = groups
        layers, residual_hidden, relu_skip = residual
        half = hidden // 2
        last = channels if groups == 1 else hidden // 4
        self.conv_1 = nn.Conv2d(in_channels, hidden, 3, padding=1, groups=groups)
        self.residuals = ResidualStack(layers, hidden, residual_hidden, groups, relu_skip)
        self.up_1 = nn.ConvTranspose2d(hidden, half, 4, stride=2, padding=1, groups=groups)
        self.up_2 = nn.ConvTranspose2d(half, last, 4, stride=2, padding=1, groups=groups)
        if groups == 2:
            self.out_depth = nn.Conv2d(last // 2, 1, 1)
            self.out_rgb = nn.Conv2d(last // 2, 3, 1)

    def forward(self, x):
        x = self.residuals(self.conv_1(x))  # (B, h, H/4, W/4)
        x = self.up_2(F.relu(self.up_1(x)))  # (B, ., H, W)
        if self.groups == 1:
            return x
        depth, rgb = x.chunk(2, dim=1)
        return torch.cat([self.out_depth(depth), self.out_rgb(rgb)], dim=1)


class Features(NamedTuple):
    """What quantising one level gave."""

    z: torch.Tensor  # (B, D, h, w) before
    q: torch.Tensor  # (B, D, h, w) after
    codes: torch.Tensor  # (B, h, w)
    loss: torch.Tensor  # ()


class Coded(NamedTuple):
    recon: torch.Tensor  # (B, C, H, W)
    lo: Features
    hi: Features


class Autoencoder(nn.Module):
    """setting "rgb+3d" takes [depth, R, G, B], "3d" depth alone, "rgb" three colours.

    Grouped where the settings say so and both modalities are there.
    """

    def __init__(self, settings: DadaNet, setting: str):
        super().__init__()
        s, channels = settings, CHANNELS[setting]
        self.init_std = s.init_std
        self.groups = g = 2 if s.grouped and setting == "rgb+3d" else 1
        relu_skip = s.residual_skip == "relu"
        residual = (s.residual_layers, s.hidden, s.residual_hidden, g, relu_skip)
        self.encoder_hi = EncoderHi(channels, s.hidden, residual, g)
        self.encoder_lo = EncoderLo(s.hidden, residual, g)
        self.pre_vq_lo = nn.Conv2d(s.hidden, s.dim, 1, groups=g)
        self.vq_lo = self._quantiser(s)
        self.upsample = nn.ConvTranspose2d(s.dim, s.dim, 4, stride=2, padding=1, groups=g)
        self.pre_vq_hi = nn.Conv2d(s.hidden + s.dim, s.dim, 1, groups=g)
        self.vq_hi = self._quantiser(s)
        self.decoder = ImageDecoder(
            2 * s.dim, channels, s.hidden, (s.residual_layers, s.residual_hidden, relu_skip), g
        )

    @staticmethod
    def _quantiser(s: DadaNet) -> Quantiser:
        return Quantiser(
            s.codes, s.dim, s.commitment, s.decay, s.epsilon, s.codebook, s.restart_below
        )

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Convolutions N(0, init_std), their biases as PyTorch does (section 2)."""
        init_convolutions(self, generator, self.init_std)
        self.vq_lo.init_weights(generator)
        self.vq_hi.init_weights(generator)

    def forward(self, x: torch.Tensor) -> Coded:
        enc_hi, lo = self.encode(x)
        upsampled = self.upsample(lo.q)
        hi = self.quantise_hi(enc_hi, upsampled)
        return Coded(self.decode(upsampled, hi.q), lo, hi)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, Features]:
        """enc_hi (B, hidden, H/4, W/4) and the low level (B, D, H/8, W/8)."""
        enc_hi = self.encoder_hi(x)
        z = self.pre_vq_lo(self.encoder_lo(enc_hi))
        return enc_hi, Features(z, *self.vq_lo(z))

    def quantise_hi(self, enc_hi: torch.Tensor, upsampled: torch.Tensor) -> Features:
        """The high level (B, D, H/4, W/4), given the low one after `upsample`."""
        z = self.pre_vq_hi(self._join(enc_hi, upsampled))
        return Features(z, *self.vq_hi(z))

    def decode(self, upsampled: torch.Tensor, q_hi: torch.Tensor) -> torch.Tensor:
        return self.decoder(self._join(upsampled, q_hi))

    def _join(self, a, b):
        """Concatenate, the depth halves of both before their colour halves."""
        if self.groups == 1:
            return torch.cat([a, b], dim=1)
        (a_depth, a_rgb), (b_depth, b_rgb) = a.chunk(2, dim=1), b.chunk(2, dim=1)
        return torch.cat([a_depth, b_depth, a_rgb, b_rgb], dim=1)


@torch.no_grad()
def init_convolutions(net: nn.Module, generator: torch.Generator, std: float | None) -> None:
    """Weights N(0, std), or as PyTorch does where std is None; biases always as PyTorch does.

    PyTorch: uniform within 1 / sqrt(fan_in), from the generator given here.
    """
    for module in net.modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        reach = module.weight[0].numel() ** -0.5  # PyTorch's fan_in, transposed or not
        if std is None:
            module.weight.uniform_(-reach, reach, generator=generator)
        else:
            module.weight.normal_(0, std, generator=generator)
        if module.bias is not None:
            module.bias.uniform_(-reach, reach, generator=generator)
