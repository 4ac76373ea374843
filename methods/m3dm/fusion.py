"""Score maps of one bank, and the decision over several (paper section 3.4).

Details: methods/m3dm/README.md, sections 6.6 and 6.7.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from sklearn.linear_model import SGDOneClassSVM

from methods.m3dm.settings import Dlf, Score

log = logging.getLogger(__name__)


def smooth_maps(maps: torch.Tensor, s: Score) -> torch.Tensor:
    """(B, H, W) >= 0, blurred as `s.blur` says."""
    if s.blur == "none":
        return maps
    if s.blur == "float":
        return _gaussian(maps, s.blur_px)
    # Published: 8 bits a map, cut and not rounded, and Pillow's three box filters on them.
    top = maps.amax(dim=(1, 2), keepdim=True)
    levels = (maps / top.clamp(min=torch.finfo(maps.dtype).tiny) * 255).to(torch.uint8).cpu()
    blur = ImageFilter.GaussianBlur(s.blur_px)
    blurred = [np.asarray(Image.fromarray(level.numpy()).filter(blur)) for level in levels]
    return torch.from_numpy(np.stack(blurred)).to(maps) / 255 * top


def _gaussian(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = int(4 * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    maps = F.pad(maps[:, None], [radius] * 4, mode="replicate")
    maps = F.conv2d(maps, kernel.view(1, 1, 1, -1))
    return F.conv2d(maps, kernel.view(1, 1, -1, 1))[:, 0]


def upsampled(distances: torch.Tensor, size: int) -> torch.Tensor:
    """Distances (B, grid * grid) -> (B, size, size), bilinear."""
    grid = round(distances.shape[1] ** 0.5)
    maps = distances.view(-1, 1, grid, grid)
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def fit_svm(features: np.ndarray, s: Dlf) -> np.ndarray:
    """Weights (K,) float64 of a linear one-class SVM on non-negative features (N, K).

    Their dot product with a sample is used as it is, larger for anomalies, which needs weights
    that are not negative: every step of the fit adds samples and shrinks.
    """
    features = features.astype(np.float64)
    if s.steps is None:
        svm = SGDOneClassSVM(nu=s.nu, max_iter=s.max_iter, random_state=s.seed)
        svm.fit(features)
    else:
        svm = SGDOneClassSVM(
            nu=s.nu, random_state=s.seed, learning_rate="constant", eta0=s.lr, shuffle=False
        )
        some = np.random.default_rng(s.seed).integers(len(features), size=s.steps)
        svm.partial_fit(features[some])
    weights = svm.coef_.ravel()
    if (weights < 0).any():
        log.warning("svm_weight_negative weights=%s", weights.tolist())
    return weights
