"""A scene: everything drawn for one sample but its defects, and how a camera sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np

from .categories import CATEGORIES
from .noise import Noise
from .render import (
    FIELD_OF_VIEW_M,
    WHOLE,
    Camera,
    Light,
    NearCamera,
    Pose,
    Raster,
    Sight,
    normals,
    see,
    shade,
)
from .sensor import REFERENCE_PX, expose
from .shapes import MAKERS, MM

SAMPLES_PER_PX = 1.6  # spacing of the height raster


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def name_key(text: str) -> int:
    return crc32(text.encode())


@dataclass(frozen=True)
class Look:
    """A raster as seen in one window of a camera, free of noise."""

    raster: Raster
    sight: Sight
    normal: np.ndarray  # (h, w, 3)

    @property
    def cos_view(self):
        rays = self.sight.rays
        return -np.einsum("hwc,hwc->hw", self.normal, rays) / np.linalg.norm(rays, axis=-1)


class Scene:
    """Geometry, pose and light of a sample; the same whatever the resolution.

    camera: the kind of camera that looks at it. For a NearCamera the plane is a conveyor, which
    is tilted away from it about the x axis alone.
    """

    def __init__(
        self,
        category: str,
        split: str,
        defect: str,
        index: int,
        seed: int,
        camera: type[Camera] = Camera,
    ):
        self.category, self.camera = CATEGORIES[category], camera
        self.key = (seed, name_key(category), name_key(split), name_key(defect), index)
        self._draw_category(generator(seed, name_key(category), name_key("category")))
        rng = generator(*self.key)
        self._draw_pose(rng)
        self._draw_appearance(rng)
        self.body = MAKERS[category](rng, self.scale)
        self.rng = rng  # goes on to the defects

    def _draw_category(self, rng) -> None:
        self.tilt, self.tilt_towards = np.radians(rng.uniform(4, 9)), rng.uniform(0, 2 * np.pi)
        azimuth, slope = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 55))
        self.light_direction = np.array(
            [np.sin(slope) * np.cos(azimuth), np.sin(slope) * np.sin(azimuth), -np.cos(slope)]
        )
        self.ground = rng.uniform(0.16, 0.30) * (1 + rng.uniform(-0.08, 0.08, 3))

    def _draw_pose(self, rng) -> None:
        limit = np.pi if self.category.turns else np.radians(12)
        self.turn = rng.uniform(-limit, limit)
        self.shift = rng.uniform(-0.05, 0.05, 2) * FIELD_OF_VIEW_M
        self.scale = 1 + rng.uniform(-1, 1) * (0.004 if self.category.rigid else 0.04)
        self.depth = self.camera.distance_m + rng.normal(0, 0.002)
        lean = np.radians(rng.normal(0, 0.15, 2))
        towards = np.array([np.cos(self.tilt_towards), np.sin(self.tilt_towards)])
        if self.camera is NearCamera:
            lean[0], towards = 0, np.array([0, 1])
        normal = np.array([*(np.tan(self.tilt) * towards + lean), 1.0])
        normal /= np.linalg.norm(normal)
        self.pose = Pose.on_plane(normal, self.depth, self.turn, self.shift)

    def _draw_appearance(self, rng) -> None:
        direction = self.light_direction + 0.03 * rng.standard_normal(3)
        self.light = Light(direction / np.linalg.norm(direction), self.category.specular)
        self.gains = (1 + rng.normal(0, 0.035)) * (1 + rng.normal(0, 0.012, 3))
        self.ground_noise = Noise(rng, 14 * MM), Noise(rng, 1.4 * MM)
        self.salt_noise = Noise(rng, 12 * MM)

    def drawn(self) -> dict:
        """Everything drawn but the noise lattices, as plain numbers."""
        return {
            "turn_rad": self.turn,
            "shift_m": self.shift.tolist(),
            "scale": self.scale,
            "plane_normal": self.pose.normal.tolist(),
            "plane_depth_m": self.depth,
            "light": self.light.direction.tolist(),
            "gains": self.gains.tolist(),
            "object": self.body.drawn,
        }

    def raster(self, camera: Camera) -> Raster:
        """The defect-free object; never coarser than at the reference, to keep thin cracks."""
        if camera.width <= REFERENCE_PX:
            return self._reference_raster
        return self.body.rasterise(camera.pitch_m / SAMPLES_PER_PX)

    @cached_property
    def _reference_raster(self) -> Raster:
        return self.body.rasterise(FIELD_OF_VIEW_M / REFERENCE_PX / SAMPLES_PER_PX)

    def look(self, raster: Raster, camera: Camera, window=WHOLE) -> Look:
        sight = see(raster, self.pose, camera.rays(window))
        return Look(raster, sight, normals(sight))

    def exposed(self, look: Look, camera: Camera, window=WHOLE, light: Light | None = None):
        """Linear colour on the sensor (h, w, 3) under a light, the scene's own by default."""
        sight = look.sight
        unit = camera.distance_m / camera.f
        x = (np.arange(camera.width)[window[1]] - camera.cx) * unit
        y = (np.arange(camera.height)[window[0]] - camera.cy) * unit
        coarse, fine = (noise.on_grid(x, y) for noise in self.ground_noise)
        albedo = self.ground * np.maximum(1 + 0.1 * coarse + 0.1 * fine, 0.1)[..., None]
        on_object = sight.on_object
        albedo[on_object] = look.raster.look_up(look.raster.albedo, sight.s, sight.t)[on_object]
        linear = shade(sight, look.normal, albedo, light or self.light, camera.pitch_m)
        return expose(linear, self.gains, camera.width)
