"""3DSR (setting "rgb": DSR) and its stage as a plan knows them.

Sections are those of methods/dsr3d/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from methods import published
from methods.blocks.texture_choice import texture_folder
from methods.declaration import DeclaredMethod, DeclaredStage, Preparation, View
from methods.dsr3d.settings import Dada, Settings
from methods.published import existing
from methods.views import Dsr3dView


@dataclass(frozen=True)
class StageSettings:
    """What determines a trained autoencoder; made by `Dsr3d.stage_settings`."""

    setting: str = "rgb+3d"
    dada: Dada = Dada()
    prep: Optional[Dsr3dView] = None  # of the dataset's images, where it is trained on them


class DadaStage(DeclaredStage):
    """The discrete autoencoder, trained once and then frozen."""

    name = "dada"
    Settings = StageSettings

    @classmethod
    def inputs(cls, settings: StageSettings) -> dict[str, Path | None]:
        s, folder = settings.dada.images, None
        if needs_images(settings) and settings.dada.train.steps:
            folder = texture_folder(s.source, s.folder, images_setting(settings))
        return {"dada.images.folder": folder}


class RealDadaStage(DadaStage):
    """The same on the RGB and depth images of the dataset (ablation "dsr_naive")."""

    name = "dada_real"
    reads = "train"

    @classmethod
    def view(cls, settings: StageSettings) -> View:
        return settings.prep


OWN_STAGE = {"dada.weights": None}  # of rows about stage 1, whatever file is given


class Dsr3d(DeclaredMethod):
    name = "3dsr"
    Settings = Settings
    # Helpers are all that is published: the plane of three pixels is theirs, the rest is as on
    # MVTec 3D-AD, at a tenth of the size (methods/dsr3d/README.md, section 1).
    prepared = {"eyecandies": Preparation(view={"plane": "pixels"})}
    stages = {"dada": DadaStage, "dada_real": RealDadaStage}
    validates = True
    variants = {
        "paper": {  # what the text says, not the code
            "dada.loss.norm": "l2",
            "dada.loss.reduction": "modality",
            "dada.net.codebook": "gradient",
            "anomaly.replacement": "random",
            "anomaly.shuffle_probability": 0.0,
            "anomaly.p_both": 1.0,
            "loss.feature": "l1",
            "loss.mask_l1_weight": 0.0,
            "score.smoothing": "gaussian",
            "score.smooth_map": False,
            "prep.depth_low": 0.0,
            "prep.depth_high": 1.0,
            "prep.hole_passes": 1,
        },
        # Table 5
        "dsr_naive": OWN_STAGE | {"dada.net.grouped": False, "dada.depth.source": "real"},
        "no_perlin": OWN_STAGE | {"dada.depth.source": "gray"},
        "no_affine": OWN_STAGE | {"dada.depth.alpha": [1.0, 1.0]},
        "vqvae": OWN_STAGE | {"dada.net.grouped": False},
        "vqvae_weighted": OWN_STAGE | {"dada.net.grouped": False, "dada.loss.lambda_d": 10.0},
        "untrained": {"train.steps": 0, "rgb.train.steps": 0, "rgb.upsampler.train.steps": 0},
    }

    @classmethod
    def view(cls, settings: Settings, setting: str) -> Dsr3dView:
        return replace(settings.prep, size=settings.size_of(setting))

    @classmethod
    def inputs(cls, settings: Settings, setting: str) -> dict[str, Path | None]:
        weights = settings.of(setting).dada.weights
        own = weights_setting(setting)
        names = ("dada.weights", "rgb.dada.weights", "dada.images.folder", "rgb.dada.images.folder")
        return dict.fromkeys(names) | {
            own: dada_file(weights, f"3dsr.{own}", setting) if weights else None
        }

    @classmethod
    def stage_settings(cls, settings: Settings, setting: str) -> dict[str, StageSettings]:
        dada = settings.of(setting).dada
        if dada.weights:
            return {}
        if dada.depth.source == "real":
            prep = replace(settings.prep, size=dada.size)
            return {"dada_real": StageSettings(setting, dada, prep)}
        return {"dada": StageSettings(setting, dada)}


def weights_setting(setting: str) -> str:
    """The name of the setting that takes the autoencoder's weights."""
    return "rgb.dada.weights" if setting == "rgb" else "dada.weights"


def images_setting(settings: StageSettings) -> str:
    """What configurations call its images."""
    return "3dsr.rgb.dada.images" if settings.setting == "rgb" else "3dsr.dada.images"


def needs_images(settings: StageSettings) -> bool:
    depth = settings.dada.depth.source
    if depth == "real":
        return False
    return "rgb" in settings.setting or depth == "gray"


DADA_FILES = {  # of the settings
    file.cells: file.file
    for name in ("rgb.dada.weights", "dada.weights")
    for file in published.of(f"3dsr.{name}")
}


def dada_file(given: str, name: str, setting: str) -> Path:
    """The authors' autoencoder of a setting: what `name` gives, or its own in the folder given."""
    own = published.named(DADA_FILES[setting])
    advice = (
        f"setting {setting} takes {own.file}, published at {own.source}; give its path, the folder "
        f"that holds those of all settings, or {published.PUBLISHED}; leave it out to train the "
        "autoencoder here"
    )
    return existing(given, name, advice, own.file)
