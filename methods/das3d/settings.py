"""Every constant of DAS3D, its unit and where it comes from.

Sources: "paper" = printed in arXiv 2410.09821; "DRAEM", "EasyNet" = published code it builds
on; "inferred" = ours, with the reasons in methods/das3d/README.md, section 9. Sections are
those of that file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from methods.blocks.settings import TURN_DEG, choose, divisible, odd, rising, within
from methods.blocks.texture_choice import SOURCES
from methods.views import Das3dView

FEATURES = ("b1", "b2", "db3", "db4", "out")
ALPHA = 100.0  # 1/px: far less makes a step of the skew already
SIGMA_PX = (0.01, 1000.0)  # a point, and more than an image

_choose = partial(choose, "das3d")
_odd = partial(odd, "das3d")
_divisible = partial(divisible, "das3d")
_within = partial(within, "das3d")
_rising = partial(rising, "das3d")


@dataclass(frozen=True)
class Perlin:
    """Noise that places the anomalies (sections 2 and 7.1)."""

    threshold: float = 0.5  # t_p, of the noise (DRAEM)
    min_exponent: int = 0  # coarsest grid: 2^0 cells a side (DRAEM)
    max_exponent: int = 5  # finest grid: 2^5 cells a side (DRAEM)
    rotation_deg: tuple[float, float] = (-90.0, 90.0)  # angle of the noise (DRAEM)

    def __post_init__(self):
        _rising("perlin.rotation_deg", self.rotation_deg, -TURN_DEG, TURN_DEG)


@dataclass(frozen=True)
class Skew:
    """Skew-normal kernel that gives the anomalies their relief (section 2, steps 3 and 4)."""

    enabled: bool = True  # false: dZ = M_t (Table 6)
    alpha: tuple[float, float] = (-0.5, 0.5)  # of either component, 1/px (paper)
    sigma: tuple[float, float] = (1.0, 4.0)  # px (inferred; Sigma = I, as plotted: 1, 1)
    rho: float = 0.0  # correlation of rows and columns (inferred)
    standardise: bool = False  # alpha^T x with x / sigma (paper: plain x)
    norm: str = "sum"  # kernel "sum" or "max", or "result" (inferred)
    h: int | None = None  # px, odd; none: 2 ceil(3 sigma) + 1 (inferred)
    literal_ablation: bool = False  # without the kernel, p_z = 1 (section 8)

    def __post_init__(self):
        _choose("skew.norm", self.norm, ("sum", "max", "result"))
        if self.h is not None:
            _odd("skew.h", self.h)
        _rising("skew.alpha", self.alpha, -ALPHA, ALPHA)
        _rising("skew.sigma", self.sigma, *SIGMA_PX)
        if not abs(self.rho) < 1:
            raise ValueError(f"das3d.skew.rho is {self.rho:g}; it must be between -1 and 1")


@dataclass(frozen=True)
class Mask:
    """Ground truth of the synthesis (section 2, step 6)."""

    intersect_foreground: bool = False  # cut M* to the foreground (inferred)


@dataclass(frozen=True)
class Texture:
    """Colours of the anomalies (section 7.2)."""

    source: str = "dtd"  # one of SOURCES (paper, its ref. 10)
    folder: str | None = None  # images of dtd and folder
    augment: bool = True  # three of DRAEM's ten augmenters (inferred)

    def __post_init__(self):
        _choose("texture.source", self.source, SOURCES)


@dataclass(frozen=True)
class Recon:
    """Reconstruction networks F_I and F_Z (section 3)."""

    width: int = 128  # channels of the first block (DRAEM)
    skips: bool = False  # U-Net with skip connections (DRAEM: none)


@dataclass(frozen=True)
class Disc:
    """Discriminator D (section 3)."""

    base: int = 64  # channels of the first block (DRAEM)


@dataclass(frozen=True)
class Loss:
    """Weights of the terms of the loss (section 4; paper: all 1)."""

    w_depth: float = 1.0  # mean (Z - F_Z)^2
    w_rgb: float = 1.0  # mean (I - F_I)^2
    w_ssim: float = 1.0  # 1 - SSIM of I and F_I
    w_focal: float = 1.0  # focal loss of the map


@dataclass(frozen=True)
class Train:
    """Optimisation by Adam (section 5; nothing printed)."""

    steps: int = 20_000  # (inferred)
    batch: int = 8  # samples (DRAEM)
    lr: float = 1e-4  # learning rate (DRAEM)
    milestones: tuple[float, float] = (0.8, 0.9)  # shares of the steps (DRAEM)
    gamma: float = 0.2  # factor on lr at each milestone (DRAEM)
    normal_prob: float = 0.0  # extra share of clean samples (DRAEM: 0.5)
    mixed_precision: bool = False  # bfloat16 networks, float32 losses (ours)

    def __post_init__(self):
        _within("train.normal_prob", self.normal_prob)


@dataclass(frozen=True)
class Aug:
    """Changes of the clean pair before the synthesis."""

    rotate_prob: float = 0.0  # turned by U(-90, 90) degrees (DRAEM: 0.3)

    def __post_init__(self):
        _within("aug.rotate_prob", self.rotate_prob)


@dataclass(frozen=True)
class Settings:
    prep: Das3dView = Das3dView()
    perlin: Perlin = Perlin()
    skew: Skew = Skew()
    mask: Mask = Mask()
    texture: Texture = Texture()
    p_z: tuple[float, float] = (0.05, 0.3)  # share of the depth range (inferred)
    t_h: float = 0.02  # least change that is an anomaly (inferred)
    beta: tuple[float, float] = (0.0, 0.8)  # share of the old colour that stays (paper)
    p_d: float = 0.5  # augmentation dropout (section 4, inferred)
    depth_channels: int = 1  # of F_Z: 1, or 3 equal ones (EasyNet)
    features: str = "b1,b2,db3,db4"  # what D sees (EasyNet), out of FEATURES
    detach_features: bool = False  # keep the focal gradient in D (section 4)
    score: str = "window"  # max of the averaged map (DRAEM), or "max"
    score_window: int = 21  # px, odd, side of that average (DRAEM)
    recon: Recon = Recon()
    disc: Disc = Disc()
    loss: Loss = Loss()
    train: Train = Train()
    aug: Aug = Aug()

    def __post_init__(self):
        _rising("p_z", self.p_z)
        _rising("beta", self.beta)
        _within("p_d", self.p_d)
        _choose("score", self.score, ("window", "max"))
        for name in self.feature_names:
            _choose("features", name, FEATURES)
        _choose("depth_channels", self.depth_channels, (1, 3))
        _odd("score_window", self.score_window)
        finest = max(32, 2**self.perlin.max_exponent)
        _divisible("prep.size", self.prep.size, finest)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.features.split(","))
