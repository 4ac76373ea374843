"""The networks that 3DSR and DSR train for a category (methods/dsr3d/README.md, section 4).

Convolutions are 3 x 3 with bias, followed by instance normalisation without parameters and a
ReLU. Images are (B, C, H, W), features (B, D, H/4, W/4) or (B, D, H/8, W/8).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from methods.dsr3d.dada import ImageDecoder


class InstanceNorm(nn.Module):
    """nn.InstanceNorm2d without parameters, by PyTorch's faster code for groups of one channel."""

    def forward(self, x):
        return F.group_norm(x, x.shape[1])

    @staticmethod
    def memory_format(device: torch.device) -> torch.memory_format:
        """How images best lie in memory around it.

        On a CPU as is fastest for convolutions. CUDA's group norm takes contiguous ones alone: any
        other is copied at each norm, and back for the next convolution.
        """
        return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def conv(a: int, b: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(a, b, 3, padding=1), InstanceNorm(), nn.ReLU(inplace=True)


def block(a: int, b: int, c: int) -> nn.Sequential:
    return nn.Sequential(*conv(a, b), *conv(b, c))


def up(a: int, b: int) -> nn.Sequential:
    double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(double, *conv(a, b))


class Restriction(nn.Module):
    """Features of an object with anomalies -> without: (B, D, h, w) -> same, h and w over 4.

    An autoencoder without skips, so that anomalies cannot pass. Not yet quantised.
    """

    def __init__(self, dim: int, base: int):
        super().__init__()
        self.block1 = block(dim, base, base)
        self.block2 = block(base, 2 * base, 2 * base)
        self.block3 = block(2 * base, 4 * base, 4 * base)
        self.pool = nn.MaxPool2d(2)
        self.up2 = up(4 * base, 2 * base)
        self.db2 = block(2 * base, 2 * base, 2 * base)
        self.up3 = up(2 * base, base)
        self.db3 = block(base, base, base)
        self.fin_out = nn.Sequential(nn.Conv2d(base, dim, 3, padding=1))

    def forward(self, q):
        x = self.bottleneck(q)  # (B, 4b, h/4, w/4)
        x = self.db2(self.up2(x))  # (B, 2b, h/2, w/2)
        return self.fin_out(self.db3(self.up3(x)))

    def bottleneck(self, q):
        return self.block3(self.pool(self.block2(self.pool(self.block1(q)))))


class ObjectDecoder(ImageDecoder):
    """Restricted features of both levels -> the object without anomalies (B, C, H, W).

    upsampled and q_hi (B, D, H/4, W/4), concatenated as they are. Its residual blocks skip
    relu(x): the published ones work in place.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        width: int,
        bottleneck: int,
        hidden: int,
        residual: tuple[int, int],
    ):
        super().__init__(bottleneck, channels, hidden, (*residual, True))
        self.block1 = block(in_channels, width, 2 * width)
        self.block2 = block(2 * width, 2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = nn.Conv2d(4 * width, bottleneck, 1)
        self.enlarge_1 = nn.ConvTranspose2d(bottleneck, bottleneck, 4, stride=2, padding=1)
        self.enlarge_2 = nn.ConvTranspose2d(bottleneck, bottleneck, 4, stride=2, padding=1)

    def forward(self, upsampled, q_hi):
        x = self.block1(torch.cat([upsampled, q_hi], dim=1))  # (B, 2w, H/4, W/4)
        x = self.block2(self.pool(x))  # (B, 4w, H/8, W/8)
        x = self.bottleneck(self.pool(x))  # (B, b, H/16, W/16)
        x = F.relu(self.enlarge_2(F.relu(self.enlarge_1(x))))  # (B, b, H/4, W/4)
        return super().forward(x)


class AnomalyNet(nn.Module):
    """U-Net: images (B, C, H, W), sides over 8 -> logits (B, 2, H, W), channel 1 = anomaly."""

    def __init__(self, in_channels: int, base: int):
        super().__init__()
        self.block1 = block(in_channels, base, base)
        self.block2 = block(base, 2 * base, 2 * base)
        self.block3 = block(2 * base, 4 * base, 4 * base)
        self.block4 = block(4 * base, 4 * base, 4 * base)
        self.pool = nn.MaxPool2d(2)
        self.up1 = up(4 * base, 4 * base)
        self.db1 = block(8 * base, 4 * base, 4 * base)
        self.up2 = up(4 * base, 2 * base)
        self.db2 = block(4 * base, 2 * base, 2 * base)
        self.up3 = up(2 * base, base)
        self.db3 = block(2 * base, base, base)
        self.fin_out = nn.Sequential(nn.Conv2d(base, 2, 3, padding=1))

    def forward(self, *images):
        b1 = self.block1(torch.cat(images, dim=1))  # (B, b, H, W)
        b2 = self.block2(self.pool(b1))  # (B, 2b, H/2, W/2)
        b3 = self.block3(self.pool(b2))  # (B, 4b, H/4, W/4)
        b4 = self.block4(self.pool(b3))  # (B, 4b, H/8, W/8)
        x = self.db1(torch.cat([self.up1(b4), b3], dim=1))  # (B, 4b, H/4, W/4)
        x = self.db2(torch.cat([self.up2(x), b2], dim=1))  # (B, 2b, H/2, W/2)
        return self.fin_out(self.db3(torch.cat([self.up3(x), b1], dim=1)))
