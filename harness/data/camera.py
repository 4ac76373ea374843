"""The camera of depth images: ours is the file calibration/camera_parameters.json of a category."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from harness.data.files import read_json
from harness.data.importing.cameras import bends, intrinsics
from harness.data.samples import DataError

SQUARE = 2.0  # times, fx of fy or the other way round
CENTRE = 0.2  # of a side, from the middle: at half the resolution it is 0.25 away
SHORTEST = 0.2  # f, as a share of the longer side: 136 degrees, and no pinhole is wider
LONGEST = 50.0  # the same: 1.1 degrees, and no depth camera is narrower
NEEDED = ("fx", "fy", "cx", "cy", "depth_scale")


@dataclass(frozen=True)
class Intrinsics:
    """Our keys of camera_parameters.json: f, or fx and fy; cx, cy; depth_scale; size if given."""

    fx: float  # px
    fy: float
    cx: float  # px, pixel centres at integers
    cy: float
    depth_scale: float  # metres per unit of the depth PNGs
    height: float = 0  # px, of the images it is for; 0: not told
    width: float = 0
    bent: bool = False  # the lens has a distortion, which nothing takes out

    @classmethod
    def read(cls, path: Path) -> Intrinsics:
        given = read_json(path)
        bent = bends(given)
        given |= {axis: given["f"] for axis in ("fx", "fy") if "f" in given and axis not in given}
        if not set(NEEDED) <= set(given):  # the form of a driver, maybe
            given = intrinsics(given) | given
        if lacking := [name for name in NEEDED if name not in given]:
            raise DataError(
                f"{path} lacks {', '.join(lacking)}",
                "depth/ needs f (or fx and fy), cx and cy in "
                "pixels and depth_scale in metres per unit, e.g. 0.001",
                path,
            )
        values = {}
        for name in (f.name for f in fields(cls) if f.name in given and f.name != "bent"):
            try:
                if isinstance(given[name], bool):
                    raise TypeError
                values[name] = float(given[name])
            except (TypeError, ValueError) as error:
                text = f"{path}: {name} is {given[name]!r}"
                raise DataError(text, "give a plain number", path) from error
        if not min(values["fx"], values["fy"], values["depth_scale"]) > 0:
            raise DataError(f"{path}: f and depth_scale must be above 0", "correct them", path)
        if max(values["fx"], values["fy"]) > SQUARE * min(values["fx"], values["fy"]):
            raise DataError(
                f"{path}: fx {values['fx']:g} and fy {values['fy']:g} are of no camera",
                "correct them: pixels are about as wide as high",
                path,
            )
        return cls(**values, bent=bent)

    def off_centre(self, size: tuple[int, int]) -> bool:
        """Whether the principal point is far from the middle of images of a size not told."""
        places = (self.cy / size[0], self.cx / size[1])
        told = self.height and self.width
        return not told and max(abs(place - 0.5) for place in places) > CENTRE

    def check(self, size: tuple[int, int], path: Path) -> None:
        """DataError where they cannot be those of images of this size, rows and columns."""
        if (self.height or size[0], self.width or size[1]) != size:
            told = " x ".join(f"{n:g}" if n else "?" for n in (self.height, self.width))
            raise DataError(
                f"{path} is for {told} px, and images are {size[0]} x {size[1]}",
                "scale f, cx and cy with the images",
                path,
            )
        if not (self.height and self.width) and not (
            0 <= self.cx < size[1] and 0 <= self.cy < size[0]
        ):
            raise DataError(
                f"{path}: cx {self.cx:g}, cy {self.cy:g} lies outside of images of {size[0]} x "
                f"{size[1]} px",
                "scale f, cx and cy if they are of another resolution; if the images are cut out "
                'of larger ones give their size too: "height" and "width"',
                path,
            )
        if min(self.fx, self.fy) < SHORTEST * max(size):
            raise DataError(
                f"{path}: f of {min(self.fx, self.fy):g} px for {size[0]} x {size[1]} px, wider "
                "than any such lens: is it in millimetres?",
                "give pixels: millimetres divided by the width of the sensor, times the columns",
                path,
            )
        if max(self.fx, self.fy) > LONGEST * max(size):
            raise DataError(
                f"{path}: f of {max(self.fx, self.fy):g} px for {size[0]} x {size[1]} px, narrower "
                "than any such lens",
                "give pixels of these images",
                path,
            )
