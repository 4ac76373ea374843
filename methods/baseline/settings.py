"""Every constant of the baselines, its unit and why; all are ours (methods/baseline/README.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from methods.blocks.settings import choose, odd
from methods.views import PlainView

CUES = ("plane", "colour", "both", "missing")

_choose = partial(choose, "baseline")


@dataclass(frozen=True)
class Settings:
    prep: PlainView = PlainView()
    cue: str = "both"  # distance from the "plane" of normal samples, from their "colour", "both";
    #   "missing": depth that is missing where normal samples have it
    normal: str = "pixel"  # what is normal: by "pixel", or the same all over the "image"
    plane_noise_m: float = 0.0005  # added to the spread of heights: what structured light cannot
    #   tell after the view made scans smaller; half of the smallest defects that matter, 1 mm
    colour_noise: float = 2.0  # added to that of colours, in L*a*b*: 2.3 is what an eye just sees
    window: int = 15  # px, odd: maps are means over so wide a square (a defect of 6 % of the side)

    def __post_init__(self):
        _choose("cue", self.cue, CUES)
        _choose("normal", self.normal, ("pixel", "image"))
        odd("baseline", "window", self.window)
        for name in ("plane_noise_m", "colour_noise"):
            if getattr(self, name) <= 0:
                raise ValueError(f"baseline.{name} is {getattr(self, name)}; it must be above 0")

    @property
    def cues(self) -> tuple[str, ...]:
        return ("plane", "colour") if self.cue == "both" else (self.cue,)

    def noise(self, cue: str) -> float:
        return {"plane": self.plane_noise_m, "colour": self.colour_noise}[cue]
