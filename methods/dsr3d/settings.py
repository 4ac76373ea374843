"""Every constant of 3DSR and of DSR, its RGB-only base; its unit and where it comes from.

Sources: "code" = the published code of 3DSR (for `Dsr`: of DSR); "paper" = printed in WACV 2024,
where it says otherwise than the code; "inferred" = ours. Sections are those of
methods/dsr3d/README.md. The defaults are what the code computes; the variant "paper" holds what
the text says instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

from methods.blocks.settings import TURN_DEG, choose, divisible, odd, rising, within
from methods.later import later
from methods.views import Dsr3dView

LEARNING = ("ema", "gradient")  # of the codebook (methods/blocks/quantiser.py)

_choose = partial(choose, "3dsr")
_odd = partial(odd, "3dsr")
_divisible = partial(divisible, "3dsr")


@dataclass(frozen=True)
class Train:
    """Optimisation by Adam; stage 2 (section 6)."""

    steps: int = 30_000  # paper, code: 120 x 4,000 samples
    batch: int = 16  # samples
    lr: float = 2e-4  # learning rate
    milestones: tuple[float, ...] = (0.8,)  # shares of the steps
    gamma: float = 0.1  # factor on lr at each milestone
    mixed_precision: bool = False  # bfloat16 networks, float32 losses (ours)


@dataclass(frozen=True)
class DadaNet:
    """The discrete autoencoder (section 2)."""

    hidden: int = 256  # channels
    residual_hidden: int = 128  # channels
    residual_layers: int = 2
    dim: int = 256  # channels of a code
    codes: int = 2048  # K, of each of the two codebooks
    grouped: bool = True  # keep depth and RGB apart (of rgb+3d only)
    residual_skip: str = "input"  # what skips a residual block: "input" or "relu"
    codebook: str = "ema"  # learning: "ema" (code), "gradient" (paper)
    commitment: float = 0.25  # lambda_K (paper, code)
    decay: float = 0.99  # of the running means, a step (code)
    epsilon: float = 1e-5  # of the running counts (code)
    restart_below: float = 0.0  # codes with so small a running count restart (ours)
    init_std: Optional[float] = 0.02  # of the weights (code); none: as PyTorch does

    def __post_init__(self):
        _choose("dada.net.residual_skip", self.residual_skip, ("input", "relu"))
        _choose("dada.net.codebook", self.codebook, LEARNING)
        if self.hidden % 8 or self.dim % 2 or self.residual_hidden % 2:
            raise ValueError(
                f"3dsr.dada.net: hidden {self.hidden} must divide by 8, dim {self.dim} and "
                f"residual_hidden {self.residual_hidden} by 2"
            )


@dataclass(frozen=True)
class DadaDepth:
    """Where stage 1 takes its depth images from (section 3)."""

    source: str = "perlin"  # "perlin"; "gray": grey images; "real": see below
    max_exponent: int = 5  # finest noise: 2^5 cells a side
    rotation_deg: tuple[float, float] = (-90.0, 90.0)
    alpha: tuple[float, float] = (0.0, 1.0)  # share of the depth range that is used
    beta: bool = True  # shift within the rest of the range

    def __post_init__(self):
        # real: RGB and depth of the dataset's own training samples, all categories (naive)
        _choose("dada.depth.source", self.source, ("perlin", "gray", "real"))


@dataclass(frozen=True)
class DadaImages:
    """Where stage 1 takes its RGB images from (section 3)."""

    source: str = "imagenet"  # (paper, code), or one of the others below
    folder: Optional[str] = None  # images of imagenet and folder

    def __post_init__(self):
        # auto: imagenet where there is a folder, else bundled photographs and procedures
        known = ("imagenet", "folder", "bundled", "procedural", "auto")
        _choose("dada.images.source", self.source, known)


@dataclass(frozen=True)
class DadaLoss:
    """Reconstruction loss of stage 1 (section 3)."""

    norm: Optional[str] = None  # none: l1 for rgb+3d, else l2 (code); paper: l2
    reduction: str = "joint"  # mean over all channels (code), or "modality":
    # a mean each for depth and RGB (paper)
    lambda_d: float = 1.0  # weight of the depth error (paper)
    lambda_i: float = 1.0  # weight of the RGB error (paper)

    def __post_init__(self):
        _choose("dada.loss.norm", self.norm or "l1", ("l1", "l2"))
        _choose("dada.loss.reduction", self.reduction, ("joint", "modality"))


@dataclass(frozen=True)
class Dada:
    """Stage 1: the autoencoder and how it is trained (sections 2 and 3)."""

    weights: Optional[str] = None  # the authors' file, instead of training
    size: int = 256  # px, side of the training images (code)
    net: DadaNet = DadaNet()
    depth: DadaDepth = DadaDepth()
    images: DadaImages = DadaImages()
    loss: DadaLoss = DadaLoss()
    train: Train = Train(steps=100_000, batch=64, milestones=(0.8, 0.9))

    def __post_init__(self):
        _divisible("dada.size", self.size, 8)


@dataclass(frozen=True)
class Decoder:
    """The object-specific decoder (section 4)."""

    width: int = 512  # channels of the first block
    bottleneck: int = 64  # channels
    hidden: int = 256  # channels
    residual_hidden: int = 128  # channels
    residual_layers: int = 2


@dataclass(frozen=True)
class Mask:
    """Where the simulated anomalies are (section 6)."""

    threshold: tuple[float, float] = (0.4, 0.8)  # of the noise
    both_signs: bool = True  # also where the noise is below -threshold
    max_exponent: int = 5  # finest noise: 2^5 cells a side
    rotation_deg: tuple[float, float] = (-90.0, 90.0)
    foreground_only: bool = True
    p_normal: float = 0.5  # probability that a sample stays normal


@dataclass(frozen=True)
class Anomaly:
    """What replaces the features there (section 5)."""

    replacement: str = "ranked"  # by distance (code), or any code: "random" (paper)
    strength: tuple[float, float] = (0.10, 1.0)  # share of the codes that is near enough
    drop_nearest: float = 0.05  # share of the codes that is too near
    shuffle_probability: float = 0.5  # of patches shuffled instead; paper: never
    shuffle_max_exponent: int = 3  # largest patch: 2^3 feature vectors a side
    p_both: float = 0.5  # both levels anomalous; paper: always (literally)
    p_lo: float = 0.5  # of the rest: the low level alone, else the high

    def __post_init__(self):
        _choose("anomaly.replacement", self.replacement, ("ranked", "random"))


@dataclass(frozen=True)
class Augment:
    """Rotation of the training image; the mask is not rotated (section 6)."""

    rotation_deg: tuple[float, float] = (-15.0, 15.0)
    probability: float = 1.0


@dataclass(frozen=True)
class Loss:
    """Terms of stage 2 (section 6)."""

    feature: str = "mse"  # of the restricted features; paper: "l1"
    feature_weight: float = 1.0  # of each level
    image_weight: float = 10.0  # mean squared error of the object's image
    focal_weight: float = 1.0
    gamma: float = 2.0  # of the focal loss
    mask_l1_weight: float = 1.0  # mean error of the map; paper: 0
    detach: bool = False  # no gradient from the map to the decoder

    def __post_init__(self):
        _choose("loss.feature", self.feature, ("mse", "l1"))


@dataclass(frozen=True)
class Score:
    """From the probability map to the anomaly map and the image's score (section 7)."""

    smoothing: str = "mean"  # window (code), or "gaussian" (paper)
    window_px: Optional[int] = None  # odd; none: 11 for rgb+3d, else 21 (code)
    sigma_px: float = 4.0  # of the Gaussian (inferred)
    smooth_map: bool = True  # or for the score alone (paper)

    def __post_init__(self):
        _choose("score.smoothing", self.smoothing, ("mean", "gaussian"))
        if self.window_px is not None:
            _odd("score.window_px", self.window_px)


