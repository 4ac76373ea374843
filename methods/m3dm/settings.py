"""Every constant of M3DM, its unit and where it comes from.

Sources: "paper" = CVPR 2023, arXiv 2303.00601; "code" = its published code; "ours" = decided here,
with the reasons in methods/m3dm/README.md, whose sections are given. Defaults are the preset
`authors`: the code where it and the paper differ, but with deterministic point features (3.3) and
pairs of patches that belong together (5.4). The variants `paper` and `authors_literal` of the
method undo either.

Two differences have no setting. Which half of the fused feature comes first does not change a
distance. Eq. (2) as printed sums to 1 whatever the features are; the paper calls it InfoNCE, and
that is what runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from methods.blocks.settings import choose
from methods.declaration import Preparation
from methods.published import BACKBONES
from methods.views import M3dmView

# Eyecandies (section 1.3): the converter takes the conveyor away and pads nothing.
CONVERTED = Preparation(
    reading={"geometry": "m3dm"},
    view={"background": "none"},
    train_samples=400,  # (code; paper: fewer, chosen on the test set)
)

MODES = ("batchstat", "official", "eval")  # of norms and stochastic depth of point features
BANKS = ("xyz", "rgb", "fusion")  # in the order of the code
COMBINATIONS = (*BANKS, "xyz,rgb", "xyz,rgb,fusion")

_choose = partial(choose, "m3dm")


@dataclass(frozen=True)
class Weights:
    """Files of pretrained weights, or folders that hold them, or "random-init"."""

    rgb: str | None = None  # of rgb.backbone
    point: str | None = None  # of point.family
    uff: str | None = None  # none: the fusion is trained here, as a shared stage


@dataclass(frozen=True)
class Rgb:
    """Image features (section 2)."""

    backbone: str = "vit_base_patch8_224_dino"  # (paper)
    patch: int | None = None  # px; none: the published one
    depth: int | None = None  # blocks; none: as published
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of all backbones (code)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self):
        _choose("rgb.backbone", self.backbone, tuple(BACKBONES))


@dataclass(frozen=True)
class Point:
    """Point features (section 3). Width, depth and heads are those of the checkpoints."""

    family: str = "point_mae"  # or point_bert (Tables VIII, IX)
    groups: int = 1024  # centres a cloud (paper)
    group_size: int = 128  # points a group (paper)
    mode: str = "batchstat"  # "official" adds stochastic depth (3.3); "eval"
    width: int = 384
    depth: int = 12  # blocks; a multiple of 3
    heads: int = 6
    drop_path: float = 0.1  # of the last block, in mode "official"

    def __post_init__(self):
        _choose("point.family", self.family, ("point_mae", "point_bert"))
        _choose("point.mode", self.mode, MODES)
        if self.depth % 3 or self.depth < 3:
            raise ValueError(f"m3dm.point.depth is {self.depth}; it must be a multiple of 3")


@dataclass(frozen=True)
class Pfa:
    """Point feature alignment (section 4)."""

    grid: int = 56  # patches a side: 56 or 28 (paper)
    rule: str = "nearest3"  # (code), or "all" centres, eq. 1 (paper)
    level: str = "patch"  # or "group": the bank holds group features (Table 5)

    def __post_init__(self):
        _choose("pfa.rule", self.rule, ("nearest3", "all"))
        _choose("pfa.level", self.level, ("patch", "group"))


@dataclass(frozen=True)
class Uff:
    """Unsupervised feature fusion (section 5)."""

    enabled: bool = True  # false: fused = both features side by side (Table 4)
    head: int = 256  # channels compared by the loss (code)
    ratio: int = 4  # hidden over input width (paper)
    temperature: float = 1.0  # of the loss (code)
    pairing: str = "aligned"  # or "official_release": the wrong pairs (5.4)
    epochs: int = 3  # (code)
    iterations: int | None = None  # an epoch; none: all samples once (paper: 250)
    warmup_epochs: int = 1  # (code; paper: 250 steps)
    batch: int = 16  # samples (paper)
    accumulation: int = 16  # batches an update (code)
    lr: float = 0.003  # (paper)
    betas: tuple[float, float] = (0.9, 0.95)  # of AdamW (code)
    weight_decay: float = 0.01  # of AdamW (code, its default)

    def __post_init__(self):
        _choose("uff.pairing", self.pairing, ("aligned", "official_release"))


@dataclass(frozen=True)
class Coreset:
    """What of the banks is kept (section 6.3)."""

    share: float = 0.1  # of the rows (code); 1: all
    sizing: str = "official"  # later banks: share of the first one's; "per_bank"
    eps: float = 0.9  # of the random projection (code)
    dtype: str = "float32"  # or "float16", the code's arithmetic

    def __post_init__(self):
        _choose("coreset.sizing", self.sizing, ("official", "per_bank"))
        _choose("coreset.dtype", self.dtype, ("float32", "float16"))
        if not 0 < self.share <= 1:
            raise ValueError(f"m3dm.coreset.share is {self.share}; it must be within (0, 1]")


@dataclass(frozen=True)
class Score:
    """From distances to scores and maps (sections 6.2, 6.5, 6.6)."""

    statistics: str = "official"  # shift and scale of the banks; "own" of each; "none"
    neighbours: int = 3  # of the re-weighting, the row itself counted (code)
    eps: float = 1e-5  # in it, for a bank of one modality alone (code)
    two_bank_divisor: float = 1000.0  # of distances in it, for two banks with DLF (code)
    blur: str = "pil8"  # Pillow's on 8 bits (code), "float" or "none"
    blur_px: float = 4.0  # sigma (code)

    def __post_init__(self):
        _choose("score.statistics", self.statistics, ("official", "own", "none"))
        _choose("score.blur", self.blur, ("pil8", "float", "none"))


@dataclass(frozen=True)
class Dlf:
    """Decision layer fusion: two linear one-class SVMs (section 6.7)."""

    score_weights: tuple[float, float, float] = (1.0, 0.1, 1.0)  # of xyz, rgb, fusion (code)
    map_weights: tuple[float, float, float] = (1.0, 0.1, 1.0)  # likewise
    nu: float = 0.5  # (code)
    max_iter: int = 1000  # epochs at most (code)
    seed: int = 42  # (code)
    steps: int | None = None  # single-sample steps at `lr` instead (paper: 1000)
    lr: float = 1e-4  # of these steps (paper)


@dataclass(frozen=True)
class Settings:
    prep: M3dmView = M3dmView()
    weights: Weights = Weights()
    rgb: Rgb = Rgb()
    point: Point = Point()
    pfa: Pfa = Pfa()
    uff: Uff = Uff()
    banks: str = "xyz,rgb,fusion"  # of rgb+3d, out of COMBINATIONS (paper, Table 4)
    decision: str = "dlf"  # of several banks, or "sum" (Table 4, w/o DLF)
    coreset: Coreset = Coreset()
    score: Score = Score()
    dlf: Dlf = Dlf()
    cache: str = "float32"  # of the frozen features on disk, or "float16"
    batch: int = 4  # samples that go through networks at once (ours)

    def __post_init__(self):
        _choose("banks", self.banks, COMBINATIONS)
        _choose("decision", self.decision, ("dlf", "sum"))
        _choose("cache", self.cache, ("float32", "float16"))
        if self.pfa.level == "group" and self.pfa.rule == "all":
            raise ValueError("m3dm.pfa.level=group interpolates with m3dm.pfa.rule=nearest3 only")

    def banks_of(self, setting: str) -> tuple[str, ...]:
        if setting == "rgb+3d":
            return tuple(self.banks.split(","))
        return {"rgb": ("rgb",), "3d": ("xyz",)}[setting]


# Named overrides: presets, and the rows of the paper's tables.
VARIANTS = {
    "authors": {},
    "authors_literal": {
        "point.mode": "official",
        "uff.pairing": "official_release",
        "coreset.dtype": "float16",
    },
    "paper": {
        "point.mode": "eval",
        "pfa.rule": "all",
        "uff.iterations": 250,
        "uff.accumulation": 1,
        "coreset.sizing": "per_bank",
        "score.statistics": "none",
        "score.eps": 0.0,
        "score.two_bank_divisor": 1.0,
        "score.blur": "float",
        "dlf.steps": 1000,
        "dlf.score_weights": (1.0, 1.0, 1.0),
        "dlf.map_weights": (1.0, 1.0, 1.0),
    },
    # Table 4; its first two rows are the settings 3d and rgb, its last one is the default.
    "wo_uff": {"banks": "fusion", "uff.enabled": False},
    "w_uff": {"banks": "fusion"},
    "wo_dlf": {"banks": "xyz,rgb", "decision": "sum"},
    "w_dlf": {"banks": "xyz,rgb"},
    # Table 5, setting 3d
    "pfa_s64_n784_group": {
        "point.group_size": 64,
        "point.groups": 784,
        "pfa.level": "group",
    },
    "pfa_s128_n1024_group": {"pfa.level": "group"},
    "pfa_s64_n784_patch28": {
        "point.group_size": 64,
        "point.groups": 784,
        "pfa.grid": 28,
    },
    "pfa_s128_n1024_patch28": {"pfa.grid": 28},
    # Tables VIII and IX, single modalities
    "backbone_vit_b8_imagenet1k": {"rgb.backbone": "vit_base_patch8_224"},
    "backbone_vit_b8_imagenet21k": {"rgb.backbone": "vit_base_patch8_224_in21k"},
    "backbone_vit_s8_dino": {"rgb.backbone": "vit_small_patch8_224_dino"},
    "backbone_point_bert": {"point.family": "point_bert"},
}
