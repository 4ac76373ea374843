"""Every constant of Shape-Guided, its unit and where it comes from.

Sources: "code" = the authors' published code, which made their tables; "paper" = printed in the
ICML 2023 paper; "ours" = neither says. Sections are those of methods/shape_guided/README.md. The
defaults follow the code; `PAPER` changes every point where the paper says something else. What the
paper claims but does not describe (fine-tuning the ResNet, rotation invariance) is in neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from methods.blocks.settings import choose, divisible, within
from methods.views import ShapeGuidedView

_choose = partial(choose, "shape_guided")
_divisible = partial(divisible, "shape_guided")


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"shape_guided.{name} is {value}; it must be at least {least}")


@dataclass(frozen=True)
class Weights:
    """Files of weights, or "random-init" by name."""

    rgb: str | None = None  # ImageNet weights of rgb.backbone, timm's file
    sdf: str | None = None  # authors' checkpoint; none: the stage trains one


@dataclass(frozen=True)
class Patches:
    """Pieces a cloud is cut into (section 1.3)."""

    points: int = 500  # K, points a patch (paper; Table 4: 250 to 1000)
    scale: float = 1.0  # K as a multiple of points (Table 4: 0.5, 1.5 and 2)
    overlap: float = 10.0  # r: P = round(N r / K) patches of N points (paper)
    cover: bool = False  # add patches until all points are in one (paper)

    def __post_init__(self):
        _at_least("patches.points", self.points, 2)
        for name in ("scale", "overlap"):
            if (value := getattr(self, name)) <= 0:
                raise ValueError(f"shape_guided.patches.{name} is {value}; it must be above 0")

    @property
    def scaled(self) -> Patches:
        """The same with `scale` worked into `points`, so that equal cuts have equal settings."""
        return replace(self, points=max(2, round(self.points * self.scale)), scale=1.0)


@dataclass(frozen=True)
class Net:
    """The shape expert (section 2)."""

    points: tuple[int, int, int] = (64, 128, 1024)  # channels of PointNet's convolutions (code)
    hidden: int = 512  # of PointNet's first linear layer (code)
    feature: int = 128  # of a patch (code)
    width: int = 512  # of the implicit function (code)
    depth: int = 7  # its weight-normalised layers (code)


@dataclass(frozen=True)
class Train:
    """How the shape expert learns (sections 1.5, 2.3, 2.4)."""

    points: int | None = None  # K of its patches; none: that of `patches` (ours)
    overlap: float = 5.0  # r of its patches (code; paper: 10)
    clouds: int | None = 20  # drawn a category (code); none: all (paper)
    neighbour: int = 50  # sigma = distance to this neighbour in the patch (code)
    near: float = 0.5  # queries are sigma * near * N(0, 1) away ... (code)
    far: float = 1.0  # ... or sigma * far * N(0, 1) (code)
    near_share: float = 0.65  # of the queries that are near (code: 13 of 20)
    encoder_input: str = "targets"  # nearest points of the queries (code), or "patch" (paper)
    epochs: int = 601  # over all patches (the authors' checkpoint)
    steps: int | None = None  # instead of epochs
    batch: int = 32  # patches (paper)
    lr: float = 1e-4  # of Adam (paper)

    def __post_init__(self):
        within("shape_guided", "train.near_share", self.near_share)
        _choose("train.encoder_input", self.encoder_input, ("targets", "patch"))


@dataclass(frozen=True)
class Rgb:
    """The appearance expert (section 3)."""

    backbone: str = "wide_resnet50_2"  # of timm, stages of stride 4 and 8 (paper)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of ImageNet, in [0, 1]
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    pool: int = 3  # cells a side, average before resizing (code)


@dataclass(frozen=True)
class Search:
    """What is searched, and how the findings are put together (sections 4 and 5.1, 5.2, 5.4)."""

    k_sdf: int = 10  # k1, nearest patches (paper)
    k_rgb: int = 5  # k2, nearest cells (paper)
    code_sdf: str = "omp"  # sparse coding (code), or "nn": the nearest (Table 6)
    code_rgb: str = "omp"
    atoms: int = 3  # of a sparse code (code)
    expand: int = 2  # cells around a patch that belong to it (paper)
    expansion: str = "shift"  # four shifts of the flat index (code); "dilate" (paper)
    guided: bool = True  # rgb+3d: dictionary of the nearest patches (Table 3)
    guided_rgb: bool = False  # rgb: likewise (Table 5)
    unguided_bank: str = "all"  # cells kept if not guided (Table 3), or "foreground"

    def __post_init__(self):
        _choose("search.code_sdf", self.code_sdf, ("omp", "nn"))
        _choose("search.code_rgb", self.code_rgb, ("omp", "nn"))
        _choose("search.expansion", self.expansion, ("shift", "dilate"))
        _choose("search.unguided_bank", self.unguided_bank, ("all", "foreground"))
        for name in ("k_sdf", "k_rgb", "atoms"):
            _at_least(f"search.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class Align:
    """Bringing RGB scores onto the scale of SDF scores (section 5.5)."""

    samples: int = 25  # training samples drawn (paper)
    leave_out: str = "entry"  # the nearest (code), or all of the "image" (paper)
    maps: str = "blurred"  # statistics of these (code), or of "raw" ones (paper)
    clip: bool = True  # aligned RGB scores below 0 become 0 (code)

    def __post_init__(self):
        _choose("align.leave_out", self.leave_out, ("entry", "image"))
        _choose("align.maps", self.maps, ("blurred", "raw"))


@dataclass(frozen=True)
class Maps:
    """Maps and image scores (sections 5.1, 5.3 and 5.6)."""

    overlap: str = "min"  # a pixel's distances in its patches (code); "mean" (paper)
    blur_px: float = 4.0  # radius of Pillow's 8-bit blur; 0: none (code)
    score: str = "product"  # rgb+3d: of both feature errors (code), or max of "map"

    def __post_init__(self):
        _choose("maps.overlap", self.overlap, ("min", "mean"))
        _choose("maps.score", self.score, ("product", "map"))


@dataclass(frozen=True)
class Settings:
    prep: ShapeGuidedView = ShapeGuidedView()
    weights: Weights = Weights()
    patches: Patches = Patches()
    net: Net = Net()
    train: Train = Train()
    rgb: Rgb = Rgb()
    search: Search = Search()
    align: Align = Align()
    maps: Maps = Maps()
    batch: int = 8  # images a forward pass of the backbone (ours)

    def __post_init__(self):
        _divisible("prep.size", self.prep.size, 8)


# "absolute values from all patches" names no way to put overlapping patches together: we average.
PAPER = {
    "patches.cover": True,
    "train.overlap": 10.0,
    "train.clouds": None,
    "train.encoder_input": "patch",
    "search.expansion": "dilate",
    "align.leave_out": "image",
    "align.maps": "raw",
    "align.clip": False,
    "maps.overlap": "mean",
}

# Rows of the paper's tables by the names in reports/published; the others are the default. K is
# relative to the main row's 500, so that the rows can be told apart at any size of the clouds.
VARIANTS = {
    "authors": {},
    "paper": PAPER,
    "wo_shape_guided": {"search.guided": False},  # Table 3
    "k_1000": {"patches.scale": 2.0},  # Table 4
    "k_750": {"patches.scale": 1.5},
    "k_250": {"patches.scale": 0.5},
    "shape_guided_rgb_only": {"search.guided_rgb": True},  # Table 5, setting rgb
    "rgb_nn_sdf_nn": {"search.code_rgb": "nn", "search.code_sdf": "nn"},  # Table 6
    "rgb_sc_sdf_nn": {"search.code_sdf": "nn"},
    "rgb_nn_sdf_sc": {"search.code_rgb": "nn"},
    "sc_one_modality_row2": {"search.code_sdf": "nn"},  # which one is (inferred)
    "sc_one_modality_row3": {"search.code_rgb": "nn"},  # from its higher P-AUROC
}