@dataclass(frozen=True)
class Pipeline:
    """One network and how it is trained; the defaults are 3DSR's, for 3d and rgb+3d."""

    dada: Dada = Dada()
    restriction_base: int = 128  # channels of the first block (section 4)
    decoder: Decoder = Decoder()
    unet_base: int = 32  # channels of the first block (section 4)
    init_std: Optional[float] = 0.02  # of decoder, U-Net (code); none: as PyTorch
    mask: Mask = Mask()
    anomaly: Anomaly = Anomaly()
    augment: Augment = Augment()
    loss: Loss = Loss()
    score: Score = Score()
    train: Train = Train()
    predict_bfloat16: bool = False  # networks at prediction, maps float32 (ours)

    _method = "3dsr"  # where the settings stand, for what they refuse

    def __post_init__(self):
        turns = {"mask": self.mask, "augment": self.augment, "dada.depth": self.dada.depth}
        for name, part in turns.items():
            self._rising(f"{name}.rotation_deg", part.rotation_deg, -TURN_DEG, TURN_DEG)
        self._rising("dada.depth.alpha", self.dada.depth.alpha)
        self._rising("mask.threshold", self.mask.threshold)
        self._within("mask.p_normal", self.mask.p_normal)
        self._within("augment.probability", self.augment.probability)
        anomaly = self.anomaly
        self._within("anomaly.drop_nearest", anomaly.drop_nearest)
        self._rising("anomaly.strength", anomaly.strength, anomaly.drop_nearest)
        for name in ("shuffle_probability", "p_both", "p_lo"):
            self._within(f"anomaly.{name}", getattr(anomaly, name))

    def _within(self, name: str, *given: Any) -> None:
        within(self._method, name, *given)

    def _rising(self, name: str, *given: Any) -> None:
        rising(self._method, name, *given)


