"""M3DM and its stages as a plan knows them: settings, and where weights are looked for.

Sections are those of methods/m3dm/README.md.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods import published
from methods.declaration import DeclaredMethod, DeclaredStage
from methods.m3dm.settings import CONVERTED, VARIANTS, Pfa, Point, Rgb, Settings, Uff
from methods.marks import RANDOM_INIT
from methods.published import BACKBONES, weight_file
from methods.views import M3dmView

POINT_FILES = {"point_mae": "pointmae_pretrain.pth", "point_bert": "Point-BERT.pth"}  # by family
UFF_FILE = "uff_pretrain.pth"


def _file(given: str | None, setting: str, name: str, source: str) -> Path | None:
    """The file that `setting` means: given itself, or `name` in the folder given."""
    advice = (
        f"it takes {name}, published at {source}; give its path, or the folder it is in, or put it "
        f"into the folder {published.FOLDER}. For a run with random weights, which marks its "
        f"results, set {setting}={RANDOM_INIT}"
    )
    return weight_file(given, setting, advice, name)


def rgb_file(given: str | None, s: Rgb) -> Path | None:
    backbone = BACKBONES[s.backbone]
    return _file(given, "m3dm.weights.rgb", backbone.file, backbone.source)


def point_file(given: str | None, s: Point) -> Path | None:
    own = published.named(POINT_FILES[s.family])
    checksum = f" (SHA-256 {own.sha256})" if own.sha256 else ""
    return _file(given, "m3dm.weights.point", own.file, own.source + checksum)


def uff_file(given: str | None) -> Path | None:
    own = published.named(UFF_FILE)
    return _file(given, "m3dm.weights.uff", own.file, own.source)


@dataclass(frozen=True)
class RgbStage:
    prep: M3dmView = M3dmView()
    rgb: Rgb = Rgb()
    weights: str | None = None
    cache: str = "float32"
    batch: int = 4


@dataclass(frozen=True)
class PointStage:
    prep: M3dmView = M3dmView()
    point: Point = Point()
    weights: str | None = None
    cache: str = "float32"
    batch: int = 4


class FeatureStage(DeclaredStage):
    """Features of every sample of a category, kept on disk."""

    reads = "category"
    seeded = False

    @classmethod
    def view(cls, settings: Any) -> M3dmView:
        return settings.prep

    @classmethod
    @abstractmethod
    def file(cls, settings: Any) -> Path | None:
        """The file of its weights; None for random ones."""

    @classmethod
    def inputs(cls, settings: Any) -> dict[str, Path | None]:
        path = cls.file(settings)
        return {"weights": path} if path else {}


class RgbFeatures(FeatureStage):
    name = "rgb_features"
    Settings = RgbStage

    @classmethod
    def file(cls, settings: RgbStage) -> Path | None:
        return rgb_file(settings.weights, settings.rgb)


class PointFeatures(FeatureStage):
    name = "point_features"
    Settings = PointStage

    @classmethod
    def version_of(cls, settings: PointStage) -> int:
        # 2: stochastic depth is drawn by opaque ids; 3: by salted ones
        return 3 if settings.point.mode == "official" else cls.version

    @classmethod
    def file(cls, settings: PointStage) -> Path | None:
        return point_file(settings.weights, settings.point)


@dataclass(frozen=True)
class UffTraining:
    rgb: RgbStage = RgbStage()
    point: PointStage = PointStage()
    pfa: Pfa = Pfa()
    uff: Uff = Uff()


class UffStage(DeclaredStage):
    """The fusion network, trained once over all categories of a dataset."""

    name = "uff"
    Settings = UffTraining
    reads = "train"
    few_shot = False  # the code trains one fusion on the whole dataset (README, section 5.3)

    @classmethod
    def view(cls, settings: UffTraining) -> M3dmView:
        return settings.rgb.prep

    @classmethod
    def inputs(cls, settings: UffTraining) -> dict[str, Path | None]:
        return {
            f"{part}.{name}": path
            for part, stage in (("rgb", RgbFeatures), ("point", PointFeatures))
            for name, path in stage.inputs(getattr(settings, part)).items()
        }

    @classmethod
    def stage_settings(cls, settings: UffTraining) -> dict[str, Any]:
        return {RgbFeatures.name: settings.rgb, PointFeatures.name: settings.point}

    @classmethod
    def fault(cls, settings: UffTraining, samples: int) -> str:
        return too_few(samples, settings.uff)


def iterations_per_epoch(samples: int, s: Uff) -> int:
    return s.iterations or samples // s.batch


def too_few(samples: int, s: Uff) -> str:
    """Why so few samples make no update, and what would do; empty if they make one."""
    n = iterations_per_epoch(samples, s)
    if n >= s.accumulation:
        return ""
    batch = min(s.batch, samples)
    fits = s.iterations or samples // batch
    smaller = f" m3dm.uff.batch={batch}" if batch < s.batch else ""
    return (
        f"m3dm.uff: {samples} training samples over all categories, in batches of {s.batch}, are "
        f"{n} iterations an epoch, and an update takes {s.accumulation}: it would never learn. "
        f"Set m3dm.uff.accumulation={fits}{smaller} (one update an epoch), give the authors' "
        "fusion with m3dm.weights.uff=FILE, leave it out with m3dm.uff.enabled=false, or leave "
        "setting rgb+3d out"
    )


class M3dm(DeclaredMethod):
    name = "m3dm"
    Settings = Settings
    variants = VARIANTS
    stages = {stage.name: stage for stage in (RgbFeatures, PointFeatures, UffStage)}
    prepared = {"eyecandies": CONVERTED}

    @classmethod
    def view(cls, settings: Settings, setting: str) -> M3dmView:
        return settings.prep

    @classmethod
    def inputs(cls, settings: Settings, setting: str) -> dict[str, Path | None]:
        w, banks = settings.weights, settings.banks_of(setting)
        found: dict[str, Path | None] = {"weights.rgb": None, "weights.point": None}
        if {"rgb", "fusion"} & set(banks):
            found["weights.rgb"] = rgb_file(w.rgb, settings.rgb)
        if {"xyz", "fusion"} & set(banks):
            found["weights.point"] = point_file(w.point, settings.point)
        fusion = "fusion" in banks and settings.uff.enabled
        found["weights.uff"] = uff_file(w.uff) if fusion and w.uff else None
        used = weights_used(settings, setting)
        literal = {f"weights.{name}" for name in used if getattr(w, name) == RANDOM_INIT}
        return {name: path for name, path in found.items() if name not in literal}

    @classmethod
    def stage_settings(cls, settings: Settings, setting: str) -> dict[str, Any]:
        stages = feature_stages(settings, setting)
        if "uff" in weights_used(settings, setting) and settings.weights.uff is None:
            stages[UffStage.name] = UffTraining(
                stages[RgbFeatures.name], stages[PointFeatures.name], settings.pfa, settings.uff
            )
        return stages


def weights_used(settings: Settings, setting: str) -> list[str]:
    """The fields of `weights` that have a part in the result."""
    banks = set(settings.banks_of(setting))
    fusion = "fusion" in banks
    return [
        *(["rgb"] if fusion or "rgb" in banks else []),
        *(["point"] if fusion or "xyz" in banks else []),
        *(["uff"] if fusion and settings.uff.enabled else []),
    ]


def feature_stages(settings: Settings, setting: str) -> dict[str, Any]:
    s, used = settings, weights_used(settings, setting)
    common = {"prep": s.prep, "cache": s.cache, "batch": s.batch}
    stages = {
        RgbFeatures.name: RgbStage(rgb=s.rgb, weights=s.weights.rgb, **common),
        PointFeatures.name: PointStage(point=s.point, weights=s.weights.point, **common),
    }
    kept = {"rgb": RgbFeatures.name, "point": PointFeatures.name}
    return {name: stages[name] for part, name in kept.items() if part in used}
