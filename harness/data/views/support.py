"""What lies on a supporting plane, whatever the sensor: found in all points of the scan.

The published recipes look for the plane in the frame of the image, with distances that fit one
scanner above one conveyor. Here the plane is the one with most points on it and fewest beyond it
(RANSAC, refitted), and every distance follows from the scan: its noise is that of the points
beyond the plane, where nothing can lie, and grows with the square of the depth. What stands out
on the camera's side of it is the object, all its pieces, if it stands on what is seen of the
plane. harness/data/README.md, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import ConvexHull, QhullError

HYPOTHESES = 1000  # planes through three points
JUDGED = 4000  # points that they are judged by
AT_ONCE = 16  # of them, so that their heights stay in the processor's cache
FITTED = 20000  # points that the best one is fitted to
FITS = 5  # times: the points near it, the plane through them, their noise
NOISES = 4.0  # standard deviations within which a point lies on the plane
FOOT = 2.0  # the same beside an object, whose foot is hardly higher than the plane
LEAST_NOISE_M = 2e-5  # below that of any sensor; made scenes may have none
WINDOW_PX = 5  # a pixel above the plane needs others around it
CROWD = 0.2  # share of the valid pixels of its window that have to be above, too
REACH = 3.0  # pieces closer than this many pitches and noises are one object
LEAST_PIECE = 0.01  # pieces smaller than this share of the largest are dust
LEAST_PX = 20
ON_HULL = 0.5  # share of a piece that must stand on what is seen of the plane
TILE_PX = 16  # noise is alike within tiles of this side: they count as one observation

NOTHING = "nothing stands on the plane"
BEYOND = "of the points lie beyond the plane"

# Flags: outside of these the result is told as doubtful.
LEAST_INLIERS = 0.1  # share of the valid points on the plane
MOST_BEYOND = 0.05  # share of the valid points beyond the plane
MOST_ERROR_DEG = 0.5  # standard error of the plane's angle
MOST_RIVAL = 0.4  # points of the next best plane, as a share of those of the best


@dataclass(frozen=True)
class Support:
    """The plane under the objects of one scan, and how sure it is.

    plane (4,): unit normal towards the camera and distance, metres; above (H, W) bool: pixels of
    the objects; region (H, W) bool: the same and what is missing in them
    """

    plane: np.ndarray
    above: np.ndarray
    region: np.ndarray
    noise_m: float  # standard deviation of the points about the plane, at the median depth
    pitch_m: float  # between the points of neighbouring pixels
    inliers: float  # share of the valid points that lie on the plane
    beyond: float  # share of the valid points that lie beyond it
    error_deg: float  # standard error of the plane's angle: large for a thin strip
    rival: float  # points of the next best plane, as a share of those of this one

    @property
    def object(self) -> float:
        """Share of the image that the objects cover."""
        return float(self.region.mean())

    @property
    def doubts(self) -> list[str]:
        """Why the plane may not be the supporting one; empty if nothing speaks against it."""
        said = (
            (
                self.inliers < LEAST_INLIERS,
                f"only {self.inliers:.0%} of the points lie on the plane",
            ),
            (self.beyond > MOST_BEYOND, f"{self.beyond:.0%} {BEYOND}"),
            (
                self.error_deg > MOST_ERROR_DEG,
                f"what is seen of the plane is too narrow: its angle is uncertain by "
                f"{self.error_deg:.1f} degrees",
            ),
            (self.object == 0, NOTHING),
            (
                self.rival > MOST_RIVAL,
                f"another plane has {self.rival:.0%} as many points",
            ),
        )
        return [text for wrong, text in said if wrong]


def find(xyz: np.ndarray, seed: int) -> Support | None:
    """The supporting plane and the objects on it of an organised cloud (H, W, 3) float32.

    None without three points that span a plane. The same cloud and seed give the same result.
    """
    rng = np.random.default_rng(seed)
    z = np.ascontiguousarray(xyz[..., 2])
    valid = z > 0
    if np.count_nonzero(valid) < 3:
        return None
    points = xyz[valid].astype(np.float64)
    scale = (points[:, 2] / np.median(points[:, 2])) ** 2  # of the noise, with the depth
    pitch, noise = pitch_of(xyz, valid), noise_of(z, valid)
    some = _some(len(points), FITTED, rng)
    few = _some(len(some), JUDGED, rng)
    found = _best(points[some][few], scale[some][few], noise, rng)
    if found is None:
        return None
    plane, rival = found
    plane, noise = _refitted(plane, points[some], scale[some], noise)

    height = np.zeros(z.shape, np.float32)
    height[valid] = (points @ plane[:3] + plane[3]) / scale
    on = valid & (np.abs(height) <= NOISES * noise)
    above = valid & (height > NOISES * noise)
    total = np.count_nonzero(valid)
    beyond = np.count_nonzero(height < -NOISES * noise) / total
    above = _standing(above, valid, on, xyz, plane, reach_px(pitch, noise))
    beside = cv2.dilate(above.astype(np.uint8), np.ones((WINDOW_PX, WINDOW_PX), np.uint8)) > 0
    above |= beside & valid & (height > FOOT * noise)
    return Support(
        plane,
        above,
        _closed(above, valid, reach_px(pitch, noise)),
        noise,
        pitch,
        np.count_nonzero(on) / total,
        beyond,
        _error_deg(xyz, on, height * scale_image(z, valid, scale)),
        rival,
    )


def scale_image(z: np.ndarray, valid: np.ndarray, scale: np.ndarray) -> np.ndarray:
    image = np.zeros(z.shape, np.float32)
    image[valid] = scale
    return image


def reach_px(pitch: float, noise: float) -> int:
    """Pixels between which two points may be parts of one object."""
    return int(np.clip(np.ceil(REACH * (pitch + noise) / pitch), 2, 15))


def pitch_of(xyz: np.ndarray, valid: np.ndarray) -> float:
    """Median distance (m) across the line of sight between the points of neighbouring pixels."""
    side = xyz[:, 1:, :2] - xyz[:, :-1, :2]
    both = valid[:, 1:] & valid[:, :-1]
    if not both.any():
        return 1e-3
    return max(float(np.median(np.hypot(side[..., 0][both], side[..., 1][both]))), 1e-6)


def noise_of(z: np.ndarray, valid: np.ndarray) -> float:
    """Standard deviation (m) of the depth, from how it bends from pixel to pixel.

    A sensor with coarse depth steps bends nowhere but at them: their size tells then.
    """
    bend = z[:, 2:] - 2 * z[:, 1:-1] + z[:, :-2]
    known = valid[:, 2:] & valid[:, 1:-1] & valid[:, :-2]
    noise = np.percentile(np.abs(bend[known]), 68) / np.sqrt(6) if known.any() else 0.0
    step = np.abs(z[:, 1:] - z[:, :-1])[valid[:, 1:] & valid[:, :-1]]
    step = step[step > 0]
    steps = np.percentile(step, 10) / np.sqrt(12) if step.size else 0.0
    return max(float(noise), float(steps), LEAST_NOISE_M)


def _some(n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _best(
    points: np.ndarray, scale: np.ndarray, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, float] | None:
    """The plane (4,) with most points on it less those beyond it, and its rival's share."""
    three = points[rng.integers(0, len(points), (HYPOTHESES, 3))]
    normal = np.cross(three[:, 1] - three[:, 0], three[:, 2] - three[:, 0])
    length = np.linalg.norm(normal, axis=1)
    spans = length > 0
    if not spans.any():
        return None
    normal = normal[spans] / length[spans, None]
    distance = -(normal * three[spans, 0]).sum(axis=1)
    towards = np.where(distance < 0, -1.0, 1.0)  # the camera, at the origin, is above the plane
    normal, distance = normal * towards[:, None], distance * towards
    heights = normal @ points.T  # (hypotheses, points); from here on in place, few at a time
    on, score = np.empty(heights.shape, bool), np.empty(len(heights), np.int64)
    for rows in (slice(i, i + AT_ONCE) for i in range(0, len(heights), AT_ONCE)):
        height = heights[rows]
        height += distance[rows, None]
        height /= scale
        beyond = _counts(height < -NOISES * noise)
        np.less_equal(np.abs(height, out=height), NOISES * noise, out=on[rows])
        score[rows] = _counts(on[rows]) - beyond
    best = int(score.argmax())
    rivals = _counts(on & ~on[best])
    rival = float(rivals.max() / max(np.count_nonzero(on[best]), 1))
    return np.append(normal[best], distance[best]), rival


