"""SSIM and focal loss as in DRAEM's published code (methods/das3d/README.md, section 7.4)."""

from __future__ import annotations

import torch


def ssim_map(x: torch.Tensor, y: torch.Tensor, window: int = 11, sigma: float = 1.5):
    """Structural similarity of x and y (B, C, H, W) at every pixel; zeros beyond the border.

    The dynamic range is read off x, the reconstruction: its upper end is 255 if x exceeds 128
    anywhere in the batch, else 1; its lower end -1 if x falls below -0.5, else 0. So a bad
    early reconstruction switches the range to 2 (kept for parity).
    """
    upper = torch.where(x.detach().max() > 128, 255.0, 1.0).to(x)
    lower = torch.where(x.detach().min() < -0.5, -1.0, 0.0).to(x)
    c1, c2 = (0.01 * (upper - lower)) ** 2, (0.03 * (upper - lower)) ** 2

    stacked = torch.stack([x, y, x * x, y * y, x * y])
    mu_x, mu_y, xx, yy, xy = _blur(stacked, window, sigma)
    var_x, var_y, cov = xx - mu_x**2, yy - mu_y**2, xy - mu_x * mu_y
    luminance = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    return luminance * (2 * cov + c2) / (var_x + var_y + c2)


def ssim(x: torch.Tensor, y: torch.Tensor, window: int = 11, sigma: float = 1.5) -> torch.Tensor:
    """Mean structural similarity; the loss is 1 - ssim."""
    return ssim_map(x, y, window, sigma).mean()


def _blur(x, window, sigma):
    """Gaussian window of sum 1, same size, zeros outside.

    As products with two banded matrices: conv2d is slow with a single channel, on the CPU
    so much that this blur would take half of the time of a narrow network's training step.
    """
    H, W = x.shape[-2:]
    rows = _band(H, window, sigma, x)  # some 15 small operations, asked for once
    return rows @ x @ (rows if W == H else _band(W, window, sigma, x))


def _band(n, window, sigma, like):
    """(n, n) matrix that smoothes a line of n pixels."""
    pixel = torch.arange(n, device=like.device, dtype=like.dtype)
    offset = pixel[:, None] - pixel
    reach = torch.arange(window, dtype=like.dtype) - window // 2
    total = torch.exp(-(reach**2) / (2 * sigma**2)).sum()  # one number: the host's
    weight = torch.exp(-(offset**2) / (2 * sigma**2)) / total
    return torch.where(offset.abs() <= window // 2, weight, 0)


def focal(
    probability: torch.Tensor,
    target: torch.Tensor,
    gamma: float = 2.0,
    alpha: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Focal loss of softmax outputs.

    probability (B, 2, H, W), target (B, 1, H, W) in {0, 1} -> (); alpha: weights of target 0 and
    1, divided by their sum; None weighs both 1
    """
    one_hot = torch.cat([1 - target, target], dim=1).clamp(1e-5, 1 - 1e-5)
    pt = (one_hot * probability).sum(dim=1) + 1e-5
    loss = -((1 - pt) ** gamma * pt.log())  # (B, H, W)
    if alpha is not None:
        normal, anomalous = (a / sum(alpha) for a in alpha)
        loss = loss * (normal + (anomalous - normal) * target[:, 0])
    return loss.mean()