@dataclass(frozen=True)
class Upsampler:
    """DSR's third stage: a U-Net refines the map, trained on coloured patches (section 8)."""

    base: int = 64  # channels of the first block
    beta: tuple[float, float] = (0.0, 0.8)  # share of the old colour that stays
    augment: Augment = Augment(rotation_deg=(-90.0, 90.0), probability=0.3)
    train: Train = Train(steps=50_000, batch=8, milestones=())  # the code's are never reached


DSR_PX = 256  # side of DSR's images (its code)


@dataclass(frozen=True)
class Dsr(Pipeline):
    """DSR's constants (section 8); how its stage 1 was trained is not published."""

    size: Optional[int] = later(None)  # px; none: DSR_PX, or prep.size where that is less
    dada: Dada = Dada(
        net=DadaNet(hidden=128, residual_hidden=64, dim=128, codes=4096, residual_skip="relu")
    )
    decoder: Decoder = Decoder(width=256, hidden=128, residual_hidden=64)
    unet_base: int = 64
    mask: Mask = Mask(threshold=(0.5, 0.5), both_signs=False, foreground_only=False)
    anomaly: Anomaly = Anomaly(strength=(0.2, 1.0), shuffle_probability=0.0)
    augment: Augment = Augment(rotation_deg=(-90.0, 90.0), probability=0.4)
    loss: Loss = Loss(mask_l1_weight=0.0, detach=True)
    score: Score = Score(smooth_map=False)
    train: Train = Train(steps=100_000, batch=8)
    upsampler: Upsampler = Upsampler()

    _method = "3dsr.rgb"

    def __post_init__(self):
        super().__post_init__()
        up = self.upsampler
        self._rising("upsampler.beta", up.beta)
        self._rising("upsampler.augment.rotation_deg", up.augment.rotation_deg, -TURN_DEG, TURN_DEG)
        self._within("upsampler.augment.probability", up.augment.probability)
        if self.size is not None:
            _divisible("rgb.size", self.size, 32)


@dataclass(frozen=True)
class Settings(Pipeline):
    """3DSR for 3d and rgb+3d; the paper's RGB rows are DSR's, so `rgb` is DSR."""

    prep: Dsr3dView = Dsr3dView()
    rgb: Dsr = Dsr()

    def __post_init__(self):
        super().__post_init__()
        _divisible("prep.size", self.prep.size, 32)

    def size_of(self, setting: str) -> int:
        """Side of the images that the networks of a setting see, px."""
        if setting != "rgb":
            return self.prep.size
        return self.rgb.size or min(DSR_PX, self.prep.size)

    def of(self, setting: str) -> Pipeline:
        return self.rgb if setting == "rgb" else self
