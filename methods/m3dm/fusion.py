"""Score maps of one bank, and the decision over several (paper section 3.4).

Details: methods/m3dm/README.md, sections 6.6 and 6.7.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import SGDOneClassSVM

from methods.blocks.maps import blurred_in_levels, gaussian_line
from methods.m3dm.settings import Dlf, Score

log = logging.getLogger(__name__)


def smooth_maps(maps: torch.Tensor, s: Score) -> torch.Tensor:
    """(B, H, W) >= 0, blurred as `s.blur` says."""
    if s.blur == "none":
        return maps
    if s.blur == "float":
        return _gaussian(maps, s.blur_px)
    return blurred_in_levels(maps, s.blur_px)  # published


def _gaussian(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blurred in floats, the border repeated outside."""
    radius = int(4 * sigma + 0.5)
    kernel = gaussian_line(sigma, radius, maps)
    maps = F.pad(maps[:, None], [radius] * 4, mode="replicate")
    maps = F.conv2d(maps, kernel.view(1, 1, 1, -1))
    return F.conv2d(maps, kernel.view(1, 1, -1, 1))[:, 0]


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
