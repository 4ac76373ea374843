"""Shape-Guided and its stages as a plan knows them: settings, and where weights are looked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from methods import published
from methods.declaration import DeclaredMethod, DeclaredStage, Preparation
from methods.marks import RANDOM_INIT
from methods.published import weight_file
from methods.shape_guided.settings import VARIANTS, Net, Patches, Rgb, Settings, Train
from methods.views import ShapeGuidedView

AUTHORS = "wide_resnet50_2"  # the backbone of theirs


def rgb_path(path: str | None, backbone: str) -> Path | None:
    """The file of `weights.rgb`, None if it asks for random weights; errors say what would do."""
    own = published.of("shape_guided.weights.rgb")[0]
    advice = (
        f"give the ImageNet weights of timm's {backbone} (for {AUTHORS} the authors' are "
        f"{own.file}, published at {own.source}; in the folder {published.FOLDER} it is found), "
        "or 'random-init' for random ones"
    )
    name = own.file if backbone == AUTHORS else ""
    return weight_file(path, "shape_guided.weights.rgb", advice, name)


def sdf_path(path: str | None) -> Path | None:
    """The file of `weights.sdf`; None if the stage trains the expert or random weights will do."""
    if path is None:
        return None
    own = published.of("shape_guided.weights.sdf")[0]
    advice = (
        f"give the authors' checkpoint ({own.file}, at {own.source}) or one saved here, "
        f"{published.PUBLISHED} for that file in the folder {published.FOLDER}, nothing to train "
        "one, or 'random-init' for random weights"
    )
    return weight_file(path, "shape_guided.weights.sdf", advice, own.file)


@dataclass(frozen=True)
class FeatureSettings:
    prep: ShapeGuidedView = ShapeGuidedView()
    rgb: Rgb = Rgb()
    weights: str | None = None
    batch: int = 8


class RgbFeatures(DeclaredStage):
    """The appearance expert's features of every sample of a category."""

    name = "rgb_features"
    Settings = FeatureSettings
    reads = "category"
    seeded = False

    @classmethod
    def view(cls, settings: FeatureSettings) -> ShapeGuidedView:
        return settings.prep

    @classmethod
    def inputs(cls, settings: FeatureSettings) -> dict[str, Path | None]:
        path = rgb_path(settings.weights, settings.rgb.backbone)
        return {"weights": path} if path else {}


@dataclass(frozen=True)
class ExpertSettings:
    """train.points and train.overlap have become those of `patches`."""

    prep: ShapeGuidedView = ShapeGuidedView()
    patches: Patches = Patches(overlap=Train.overlap)
    net: Net = Net()
    train: Train = Train()


class ShapeExpert(DeclaredStage):
    """One shape expert for all categories of a dataset."""

    name = "shape_expert"
    Settings = ExpertSettings
    reads = "train"

    @classmethod
    def view(cls, settings: ExpertSettings) -> ShapeGuidedView:
        return settings.prep


@dataclass(frozen=True)
class CutSettings:
    prep: ShapeGuidedView = ShapeGuidedView()
    patches: Patches = Patches()


class CutPatches(DeclaredStage):
    """Pixel ids of the patches of every sample of a category."""

    name = "patches"
    Settings = CutSettings
    reads = "category"

    @classmethod
    def view(cls, settings: CutSettings) -> ShapeGuidedView:
        return settings.prep


class ShapeGuided(DeclaredMethod):
    name = "shape_guided"
    version = 2
    Settings = Settings
    stages = {stage.name: stage for stage in (RgbFeatures, CutPatches, ShapeExpert)}
    variants = VARIANTS
    # Eyecandies, on which the authors published nothing: M3DM's converter, as for its view.
    prepared = {"eyecandies": Preparation({"geometry": "m3dm"}, {"background": "none"})}

    @classmethod
    def view(cls, settings: Settings, setting: str) -> ShapeGuidedView:
        return settings.prep

    @classmethod
    def inputs(cls, settings: Settings, setting: str) -> dict[str, Path | None]:
        found: dict[str, Path | None] = {"weights.rgb": None, "weights.sdf": None}
        if "rgb" in setting:
            found["weights.rgb"] = rgb_path(settings.weights.rgb, settings.rgb.backbone)
        if uses_shape(settings, setting):
            found["weights.sdf"] = sdf_path(settings.weights.sdf)
        # "random-init" holds no path and stays in the settings where it is used.
        used = {"weights.rgb": "rgb" in setting, "weights.sdf": uses_shape(settings, setting)}
        given = {"weights.rgb": settings.weights.rgb, "weights.sdf": settings.weights.sdf}
        return {k: v for k, v in found.items() if not (used[k] and given[k] == RANDOM_INIT)}

    @classmethod
    def stage_settings(cls, settings: Settings, setting: str) -> dict[str, Any]:
        s = settings
        patches = s.patches.scaled
        needed: dict[str, Any] = {CutPatches.name: CutSettings(s.prep, patches)}
        if "rgb" in setting:
            needed[RgbFeatures.name] = FeatureSettings(s.prep, s.rgb, s.weights.rgb, s.batch)
        if uses_shape(s, setting) and s.weights.sdf is None:
            points = s.train.points or patches.points
            patches = replace(patches, points=points, overlap=s.train.overlap)
            train = replace(s.train, points=None)
            needed[ShapeExpert.name] = ExpertSettings(s.prep, patches, s.net, train)
        return needed


def guided(settings: Settings, setting: str) -> bool:
    s = settings.search
    return {"rgb": s.guided_rgb, "3d": False, "rgb+3d": s.guided}[setting]


def uses_shape(settings: Settings, setting: str) -> bool:
    return "3d" in setting or guided(settings, setting)
