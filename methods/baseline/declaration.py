"""The baselines as a plan knows them."""

from __future__ import annotations

from methods.baseline.settings import Settings
from methods.declaration import DeclaredMethod
from methods.views import PlainView


class Baseline(DeclaredMethod):
    name = "baseline"
    Settings = Settings
    variants = {cue: {"cue": cue} for cue in ("plane", "colour", "missing")}

    @classmethod
    def view(cls, settings: Settings, setting: str) -> PlainView:
        return settings.prep

    @classmethod
    def supported(cls, settings: Settings) -> tuple[str, ...]:
        return {
            "plane": ("3d", "rgb+3d"),
            "colour": ("rgb", "rgb+3d"),
            "both": ("rgb+3d",),
            "missing": ("3d", "rgb+3d"),
        }[settings.cue]
