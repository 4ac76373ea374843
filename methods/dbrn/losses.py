"""DBRN's losses: weighted reconstruction and focal (methods/dbrn/README.md, sections 5 and 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from methods.blocks.losses import focal, ssim
from methods.blocks.transfer import constant
from methods.dbrn.network import Output, enlarged
from methods.dbrn.settings import Settings


def reconstruction_terms(
    image: torch.Tensor,
    recon: torch.Tensor,
    foreground: torch.Tensor,
    mask: torch.Tensor,
    reduction: str = "common",
) -> torch.Tensor:
    """Squared error on background, foreground and mask, and 1 - SSIM: (4,), not yet weighted.

    image, recon (B, C, H, W), foreground and mask (B, 1, H, W) in {0, 1}. Masked pixels are in
    the third set only. reduction "common": divided by the number of all values; "subset": by
    that of the set's.
    """
    sets = torch.stack([(1 - foreground) * (1 - mask), foreground * (1 - mask), mask])
    error = (image - recon).square().sum(dim=1, keepdim=True)  # (B, 1, H, W)
    sums = (sets * error).sum(dim=(1, 2, 3, 4))
    if reduction == "common":
        means = sums / image.numel()
    else:
        means = sums / (image.shape[1] * sets.sum(dim=(1, 2, 3, 4)).clamp(min=1))
    return torch.cat([means, (1 - ssim(recon, image))[None]])


def reconstruction_loss(
    image: torch.Tensor,
    recons: list[torch.Tensor],
    foreground: torch.Tensor,
    mask: torch.Tensor,
    weights: tuple[float, ...],
    reduction: str = "common",
    ms: str = "enlarged",
) -> torch.Tensor:
    """L_rec (equation 2) of the images at all scales, recons[s] (B, C, H / 2^s, W / 2^s).

    ms "enlarged": every scale at full size, mean over scales; "sum": their sum; "native": at its
    own size, against the averaged image, mean over scales.
    """
    weights = constant(weights, image)
    losses = []
    for recon in recons:
        target, fg, m = image, foreground, mask
        if ms == "native":
            target = F.adaptive_avg_pool2d(image, recon.shape[-2:])
            fg, m = (F.interpolate(x, recon.shape[-2:]) for x in (foreground, mask))
        else:
            recon = enlarged(recon, image.shape[-2:])
        losses.append(reconstruction_terms(target, recon, fg, m, reduction) @ weights)
    total = torch.stack(losses)
    return total.sum() if ms == "sum" else total.mean()


def dbrn_loss(
    output: Output,
    rgb: torch.Tensor,
    depth: torch.Tensor,
    foreground: torch.Tensor,
    mask: torch.Tensor,
    s: Settings,
) -> dict[str, torch.Tensor]:
    """Terms of the loss, and their weighted sum "total" (equation 5).

    rgb (B, 3, H, W) and depth (B, 1, H, W) are the clean images; foreground and mask
    (B, 1, H, W) in {0, 1}.
    """
    terms = {}
    for name, image, recons in (
        ("rgb", rgb, output.recon_rgb),
        ("depth", depth, output.recon_depth),
    ):
        if recons is not None:
            terms[name] = reconstruction_loss(
                image, recons, foreground, mask, s.loss.weights, s.loss.reduction, s.loss.ms
            )
    probability = output.logits.softmax(dim=1)  # (S B, 2, H, W)
    by_scale = probability.unflatten(0, (-1, len(mask)))
    if s.loss.focal_on == "mean":
        terms["focal"] = focal(by_scale.mean(dim=0), mask, s.focal.gamma, s.focal.alpha)
    else:
        repeated = mask.repeat(len(by_scale), 1, 1, 1)
        terms["focal"] = focal(probability, repeated, s.focal.gamma, s.focal.alpha)
    total = sum(getattr(s.loss, f"w_{name}") * term for name, term in terms.items())
    return {**terms, "total": total}
