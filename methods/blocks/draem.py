"""The two networks of DRAEM (Zavrtanik et al., ICCV 2021).

methods/das3d/README.md, section 7.3. Names of attributes give the keys of the authors'
checkpoints. Convolutions are 3 x 3 with bias.
"""

from __future__ import annotations

import torch
from torch import nn

from methods.blocks.maps import window_mean


def block(a: int, b: int, c: int) -> nn.Sequential:
    """(Conv, BatchNorm, ReLU) twice, a -> b -> c channels."""
    return nn.Sequential(
        nn.Conv2d(a, b, 3, padding=1),
        nn.BatchNorm2d(b),
        nn.ReLU(inplace=True),
        nn.Conv2d(b, c, 3, padding=1),
        nn.BatchNorm2d(c),
        nn.ReLU(inplace=True),
    )


def up(a: int, b: int) -> nn.Sequential:
    """Double the size, then Conv, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        nn.Conv2d(a, b, 3, padding=1),
        nn.BatchNorm2d(b),
        nn.ReLU(inplace=True),
    )


class ReconstructiveEncoder(nn.Module):
    def __init__(self, channels: int, w: int):
        super().__init__()
        self.block1 = block(channels, w, w)
        self.block2 = block(w, 2 * w, 2 * w)
        self.block3 = block(2 * w, 4 * w, 4 * w)
        self.block4 = block(4 * w, 8 * w, 8 * w)
        self.block5 = block(8 * w, 8 * w, 8 * w)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        b1 = self.block1(x)  # (B, w, H, W)
        b2 = self.block2(self.pool(b1))  # (B, 2w, H/2, W/2)
        b3 = self.block3(self.pool(b2))  # (B, 4w, H/4, W/4)
        b4 = self.block4(self.pool(b3))  # (B, 8w, H/8, W/8)
        b5 = self.block5(self.pool(b4))  # (B, 8w, H/16, W/16)
        return b1, b2, b3, b4, b5


class ReconstructiveDecoder(nn.Module):
    def __init__(self, channels: int, w: int, skips: bool):
        super().__init__()
        self.skips = skips
        k = 2 if skips else 1  # a skip doubles what its block takes in
        self.up1 = up(8 * w, 8 * w)
        self.db1 = block(k * 8 * w, 8 * w, 4 * w)
        self.up2 = up(4 * w, 4 * w)
        self.db2 = block(k * 4 * w, 4 * w, 2 * w)
        self.up3 = up(2 * w, 2 * w)
        self.db3 = block(k * 2 * w, 2 * w, w)
        self.up4 = up(w, w)
        self.db4 = block(k * w, w, w)
        self.fin_out = nn.Sequential(nn.Conv2d(w, channels, 3, padding=1))

    def forward(self, b1, b2, b3, b4, b5):
        db1 = self.db1(self._join(self.up1(b5), b4))  # (B, 4w, H/8, W/8)
        db2 = self.db2(self._join(self.up2(db1), b3))  # (B, 2w, H/4, W/4)
        db3 = self.db3(self._join(self.up3(db2), b2))  # (B, w, H/2, W/2)
        db4 = self.db4(self._join(self.up4(db3), b1))  # (B, w, H, W)
        return db3, db4, self.fin_out(db4)

    def _join(self, upsampled, skip):
        return torch.cat([upsampled, skip], dim=1) if self.skips else upsampled


class Reconstructive(nn.Module):
    """Autoencoder without skips (`skips=True` makes a U-Net of it) and without output activation.

    x (B, in_channels, H, W), sides divisible by 16 -> reconstruction (B, out_channels, H, W)
    """

    def __init__(self, in_channels=3, out_channels=3, width: int = 128, skips: bool = False):
        super().__init__()
        self.encoder = ReconstructiveEncoder(in_channels, width)
        self.decoder = ReconstructiveDecoder(out_channels, width, skips)

    def forward(self, x):
        return self.features(x)["out"]

    def features(self, x) -> dict[str, torch.Tensor]:
        """b1 (B, w, H, W), b2 (B, 2w, H/2, W/2), db3 (B, w, H/2, W/2), db4 (B, w, H, W), out."""
        b1, b2, *deeper = self.encoder(x)
        db3, db4, out = self.decoder(b1, b2, *deeper)
        return {"b1": b1, "b2": b2, "db3": db3, "db4": db4, "out": out}


class DiscriminativeEncoder(nn.Module):
    def __init__(self, channels: int, c: int):
        super().__init__()
        self.block1 = block(channels, c, c)
        self.block2 = block(c, 2 * c, 2 * c)
        self.block3 = block(2 * c, 4 * c, 4 * c)
        self.block4 = block(4 * c, 8 * c, 8 * c)
        self.block5 = block(8 * c, 8 * c, 8 * c)
        self.block6 = block(8 * c, 8 * c, 8 * c)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        b1 = self.block1(x)  # (B, c, H, W)
        b2 = self.block2(self.pool(b1))  # (B, 2c, H/2, W/2)
        b3 = self.block3(self.pool(b2))  # (B, 4c, H/4, W/4)
        b4 = self.block4(self.pool(b3))  # (B, 8c, H/8, W/8)
        b5 = self.block5(self.pool(b4))  # (B, 8c, H/16, W/16)
        b6 = self.block6(self.pool(b5))  # (B, 8c, H/32, W/32)
        return b1, b2, b3, b4, b5, b6


class DiscriminativeDecoder(nn.Module):
    def __init__(self, channels: int, c: int):
        super().__init__()
        self.up_b = up(8 * c, 8 * c)
        self.db_b = block(16 * c, 8 * c, 8 * c)
        self.up1 = up(8 * c, 4 * c)
        self.db1 = block(12 * c, 4 * c, 4 * c)
        self.up2 = up(4 * c, 2 * c)
        self.db2 = block(6 * c, 2 * c, 2 * c)
        self.up3 = up(2 * c, c)
        self.db3 = block(3 * c, c, c)
        self.up4 = up(c, c)
        self.db4 = block(2 * c, c, c)
        self.fin_out = nn.Sequential(nn.Conv2d(c, channels, 3, padding=1))

    def forward(self, b1, b2, b3, b4, b5, b6):
        x = self.db_b(torch.cat([self.up_b(b6), b5], dim=1))  # (B, 8c, H/16, W/16)
        x = self.db1(torch.cat([self.up1(x), b4], dim=1))  # (B, 4c, H/8, W/8)
        x = self.db2(torch.cat([self.up2(x), b3], dim=1))  # (B, 2c, H/4, W/4)
        x = self.db3(torch.cat([self.up3(x), b2], dim=1))  # (B, c, H/2, W/2)
        x = self.db4(torch.cat([self.up4(x), b1], dim=1))  # (B, c, H, W)
        return self.fin_out(x)


class Discriminative(nn.Module):
    """U-Net: x (B, in_channels, H, W), sides divisible by 32 -> logits (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int = 2, base: int = 64):
        super().__init__()
        self.encoder_segment = DiscriminativeEncoder(in_channels, base)
        self.decoder_segment = DiscriminativeDecoder(out_channels, base)

    def forward(self, x):
        return self.decoder_segment(*self.encoder_segment(x))


@torch.no_grad()
def init_weights(net: nn.Module, generator: torch.Generator) -> None:
    """DRAEM's initialisation, in place: conv N(0, 0.02), BatchNorm N(1, 0.02), biases 0."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            mean = 0.0 if isinstance(module, nn.Conv2d) else 1.0
            module.weight.normal_(mean, 0.02, generator=generator)
            module.bias.zero_()


def image_score(maps: torch.Tensor, window: int) -> torch.Tensor:
    """Maximum of maps (B, H, W) after averaging over window x window px (zeros outside) -> (B,)."""
    return window_mean(maps, window).amax(dim=(1, 2))
