"""What a pinhole camera sees of a height field on a plane: geometry and noise-free colour.

Camera coordinates in metres, x right, y down, z away from the camera. Object coordinates
(s, t) lie in the plane, heights h rise from it towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

FIELD_OF_VIEW_M = 0.13  # across the image width, at the camera's distance
ON_OBJECT_M = 1e-4  # a pixel higher than this above the plane shows the object
WALL_M = 2e-4  # heights that still change by more have not converged
WHOLE = (slice(None), slice(None))


@dataclass(frozen=True)
class Camera:
    width: int
    height: int
    distance_m: ClassVar[float] = 0.60
    edge_px: ClassVar[float] = 0.5  # from the image's edge to the middle of its first pixel

    @property
    def f(self) -> float:
        return self.width * self.distance_m / FIELD_OF_VIEW_M

    @property
    def cx(self) -> float:
        return self.width / 2 - self.edge_px

    @property
    def cy(self) -> float:
        return self.height / 2 - self.edge_px

    @property
    def pitch_m(self) -> float:
        """Side of a pixel at distance_m."""
        return FIELD_OF_VIEW_M / self.width

    def rays(self, window=WHOLE) -> np.ndarray:
        """Directions (h, w, 3) with z = 1 of the pixels in a window of (rows, columns)."""
        v = (np.arange(self.height)[window[0]] - self.cy) / self.f
        u = (np.arange(self.width)[window[1]] - self.cx) / self.f
        return np.stack([*np.meshgrid(u, v), np.ones((len(v), len(u)))], axis=-1)


@dataclass(frozen=True)
class NearCamera(Camera):
    """The camera of Eyecandies: f = 711.11 px at 512 px width, principal point (W / 2, H / 2).

    Its wider angle shows the same field of view from nearer.
    """

    distance_m: ClassVar[float] = FIELD_OF_VIEW_M * 711.11 / 512
    edge_px: ClassVar[float] = 0.0


@dataclass(frozen=True)
class Pose:
    """Plane normal . P = distance, and the object's axes and origin in it."""

    normal: np.ndarray  # (3,), points away from the camera
    distance: float
    axis_s: np.ndarray  # (3,)
    axis_t: np.ndarray  # (3,)
    origin: tuple[float, float]  # (s, t) coordinates of a point P are P.axis - origin

    @classmethod
    def on_plane(cls, normal, depth: float, turn: float, shift) -> Pose:
        """Object turned by `turn` rad and shifted by (a, b) metres from P0 = (0, 0, depth)."""
        e1 = np.cross((0.0, 1.0, 0.0), normal)
        e1 /= np.linalg.norm(e1)
        e2 = np.cross(normal, e1)
        c, s = np.cos(turn), np.sin(turn)
        axis_s, axis_t = c * e1 + s * e2, c * e2 - s * e1
        a, b = shift
        origin = (depth * axis_s[2] + c * a + s * b, depth * axis_t[2] + c * b - s * a)
        return cls(normal, depth * normal[2], axis_s, axis_t, origin)

    def points(self, s, t, h):
        """Camera coordinates of object coordinates."""
        s, t, h = (np.asarray(x)[..., None] for x in (s, t, h))
        return (
            (s + self.origin[0]) * self.axis_s
            + (t + self.origin[1]) * self.axis_t
            + (self.distance - h) * self.normal
        )


@dataclass(frozen=True)
class Raster:
    """A height field and its albedo on a regular grid of object coordinates."""

    s: np.ndarray  # (S,) metres, evenly spaced
    t: np.ndarray  # (T,)
    height: np.ndarray  # (T, S) float32 metres, 0 off the object
    albedo: np.ndarray  # (T, S, 3) float32, linear

    @property
    def peak(self) -> float:
        return float(self.height.max())

    def look_up(self, field, s, t, outside: float = 0.0):
        """Bilinear values of `field` (T, S[, 3]) at points; `outside` beyond the grid."""
        return look_up(field, self.s, self.t, s, t, outside)


def look_up(field, axis_s, axis_t, s, t, outside: float = 0.0):
    import cv2

    step = axis_s[1] - axis_s[0]
    x = ((s - axis_s[0]) / step).astype(np.float32)
    y = ((t - axis_t[0]) / step).astype(np.float32)
    return cv2.remap(
        field,
        x,
        y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(outside,) * 3,
    )


