"""Every constant of DBRN, its unit and where it comes from.

Sources: "paper" = printed in arXiv 2311.06797; "AST", "Swin-Unet", "DRAEM" = published code it
builds on; "inferred" = ours. Sections are those of methods/dbrn/README.md, which also lists every
inferred point with its alternatives, the reason and how sure we are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from methods.blocks.settings import TURN_DEG, choose, divisible, odd, rising, within
from methods.blocks.texture_choice import SOURCES
from methods.later import later
from methods.views import DbrnView

SCALES = (1.0, 0.5, 0.25)
PATCH = 4  # px, side of a token (Swin-Unet)

_choose = partial(choose, "dbrn")
_odd = partial(odd, "dbrn")
_divisible = partial(divisible, "dbrn")
_within = partial(within, "dbrn")
_rising = partial(rising, "dbrn")


@dataclass(frozen=True)
class Perlin:
    """Noise that places the anomalies (section 3.1)."""

    threshold: float = 0.5  # of the noise (DRAEM, inferred)
    min_exponent: int = 0  # coarsest grid: 2^0 cells a side (DRAEM)
    max_exponent: int = 5  # finest grid: 2^5 cells a side (DRAEM)
    rotation_deg: tuple[float, float] = (-90.0, 90.0)  # angle of the noise (DRAEM)

    def __post_init__(self):
        _rising("sim.perlin.rotation_deg", self.rotation_deg, -TURN_DEG, TURN_DEG)


@dataclass(frozen=True)
class Sim:
    """Anomaly simulation in three cases (section 3.3)."""

    e1: float = 0.7  # p above it: normal (paper)
    e2: float = 0.5  # p above it, up to e1: erased; below: blended (paper)
    beta_max: float = 1.0  # opacity of the old image ~ U(0, beta_max) (paper: [0, 1])
    share_p: bool = True  # one case for both modalities (inferred)
    share_beta: bool = False  # one opacity for both modalities (inferred)
    share_source: bool = True  # one texture for both modalities (inferred)
    max_retries: int = 0  # new masks where one misses the object (inferred: none)
    perlin: Perlin = Perlin()

    def __post_init__(self):
        _within("sim.beta_max", self.beta_max)
        if not 0 <= self.e2 <= self.e1 <= 1:
            raise ValueError(
                f"dbrn.sim.e2 is {self.e2:g} and dbrn.sim.e1 {self.e1:g}; they must satisfy "
                "0 <= e2 <= e1 <= 1"
            )


@dataclass(frozen=True)
class Texture:
    """Images that anomalies are sampled from (section 3.2)."""

    source: str = "dtd"  # one of SOURCES (inferred)
    folder: str | None = None  # images of dtd and folder
    augment: bool = True  # three of DRAEM's ten augmenters (inferred)

    def __post_init__(self):
        _choose("texture.source", self.source, SOURCES)


@dataclass(frozen=True)
class Recon:
    """Reconstruction networks, one a modality (section 4)."""

    net: str = "swin_unet"  # or "res_unet" (Table III)
    width: int = 128  # channels of the Res-UNet's first block (inferred)

    def __post_init__(self):
        _choose("recon.net", self.net, ("swin_unet", "res_unet"))


@dataclass(frozen=True)
class Swin:
    """Swin-Unets, reconstructing or discriminating (section 4.1)."""

    width: int = 96  # channels of a token (Swin-Unet)
    depths: tuple[int, int, int, int] = (2, 2, 4, 2)  # blocks a stage (paper)
    heads: tuple[int, int, int, int] = (3, 6, 12, 24)  # of attention (Swin-Unet)
    window: int = 7  # tokens, side (Swin-Unet, inferred)
    mlp_ratio: float = 4.0  # hidden width / width (Swin-Unet)
    path_rate: float = 0.1  # stochastic depth (Swin-Unet)
    init_std: float = 0.02  # of linear weights (Swin-Unet)
    start_level: float | None = None  # of a fresh network's images; none:
    #   noise around 0 (Swin-Unet); 0.5 spares short trainings a plateau (ours)
    pretrained: str | None = None  # checkpoint to start from (inferred)

    def __post_init__(self):
        for i, heads in enumerate(self.heads):
            if (self.width * 2**i) % heads:
                raise ValueError(
                    f"dbrn.swin: stage {i} has {self.width * 2**i} channels, which do not divide "
                    f"into {heads} heads"
                )


@dataclass(frozen=True)
class Dropout:
    """Dropped encoder outputs, in training and at test time (section 4.2)."""

    rates: tuple[float, float, float] = (0.6, 0.4, 0.2)  # shallow, middle, deep skip (paper)
    type: str = "element"  # each value; "token", "channel": together (inferred)

    def __post_init__(self):
        for i, rate in enumerate(self.rates):
            _within(f"dropout.rates[{i}]", rate)
        _choose("dropout.type", self.type, ("element", "token", "channel"))


@dataclass(frozen=True)
class Disc:
    """Discriminator (section 6)."""

    net: str = "unet"  # or "swin_unet" (Table III)
    base: int = 64  # channels of the UNet's first block (DRAEM, inferred)
    pe: str = "full"  # of the UNet: 3x3 at full resolution, or "patch4" (inferred)

    def __post_init__(self):
        _choose("disc.net", self.net, ("unet", "swin_unet"))
        _choose("disc.pe", self.pe, ("full", "patch4"))


@dataclass(frozen=True)
class Ism:
    """Importance scoring module (section 6.2)."""

    out: str = "pixel"  # one weight a pixel, or "channel": a feature (inferred)
    act: str = "softmax"  # over the two; "sigmoid", "relu", "none" (inferred)
    same_image_prob: float = 0.5  # a modality is shown twice the same, halved (inferred)
    same_image: str = "input"  # that image, or the "clean" one (inferred)

    def __post_init__(self):
        _within("ism.same_image_prob", self.same_image_prob)
        _choose("ism.out", self.out, ("pixel", "channel"))
        _choose("ism.act", self.act, ("softmax", "sigmoid", "relu", "none"))
        _choose("ism.same_image", self.same_image, ("input", "clean"))


@dataclass(frozen=True)
class Loss:
    """Reconstruction loss and the sum of the losses (sections 5 and 7)."""

    # lambda_1 to 4: background, foreground, mask, 1 - SSIM (paper; which is which: inferred)
    weights: tuple[float, float, float, float] = (1.0, 4.0, 10.0, 1.0)
    reduction: str = "common"  # all pixels; "subset": the set's own (inferred)
    ms: str = "enlarged"  # mean over enlarged scales; "native", "sum" (inferred)
    focal_on: str = "each"  # map of every scale, or their "mean" (inferred)
    w_rgb: float = 1.0  # reconstruction of RGB (equation 5)
    w_depth: float = 1.0  # reconstruction of depth (equation 5)
    w_focal: float = 1.0  # focal loss of the map (equation 5)

    def __post_init__(self):
        _choose("loss.reduction", self.reduction, ("common", "subset"))
        _choose("loss.ms", self.ms, ("enlarged", "native", "sum"))
        _choose("loss.focal_on", self.focal_on, ("each", "mean"))


@dataclass(frozen=True)
class Focal:
    """Focal loss (section 7)."""

    alpha: tuple[float, float] | None = (0.25, 0.75)  # normal, anomaly; none: 1, 1 (inferred)
    gamma: float = 2.0  # (DRAEM)


@dataclass(frozen=True)
class Train:
    """Optimisation by Adam (section 8)."""

    steps: int = 20_000  # (inferred)
    batch: int = 8  # samples (DRAEM, inferred)
    lr_recon: float = 1e-4  # reconstruction networks (paper)
    lr_disc: float = 1e-5  # discriminator without the ISM (paper)
    lr_ism: float = 1e-3  # ISM's convolutions (paper)
    beta2: float = 0.999  # of Adam (inferred); less for short trainings
    milestones: tuple[float, float] = (0.8, 0.9)  # shares of the steps (DRAEM, inferred)
    gamma: float = 0.2  # factor on the rates at each (DRAEM, inferred)
    norm_batches: int = 0  # after the last step, whose mean statistics
    #   BatchNorm takes; 0: its running ones (DRAEM); more for short trainings (ours)
    mixed_precision: bool = False  # bfloat16 networks, float32 losses (ours)
    compile: bool = later(False)  # networks and losses by torch.compile; takes minutes (ours)


@dataclass(frozen=True)
class Aug:
    """Changes of the clean pair before the simulation."""

    rotate_prob: float = 0.0  # turned by U(-90, 90) degrees (DRAEM: 0.3)

    def __post_init__(self):
        _within("aug.rotate_prob", self.rotate_prob)


@dataclass(frozen=True)
class Test:
    """Inference (section 9)."""

    dropout: bool = True  # dropped skips stay (paper); false: deterministic
    passes: int = 1  # whose maps are averaged (inferred)
    seed: int = 0  # another one draws other dropped skips
    mask_background: bool = False  # map 0 off the foreground (AST: true)
    precision: str = "float32"  # of the networks, or "bfloat16" (ours)
    compile: bool = False  # by torch.compile, weights frozen; takes minutes (ours)

    def __post_init__(self):
        _choose("test.precision", self.precision, ("float32", "bfloat16"))
        if self.passes < 1:
            raise ValueError(f"dbrn.test.passes is {self.passes}; it must be 1 or more")


@dataclass(frozen=True)
class Settings:
    prep: DbrnView = DbrnView()
    multi_scale: bool = False  # "Ours (MS)" of Tables I and II; else "Ours"
    scales: tuple[float, ...] = SCALES  # of the images of multi_scale (inferred)
    fusion: str = "ism"  # "early", "hadamard", "cat" (Table V)
    detach_recon: bool = False  # keep the focal gradient in the discriminator
    score: str = "window"  # max of the averaged map (DRAEM), or "max"
    score_window: int = 21  # px, odd, side of that average (DRAEM)
    sim: Sim = Sim()
    texture: Texture = Texture()
    recon: Recon = Recon()
    swin: Swin = Swin()
    dropout: Dropout = Dropout()
    disc: Disc = Disc()
    ism: Ism = Ism()
    loss: Loss = Loss()
    focal: Focal = Focal()
    train: Train = Train()
    aug: Aug = Aug()
    test: Test = Test()

    def __post_init__(self):
        _choose("fusion", self.fusion, ("ism", "early", "hadamard", "cat"))
        _choose("score", self.score, ("window", "max"))
        if not self.scales or tuple(self.scales) != SCALES[: len(self.scales)]:
            raise ValueError(f"dbrn.scales is {self.scales}; it can be the first of {SCALES}")
        _odd("score_window", self.score_window)
        patch4 = self.disc.net == "unet" and self.disc.pe == "patch4"
        finest = max(128 if patch4 else 32, 2**self.sim.perlin.max_exponent)
        _divisible("prep.size", self.prep.size, finest)
        if "swin_unet" in (self.recon.net, self.disc.net):
            for grid in (self.prep.size // PATCH // 2**i for i in range(4)):
                if grid > self.swin.window and grid % self.swin.window:
                    raise ValueError(
                        f"dbrn.swin.window is {self.swin.window}; it must divide {grid}, a grid "
                        f"of tokens at dbrn.prep.size {self.prep.size}, or be no less"
                    )

    @property
    def extra_scales(self) -> int:
        """Images of the decoder beyond the full one."""
        return len(self.scales) - 1 if self.multi_scale else 0
