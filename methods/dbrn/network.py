"""DBRN's networks (Bi, Li, Luo, arXiv 2311.06797).

Two networks restore the clean RGB and depth images, at one or several scales; a discriminator
that they share finds what differs. Each scale is a sample of its own to the discriminator
(methods/dbrn/README.md, sections 4 and 6).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks import draem, swin_unet
from methods.blocks.res_unet import ResUnet
from methods.blocks.swin_unet import Drops, SwinUnet
from methods.dbrn import discriminator
from methods.dbrn.discriminator import Discriminator
from methods.dbrn.settings import Settings

BRANCHES = ("rgb", "depth")


class AllDrops(NamedTuple):
    """What a pass drops in each network."""

    rgb: Drops = Drops()
    depth: Drops = Drops()
    disc: Drops = Drops()


class SameImage(NamedTuple):
    """Whose reconstruction to hide from the discriminator, and the image shown twice instead."""

    hide_rgb: torch.Tensor  # (B,) bool
    hide_depth: torch.Tensor  # (B,) bool
    rgb: torch.Tensor  # (B, 3, H, W)
    depth: torch.Tensor  # (B, 1, H, W)


class Output(NamedTuple):
    """S scales; images and logits of scale s and sample b stand at index s * B + b."""

    recon_rgb: list[torch.Tensor] | None  # S of (B, 3, H / 2^s, W / 2^s)
    recon_depth: list[torch.Tensor] | None  # S of (B, 1, H / 2^s, W / 2^s)
    full_rgb: torch.Tensor | None  # (S B, 3, H, W), enlarged
    full_depth: torch.Tensor | None  # (S B, 1, H, W), enlarged
    logits: torch.Tensor  # (S B, 2, H, W), channel 1 = anomaly

    def float(self) -> Output:
        """In float32, for the losses."""
        return Output(
            *(
                [r.float() for r in y] if isinstance(y, list) else y if y is None else y.float()
                for y in self
            )
        )


class DbrnNet(nn.Module):
    """setting "rgb", "3d" or "rgb+3d" says which of recon_rgb and recon_depth there are.

    rgb (B, 3, H, W) in [0, 1] and depth (B, 1, H, W) about in [0.2, 0.8]; the one that the
    setting leaves out is not looked at and can be None.
    """

    def __init__(self, settings: Settings, setting: str = "rgb+3d"):
        super().__init__()
        self.scales, self.detach = 1 + settings.extra_scales, settings.detach_recon
        if "rgb" in setting:
            self.recon_rgb = reconstruction(settings, 3)
        if "3d" in setting:
            self.recon_depth = reconstruction(settings, 1)
        self.disc = Discriminator(settings, setting)

    @property
    def branches(self) -> dict[str, nn.Module]:
        """The reconstruction networks there are, by modality."""
        nets = {name: getattr(self, f"recon_{name}", None) for name in BRANCHES}
        return {name: net for name, net in nets.items() if net is not None}

    def forward(
        self,
        rgb: torch.Tensor | None,
        depth: torch.Tensor | None,
        drops: AllDrops = AllDrops(),
        same: SameImage | None = None,
    ) -> Output:
        originals, recon = {"rgb": rgb, "depth": depth}, dict.fromkeys(BRANCHES)
        full, pairs = dict.fromkeys(BRANCHES), dict.fromkeys(BRANCHES, (None, None))
        for name, net in self.branches.items():
            original = originals[name]
            recon[name] = net(original, getattr(drops, name))
            full[name] = torch.cat([enlarged(r, original.shape[-2:]) for r in recon[name]])
            pair = (self._repeated(original), full[name].detach() if self.detach else full[name])
            if same is not None:
                hide = self._repeated(getattr(same, f"hide_{name}"))[:, None, None, None]
                image = self._repeated(getattr(same, name))
                pair = tuple(torch.where(hide, image, x) for x in pair)
            pairs[name] = pair
        logits = self.disc(*pairs["rgb"], *pairs["depth"], drops.disc)
        return Output(*recon.values(), *full.values(), logits)

    def anomaly_map(self, rgb, depth, drops: AllDrops = AllDrops()) -> torch.Tensor:
        """Probability of an anomaly, mean over the scales (B, H, W)."""
        return self.mean_map(self(rgb, depth, drops).logits)

    def mean_map(self, logits: torch.Tensor) -> torch.Tensor:
        probability = logits.float().softmax(dim=1)[:, 1]  # (S B, H, W)
        return probability.unflatten(0, (self.scales, -1)).mean(dim=0)

    def _repeated(self, x):
        return x.repeat(self.scales, *[1] * (x.ndim - 1))


def reconstruction(s: Settings, channels: int) -> nn.Module:
    """The network that restores images of `channels` channels."""
    if s.recon.net == "res_unet":
        return ResUnet(s.prep.size, channels, channels, s.recon.width, s.extra_scales)
    return SwinUnet(
        s.prep.size,
        channels,
        channels,
        s.swin.width,
        s.swin.depths,
        s.swin.heads,
        s.swin.window,
        s.swin.mlp_ratio,
        s.swin.path_rate,
        s.extra_scales,
    )


def enlarged(images: torch.Tensor, size) -> torch.Tensor:
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def init_weights(
    net: DbrnNet, generator: torch.Generator, std: float, start_level: float | None = None
) -> None:
    """Each network's own initialisation, in place; the Res-UNet's is DRAEM's (inferred).

    std: of the linear weights of Swin-Unets; start_level: of the images that fresh ones put out
    """
    for recon in net.branches.values():
        if isinstance(recon, SwinUnet):
            swin_unet.init_weights(recon, generator, std)
            if start_level is not None:
                swin_unet.start_flat(recon, start_level)
        else:
            draem.init_weights(recon, generator)
    discriminator.init_weights(net.disc, generator, std)