def _counts(rows: np.ndarray) -> np.ndarray:
    """How many are true in each row; one by one, which NumPy does far faster than along an axis."""
    return np.array([np.count_nonzero(row) for row in rows])


def _refitted(
    plane: np.ndarray, points: np.ndarray, scale: np.ndarray, noise: float
) -> tuple[np.ndarray, float]:
    """The plane through the points near it, and their noise, in turn.

    The noise is told by the points beyond the plane: objects are on its other side.
    """
    for _ in range(FITS):
        height = (points @ plane[:3] + plane[3]) / scale
        near = np.abs(height) <= NOISES * noise
        if np.count_nonzero(near) < 3:
            break
        plane = _fit(points[near], 1 / scale[near])
        height = (points @ plane[:3] + plane[3]) / scale
        under = -height[(height < 0) & (height > -2 * NOISES * noise)]
        if under.size:
            noise = float(np.clip(1.4826 * np.median(under), noise / 2, noise * 2))
        noise = max(noise, LEAST_NOISE_M)
    return plane, noise


def _fit(points: np.ndarray, weight: np.ndarray) -> np.ndarray:
    weight = weight / weight.sum()
    centre = weight @ points
    offset = points - centre
    _, axes = np.linalg.eigh((offset * weight[:, None]).T @ offset)
    normal = axes[:, 0]
    distance = -normal @ centre
    return np.append(normal, distance) * (-1.0 if distance < 0 else 1.0)


