"""DBRN as a plan knows it; sections are those of methods/dbrn/README.md."""

from __future__ import annotations

from pathlib import Path

from methods.blocks.texture_choice import texture_folder
from methods.dbrn.settings import Settings
from methods.declaration import DeclaredMethod, Preparation
from methods.published import existing
from methods.views import DbrnView


class Dbrn(DeclaredMethod):
    name = "dbrn"
    Settings = Settings
    # Ours: the paper has no Eyecandies (methods/dbrn/README.md, section 2.6).
    prepared = {"eyecandies": Preparation({"geometry": "m3dm"}, {"background": "none"})}
    variants = {
        "ms": {"multi_scale": True},  # Tables I, II: Ours (MS)
        "res_unet_swin_unet": {"recon.net": "res_unet", "disc.net": "swin_unet"},  # III, VI
        "res_unet_unet": {"recon.net": "res_unet"},
        "swin_unet_swin_unet": {"disc.net": "swin_unet"},
        "no_loss_weighting": {"loss.weights": (1.0, 1.0, 1.0, 1.0)},  # Table IV
        "lfg_only": {"loss.weights": (1.0, 4.0, 1.0, 1.0)},
        "lmask_only": {"loss.weights": (1.0, 1.0, 10.0, 1.0)},
        "fusion_early_cat": {"fusion": "early"},  # Table V
        "fusion_deep_hadamard": {"fusion": "hadamard"},
        "fusion_deep_cat": {"fusion": "cat"},
        "untrained": {"train.steps": 0},
    }
    validates = True

    @classmethod
    def version_of(cls, settings: Settings) -> int:
        # 2: drops are drawn by opaque ids; 3: by salted ones
        return 3 if settings.test.dropout else cls.version

    @classmethod
    def view(cls, settings: Settings, setting: str) -> DbrnView:
        return settings.prep

    @classmethod
    def inputs(cls, settings: Settings, setting: str) -> dict[str, Path | None]:
        texture, weights = settings.texture, settings.swin.pretrained
        if weights:
            advice = "it takes a checkpoint of Swin-T or Swin-Unet; leave it out to start from none"
            weights = existing(weights, "dbrn.swin.pretrained", advice)
        used = "rgb" in setting and settings.train.steps > 0
        folder = texture_folder(texture.source, texture.folder, "dbrn.texture") if used else None
        return {"texture.folder": folder, "swin.pretrained": weights}
