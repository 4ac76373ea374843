"""The ten kinds of defect: what each does to the height and the albedo of an object.

Drawing fixes a defect once, in object coordinates and metres; imprinting it then works on a
raster of any spacing. Lengths in metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from .noise import Noise, smoothstep
from .render import ON_OBJECT_M, Raster
from .shapes import MM

# What a kind must leave as it was; every other kind may show in both.
EXCLUDES = {"color": "depth", "geometry_only": "colour"}

STAINS = {
    "grease": (0.10, 0.09, 0.08),
    "chalk": (0.88, 0.88, 0.85),
    "green": (0.16, 0.42, 0.18),
    "blue": (0.14, 0.22, 0.52),
    "rust": (0.50, 0.20, 0.08),
}
HOLE_COLOUR = (0.12, 0.09, 0.07)
CRACK_COLOUR = (0.10, 0.07, 0.05)
SEPARATION_M = 3 * MM  # between the parts of a combined defect


@dataclass(frozen=True)
class Imprint:
    """The part of a raster that a defect may change, as it is afterwards."""

    box: tuple[slice, slice]
    height: np.ndarray
    albedo: np.ndarray
    level: np.ndarray  # float32, > 0 where the surface counts as defective


@dataclass(frozen=True)
class Defect:
    """change(s (1, n), t (m, 1), height, albedo) -> height, albedo, level over a part."""

    kind: str
    centre: tuple[float, float]
    reach: float  # the change stays within this distance of the centre along s and t
    change: Callable
    drawn: dict = field(default_factory=dict)

    def imprint(self, raster: Raster) -> Imprint:
        s0, t0 = self.centre
        columns = slice(*np.searchsorted(raster.s, (s0 - self.reach, s0 + self.reach)))
        rows = slice(*np.searchsorted(raster.t, (t0 - self.reach, t0 + self.reach)))
        box = rows, columns
        before = raster.height[box]
        height, albedo, level = self.change(
            raster.s[None, columns], raster.t[rows, None], before, raster.albedo[box]
        )
        height = np.where(before > 0, np.maximum(height, 0), 0).astype(np.float32)
        return Imprint(box, height, albedo.astype(np.float32), level.astype(np.float32))


def imprinted(raster: Raster, imprints) -> Raster:
    """The raster with defects; they are apart, so each can be copied in whole."""
    height, albedo = raster.height.copy(), raster.albedo.copy()
    for imprint in imprints:
        changed = imprint.level > 0
        height[imprint.box][changed] = imprint.height[changed]
        albedo[imprint.box][changed] = imprint.albedo[changed]
    return Raster(raster.s, raster.t, height, albedo)


def draw(kind: str, rng, raster: Raster, in_view, parts: tuple[str, ...] = ()) -> list[Defect]:
    """Draw a defect somewhere on the visible object; one for each part if it is combined.

    `raster` must be the one of the reference resolution whatever the output's, since places
    are chosen among its cells. in_view (T, S): the camera sees this cell. Empty if a combined
    defect found no places apart.
    """
    if kind == "missing":
        return [_missing(rng, raster, in_view)]
    if kind != "combined":
        return [_at(kind, rng, raster, in_view)]
    kinds = rng.choice(parts, size=min(len(parts), rng.integers(2, 4)), replace=False)
    defects, taken = [], np.zeros(raster.height.shape, bool)
    for part in sorted(kinds.tolist()):
        defect = _at(part, rng, raster, in_view)
        imprint = defect.imprint(raster)
        if (taken[imprint.box] & (imprint.level > 0)).any():
            return []
        taken[imprint.box] |= imprint.level > 0
        taken = _distance(~taken, raster) < SEPARATION_M
        defects.append(defect)
    return defects


def _at(kind, rng, raster, in_view) -> Defect:
    centre = _place(rng, raster, in_view)
    turn = rng.uniform(0, np.pi)
    if kind in ("crack", "cut"):
        return _line(kind, rng, centre, turn)
    return _blob(kind, rng, centre, turn)


def _place(rng, raster, in_view):
    """A point of the object in view that is 2 mm high, like everything 4 mm around it."""
    solid = np.pad(raster.height > 2 * MM, 1)
    allowed = (_distance(solid, raster)[1:-1, 1:-1] > 4 * MM) & in_view
    cells = np.flatnonzero(allowed if allowed.any() else in_view)
    row, column = np.unravel_index(rng.choice(cells), allowed.shape)
    return float(raster.s[column]), float(raster.t[row])


def _distance(inside, raster) -> np.ndarray:
    """From each cell inside to the nearest cell outside, in metres."""
    step = raster.s[1] - raster.s[0]
    return step * cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _local(s, t, centre, turn):
    """Coordinates along and across the defect."""
    ds, dt = s - centre[0], t - centre[1]
    c, n = np.cos(turn), np.sin(turn)
    return c * ds + n * dt, c * dt - n * ds


def _tint(albedo, colour, alpha):
    return albedo + alpha[..., None] * (np.asarray(colour) - albedo)


def _blob(kind, rng, centre, turn) -> Defect:
    a, b = rng.uniform(2.2, 7.5) * MM, rng.uniform(2.2, 5.5) * MM
    ragged = Noise(rng, 4 * MM)
    drawn, change = _BLOBS[kind](rng)

    def whole(s, t, height, albedo):
        u, v = _local(s, t, centre, turn)
        edge = 1 + 0.18 * np.clip(ragged.on_grid(s[0], t[:, 0]), -2, 2)
        rho = np.hypot(u / a, v / b) * edge
        return *change(rho, s, t, height, albedo), 1 - rho

    drawn = {"a_m": a, "b_m": b, "turn_rad": turn, **drawn}
    return Defect(kind, centre, 1.6 * max(a, b), whole, drawn)


def _hole(rng):
    depth = rng.uniform(3, 9) * MM

    def change(rho, s, t, height, albedo):
        profile = np.maximum(1 - rho**6, 0)
        dug = height - np.minimum(depth * profile, 0.97 * height)
        return dug, _tint(albedo, HOLE_COLOUR, 0.65 * profile)

    return {"depth_m": depth}, change


def _dent(rng, sign=-1):
    size = rng.uniform(0.7, 2.6) * MM

    def change(rho, s, t, height, albedo):
        return height + sign * size * np.maximum(1 - rho**2, 0) ** 2, albedo

    return {"height_m": sign * size}, change


def _bump(rng):
    return _dent(rng, sign=1)


def _geometry_only(rng):
    return _dent(rng, sign=int(rng.choice((-1, 1))))


def _contamination(rng):
    slab = rng.uniform(0.3, 1.2) * MM if rng.uniform() < 0.5 else 0.0
    stain, alpha = str(rng.choice(list(STAINS))), rng.uniform(0.35, 0.85)
    mottle = Noise(rng, 1.5 * MM)

    def change(rho, s, t, height, albedo):
        profile = np.maximum(1 - rho**4, 0)
        uneven = np.clip(alpha * (1 + 0.25 * mottle.on_grid(s[0], t[:, 0])), 0, 1)
        uneven = uneven * smoothstep(rho, 1.0, 0.85)
        return height + slab * profile, _tint(albedo, STAINS[stain], uneven)

    return {"slab_m": slab, "stain": stain, "alpha": alpha}, change


def _color(rng):
    colour, alpha = rng.uniform(0.05, 0.9, 3).tolist(), rng.uniform(0.12, 0.35)

    def change(rho, s, t, height, albedo):
        return height, _tint(albedo, colour, alpha * smoothstep(rho, 1.0, 0.6))

    return {"colour": colour, "alpha": alpha}, change


_BLOBS = {
    "hole": _hole,
    "dent": _dent,
    "bump": _bump,
    "geometry_only": _geometry_only,
    "contamination": _contamination,
    "color": _color,
}


def _line(kind, rng, centre, turn) -> Defect:
    """A crack bends and has a soft profile; a cut is straight, wider and V-shaped."""
    length, width = rng.uniform(10, 28) * MM, rng.uniform(0.4, 1.1) * MM
    depth, sway = rng.uniform(0.8, 2.6) * MM, rng.uniform(0.6, 2.0) * MM
    course = Noise(rng, 7 * MM)
    if kind == "cut":
        width, sway = 1.3 * width, 0.0
    knots = np.linspace(-length / 2, length / 2, 113)
    course = sway * course.on_line(knots)
    course = course - course.mean()
    slope = np.gradient(course, knots)

    def change(s, t, height, albedo):
        u, v = _local(s, t, centre, turn)
        aside = (v - np.interp(u, knots, course)) / np.hypot(1, np.interp(u, knots, slope))
        distance = np.hypot(aside, np.maximum(np.abs(u) - length / 2, 0))
        soft = np.exp(-((distance / width) ** 2))
        groove = soft if kind == "crack" else np.maximum(1 - distance / (1.3 * width), 0)
        tinted = _tint(albedo, CRACK_COLOUR, 0.55 * soft)
        return height - depth * groove, tinted, 1.3 * width - distance

    drawn = {
        "length_m": length,
        "width_m": width,
        "depth_m": depth,
        "sway_m": sway,
        "turn_rad": turn,
    }
    reach = length / 2 + float(np.abs(course).max()) + 2 * width
    return Defect(kind, centre, reach, change, drawn)


def _missing(rng, raster, in_view) -> Defect:
    """A piece broken off along a ragged line; its share is of the object in view."""
    turn, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.07)
    ragged = Noise(rng, 6 * MM)

    def along(s, t):
        return s * np.cos(turn) + t * np.sin(turn) + 0.8 * MM * ragged.on_grid(s, t[:, 0])

    whole = along(raster.s, raster.t[:, None])
    border = float(np.quantile(whole[(raster.height > ON_OBJECT_M) & in_view], 1 - share))

    def change(s, t, height, albedo):
        beyond = along(s[0], t) - border
        return np.where(beyond > 0, 0, height), albedo, beyond

    drawn = {"turn_rad": turn, "share": share, "border_m": border}
    return Defect("missing", (0.0, 0.0), 1.0, change, drawn)