def _standing(
    above: np.ndarray,
    valid: np.ndarray,
    on: np.ndarray,
    xyz: np.ndarray,
    plane: np.ndarray,
    reach: int,
) -> np.ndarray:
    """Of the pixels above the plane those of objects that stand on it, without dust."""
    around = (WINDOW_PX, WINDOW_PX)
    count, of = (
        cv2.boxFilter(a.astype(np.float32), -1, around, normalize=False) for a in (above, valid)
    )
    above = above & (count >= CROWD * of)
    joined = cv2.dilate(above.astype(np.uint8), _disc(reach / 2))
    n, label = cv2.connectedComponents(joined, connectivity=8)
    label = np.where(above, label, 0)
    size = np.bincount(label.ravel(), minlength=n)
    size[0] = 0
    keep = size >= max(LEAST_PX, LEAST_PIECE * size.max())
    if not keep.any():
        return np.zeros_like(above)
    inside = _over_plane(above, on, xyz, plane)
    if inside is not None:
        share = np.bincount(label[inside], minlength=n) / np.maximum(size, 1)
        if (keep & (share >= ON_HULL)).any():
            keep &= share >= ON_HULL
    return keep[label]


def _over_plane(
    above: np.ndarray, on: np.ndarray, xyz: np.ndarray, plane: np.ndarray
) -> np.ndarray | None:
    """Pixels (H, W) of `above` whose feet are within the hull of the points on the plane.

    None where these do not span a hull.
    """
    _, _, axes = np.linalg.svd(plane[None, :3])
    across = axes[1:].T  # (3, 2), within the plane
    try:
        hull = ConvexHull(xyz[on].astype(np.float64) @ across)
    except (QhullError, ValueError):
        return None
    feet = xyz[above].astype(np.float64) @ across
    inside = np.zeros_like(above)
    inside[above] = (feet @ hull.equations[:, :2].T + hull.equations[:, 2] <= 0).all(axis=1)
    return inside


def _closed(above: np.ndarray, valid: np.ndarray, reach: int) -> np.ndarray:
    """`above` and the pixels that are missing in it: what the sensor saw else is not of it."""
    near = cv2.morphologyEx(above.astype(np.uint8), cv2.MORPH_CLOSE, _disc(reach))
    return above | ((near > 0) & ~valid)


def _disc(radius: float) -> np.ndarray:
    side = 2 * int(np.ceil(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _error_deg(xyz: np.ndarray, on: np.ndarray, height: np.ndarray) -> float:
    """Standard error of the plane's angle about the axis in which it is narrowest.

    Depth errors of neighbours are alike, so each tile of the image counts as one observation.
    """
    rows, columns = np.nonzero(on)
    if len(rows) < 3:
        return 90.0
    tile = rows // TILE_PX * (on.shape[1] // TILE_PX + 1) + columns // TILE_PX
    count = np.bincount(tile)
    means = np.bincount(tile, height[on])[count > 0] / count[count > 0]
    weight = count[count > 0] / len(rows)
    spread = np.sqrt(weight @ means**2)
    points = xyz[on].astype(np.float64)
    extent = np.linalg.eigvalsh(np.cov(points.T))[1]  # the middle one: across the strip
    tiles = 1 / (weight**2).sum()
    if extent <= 0:
        return 90.0
    return float(np.degrees(np.arctan(spread / np.sqrt(extent * max(tiles - 2, 1)))))
