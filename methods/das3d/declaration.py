"""DAS3D as a plan knows it."""

from __future__ import annotations

from pathlib import Path

from methods.blocks.texture_choice import texture_folder
from methods.das3d.settings import Settings
from methods.declaration import DeclaredMethod, Preparation
from methods.views import Das3dView


class Das3d(DeclaredMethod):
    name = "das3d"
    Settings = Settings
    # Eyecandies (methods/das3d/README.md, section 1): M3DM's converter in place of RANSAC.
    prepared = {"eyecandies": Preparation({"geometry": "m3dm"}, {"background": "removed"})}
    variants = {
        "no_skew_no_dropout": {"skew.enabled": False, "p_d": 0.0},  # Table 6
        "skew_only": {"p_d": 0.0},
        "dropout_only": {"skew.enabled": False},
        "untrained": {"train.steps": 0},
    }
    validates = True

    @classmethod
    def view(cls, settings: Settings, setting: str) -> Das3dView:
        return settings.prep

    @classmethod
    def inputs(cls, settings: Settings, setting: str) -> dict[str, Path | None]:
        used = "rgb" in setting and settings.train.steps > 0
        texture = settings.texture
        folder = texture_folder(texture.source, texture.folder, "das3d.texture") if used else None
        return {"texture.folder": folder}