@dataclass(frozen=True)
class Sight:
    """The surface point that each pixel of a window sees, all (h, w)."""

    rays: np.ndarray  # (h, w, 3)
    s: np.ndarray
    t: np.ndarray
    h: np.ndarray
    z: np.ndarray

    @property
    def on_object(self):
        return self.h > ON_OBJECT_M


def see(raster: Raster, pose: Pose, rays) -> Sight:
    """Intersect rays with the height field by a fixed-point iteration on the height."""
    towards, along_s, along_t = (rays @ v for v in (pose.normal, pose.axis_s, pose.axis_t))

    def locate(h, part=WHOLE):
        z = (pose.distance - h) / towards[part]
        return z, z * along_s[part] - pose.origin[0], z * along_t[part] - pose.origin[1]

    h = np.zeros(towards.shape)
    z, s, t = locate(h)
    length = np.linalg.norm(rays, axis=-1)
    part = _rectangle_around(raster, s, t, float(np.sqrt((length / towards).max() ** 2 - 1)))
    if part is not None:
        near = h[part]
        for _ in range(8):
            near = 0.5 * near + 0.5 * raster.look_up(raster.height, *locate(near, part)[1:])
        for _ in range(2):
            near = raster.look_up(raster.height, *locate(near, part)[1:]).astype(float)
        h[part] = near = _onto_walls(near, raster, lambda h: locate(h, part)[1:])
        z[part], s[part], t[part] = locate(near, part)
    return Sight(rays, s, t, h, z)


def _onto_walls(h, raster, place):
    """Where a ray meets a wall the iteration jumps between its foot and its top: bisect there."""
    astray = np.abs(raster.look_up(raster.height, *place(h)) - h) > WALL_M
    low, high = np.zeros_like(h), np.full_like(h, raster.peak)
    for _ in range(10 if astray.any() else 0):
        middle = (low + high) / 2
        under = raster.look_up(raster.height, *place(middle)) > middle
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.where(astray, (low + high) / 2, h)


def _rectangle_around(raster, s, t, steepest: float):
    """Rows and columns that may see the object, from where the rays meet the plane.

    steepest: tangent of the largest angle between a ray and the plane's normal.
    """
    slant = steepest * raster.peak
    close = (s > raster.s[0] - slant) & (s < raster.s[-1] + slant)
    close &= (t > raster.t[0] - slant) & (t < raster.t[-1] + slant)
    rows, columns = np.flatnonzero(close.any(1)), np.flatnonzero(close.any(0))
    if not rows.size:
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def normals(sight: Sight) -> np.ndarray:
    """Unit normals (h, w, 3) towards the camera, from image gradients of the points."""
    points = sight.rays * sight.z[..., None]
    down, right = np.gradient(points, axis=(0, 1))
    normal = _cross(down, right)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def _cross(a, b):
    # np.cross is several times slower on arrays with a short last axis.
    ax, ay, az = np.moveaxis(a, -1, 0)
    bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


@dataclass(frozen=True)
class Light:
    direction: np.ndarray  # (3,) unit, from the surface towards the light
    specular: float
    ambient: float = 0.5
    diffuse: float = 0.55


def shade(sight: Sight, normal, albedo, light: Light, pitch_m: float) -> np.ndarray:
    """Linear colour (h, w, 3): diffuse with an ambient part, a highlight, a contact shadow."""
    import cv2

    to_camera = -sight.rays / np.linalg.norm(sight.rays, axis=-1, keepdims=True)
    half = light.direction + to_camera
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    diffuse = light.ambient + light.diffuse * np.maximum(normal @ light.direction, 0)
    highlight = light.specular * np.maximum(np.einsum("hwc,hwc->hw", normal, half), 0) ** 40
    off = (~sight.on_object).astype(np.uint8)
    distance = cv2.distanceTransform(off, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * pitch_m
    contact = np.where(off, 1 - 0.4 * np.exp(-distance / 0.005), 1)
    return albedo * (diffuse * contact)[..., None] + highlight[..., None]
