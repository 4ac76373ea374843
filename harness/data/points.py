"""What the points of a scan give away of the tool that wrote them.

Some write a number where the sensor saw nothing, others the cloud's columns for its rows. Both can
be told from the points alone, without knowing sensor or scene.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

COARSE = 128  # points a side that are looked at
FEWEST = 64  # of them, for a judgement
REPEATED = 8  # points with one value, for a judgement
SHARED = 0.01  # share of the points from which one value of many pixels is no chance
BEYOND = 1.5  # times the 99th percentile of the other depths: nothing of the scene
CROSSED = 2.0  # times the pull along the right direction of the image
WIDEST = 20.0  # times its depth: no lens sees a scene so wide
EXPLAINED = 0.5  # share of the variance that the pixel's place explains, in a cloud with an order


class StandIn(NamedTuple):
    """What many pixels hold in place of a depth."""

    value: str
    share: float  # of the valid points
    max_depth: float  # m, a limit that takes them as missing; 0: there is none


def stand_in(xyz: np.ndarray, valid: np.ndarray) -> StandIn | None:
    """One point at many pixels, a z of 0, or one depth far behind all others.

    xyz (H, W, 3) in metres, valid (H, W): where it is not (0, 0, 0)
    """
    points = _coarse(xyz)[_coarse(valid)]
    if len(points) < FEWEST:
        return None
    z = points[:, 2]
    values, counts = np.unique(z, return_counts=True)
    for value in dict.fromkeys((values[-1], values[0], values[counts.argmax()], z.dtype.type(0))):
        same = z == value
        share = float(same.mean())
        if share < SHARED or same.sum() < REPEATED:
            continue
        if share == 1:
            return None  # a flat plate, or nothing to compare with
        usual = float(np.percentile(z[~same], 99))
        one = not np.ptp(points[same], axis=0).any()
        if value == 0 and not one and (z < 0).mean() > SHARED:
            continue  # an axis that runs through 0, so no depth
        near = 0 < value * BEYOND < float(np.percentile(z[~same], 1))
        if one or value == 0 or near or value > BEYOND * usual > 0:
            limit = 2 * usual if value <= 0 else min(2 * usual, (usual + float(value)) / 2)
            text = ", ".join(f"{v:.6g}" for v in points[same][0]) if one else f"{value:.6g} m away"
            return StandIn(
                f"({text})" if one else text,
                share,
                limit if usual > 0 and not 0 < value <= usual else 0.0,
            )
    return None


class Order(NamedTuple):
    """How x and y follow the place in the image."""

    pull: np.ndarray  # (3, 2): of column, row and 1, on x and y
    told: np.ndarray  # (2,) bool: whether the place explains x, and y


def orders(xyz: np.ndarray, valid: np.ndarray) -> list[Order]:
    """Of x and y as they are, and divided by z; none where there is too little to judge.

    In the camera's frame x grows with the column and y with the row: exactly if divided by z, and
    in a parallel projection as they are. Clouds that are right in either way are right.
    """
    return [_order(*way) for way in _ways(xyz, valid)]


def crossed(ways: list[Order]) -> bool:
    """Whether x follows the image's rows or y its columns, as in a transposed cloud."""
    across = [
        np.array([pull[1, 0] > CROSSED * pull[0, 0], pull[0, 1] > CROSSED * pull[1, 1]])
        for pull in (np.abs(way.pull) for way in ways)
    ]
    return bool(ways) and all((a & way.told).any() for a, way in zip(across, ways))


def mirrored(ways: list[Order]) -> tuple[bool, bool]:
    """Whether x falls from left to right, and y from the top down, as in a cloud that is turned."""
    falls = [(np.diag(way.pull[:2]) < 0) & way.told for way in ways]
    x, y = (bool(ways) and all(f[i] for f in falls) for i in (0, 1))
    return x, y


def no_cloud(xyz: np.ndarray, valid: np.ndarray) -> str:
    """Why these are no points of a scene that a camera saw; "" if nothing says so."""
    points = _coarse(xyz)[_coarse(valid)]
    if len(points) < FEWEST:
        return ""
    if not np.ptp(points, axis=1).any():
        return "x, y and z are one and the same number"
    low, high = np.percentile(points[:, :2], (5, 95), axis=0)
    if still := [axis for axis, span in zip("xy", high - low) if span == 0]:
        return f"{' and '.join(still)} {'are' if len(still) > 1 else 'is'} the same everywhere"
    depth, wide = float(np.median(points[:, 2])), float((high - low).max())
    return f"x and y span {wide:.3g} at a depth of {depth:.3g}" if wide > WIDEST * depth > 0 else ""


def _ways(xyz: np.ndarray, valid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places (N, 3): column, row, 1, with x and y (N, 2) as they are, and divided by z."""
    part = _coarse(xyz)
    rows, columns = np.nonzero(_coarse(valid) & _varied(part[..., 2]))
    if len(rows) < FEWEST:
        return []
    points = part[rows, columns].astype(np.float64)
    z = points[:, 2]
    ways = [points[:, :2]]
    if (z > 0).all():
        ways.append(points[:, :2] / z[:, None])
    places = np.stack([columns, rows, np.ones_like(rows)], axis=1).astype(np.float64)
    return [(places, way) for way in ways]


def _varied(z: np.ndarray) -> np.ndarray:
    """Where a depth is not the most common one, which may stand for none; all, if hardly any is."""
    values, counts = np.unique(z[z != 0], return_counts=True)
    others = z != values[counts.argmax()] if len(values) else z == z
    return others if others.mean() > SHARED else np.ones_like(others)


def _order(places: np.ndarray, xy: np.ndarray) -> Order:
    found, *_ = np.linalg.lstsq(places, xy, rcond=None)
    left = ((xy - places @ found) ** 2).sum(axis=0)
    all_ = ((xy - xy.mean(axis=0)) ** 2).sum(axis=0)
    return Order(found, left < (1 - EXPLAINED) * all_)


def digest(xyz: np.ndarray) -> bytes:
    """Of some of the points: no two scans of a sensor have all their noise alike."""
    return hashlib.blake2b(_coarse(xyz).tobytes(), digest_size=16).digest()


def _coarse(array: np.ndarray) -> np.ndarray:
    step = -(-max(array.shape[:2]) // COARSE)
    return array[::step, ::step]
