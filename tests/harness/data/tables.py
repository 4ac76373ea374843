"""Scenes as depth cameras see them: objects on a tilted table, with the truth of every pixel.

Rays are cast at analytic bodies, so table, objects and clutter are known exactly; then depth steps,
noise that grows with the square of the depth, shadows, lost edges and lost pixels are put on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

MISSING, TABLE, OBJECT, CLUTTER = 0, 1, 2, 3
WARP_PX = 20.0


@dataclass(frozen=True)
class Body:
    """In the table's frame, metres: x, y on it, h above it."""

    kind: str  # box, ball, can
    at: tuple[float, float]
    size: tuple[float, float, float]  # half x, half y, height; a ball: radius; a can: radius, -, h


@dataclass(frozen=True)
class Scene:
    tilt_deg: float = 40.0  # between the table's normal and the line of sight
    roll_deg: float = 10.0
    distance_m: float = 0.9  # to the table's middle
    half: tuple[float, float] = (0.4, 0.3)  # of the table
    bodies: tuple[Body, ...] = ()
    missing: float = 0.4
    step_m: float = 0.0025  # depth step at one metre
    noise_m: float = 0.001  # at one metre
    warp_m: float = 0.001  # at one metre: noise that neighbours share
    wall: bool = False  # behind the table
    floor: bool = False  # under it
    cropped: bool = True  # all that is neither table nor object is missing
    size: tuple[int, int] = (240, 320)
    focal: float = 262.5  # px, half of a Kinect's
    seed: int = 0
    keep: tuple[float, float, float, float] = field(default=(0, 0, 1, 1))  # of the image: y, x


def render(scene: Scene):
    """-> xyz (H, W, 3) float32, what (H, W) of MISSING to CLUTTER, normal (3,) to the camera"""
    height, width = scene.size
    v, u = np.mgrid[:height, :width].astype(float)
    rays = np.stack(
        [
            (u - width / 2 + 0.3) / scene.focal,
            (v - height / 2 + 0.3) / scene.focal,
            np.ones_like(u),
        ],
        axis=2,
    )
    tilt, roll = np.radians([scene.tilt_deg, scene.roll_deg])
    normal = np.array([np.sin(roll) * np.cos(tilt), -np.sin(tilt), -np.cos(tilt) * np.cos(roll)])
    normal /= np.linalg.norm(normal)
    along = np.cross(normal, [0, 0, 1.0] if scene.tilt_deg > 5 else [0, 1.0, 0])
    along /= np.linalg.norm(along)
    turn = np.stack([along, np.cross(normal, along), normal])  # rows: x, y, h of the table
    origin = turn @ -np.array([0, 0, scene.distance_m])  # of the camera, in the table's frame
    ray = rays @ turn.T
    depth = np.full((height, width), np.inf)
    what = np.full((height, width), MISSING)

    def hit(t, ok, kind):
        nearer = ok & (t > 0) & (t < depth)
        depth[nearer], what[nearer] = t[nearer], kind

    with np.errstate(divide="ignore", invalid="ignore"):
        t = -origin[2] / ray[..., 2]
        at = origin[:2] + t[..., None] * ray[..., :2]
        hit(t, (np.abs(at) < scene.half).all(axis=2), TABLE)
        if scene.floor:
            hit(-(origin[2] + 0.7) / ray[..., 2], np.ones_like(t, bool), CLUTTER)
        if scene.wall:
            side = np.sign(origin[1]) or 1.0
            t = (-side * (scene.half[1] + 0.1) - origin[1]) / ray[..., 1]
            hit(t, np.ones_like(t, bool), CLUTTER)
        for body in scene.bodies:
            _cast(body, origin, ray, hit)
    rng = np.random.default_rng(scene.seed)
    if scene.cropped:
        what[what == CLUTTER] = MISSING
    top, left, bottom, right = scene.keep
    inside = (v >= top * height) & (v < bottom * height) & (u >= left * width) & (u < right * width)
    what[~inside] = MISSING
    depth[what == MISSING] = 0
    seen = what.copy()
    lost = _lost(depth, scene, rng)
    seen[lost] = MISSING
    square = depth**2
    warp = cv2.GaussianBlur(rng.normal(size=depth.shape), (0, 0), WARP_PX)
    noise = rng.normal(0, scene.noise_m, depth.shape) + scene.warp_m * warp / warp.std()
    depth = depth + noise * square
    if scene.step_m:
        inverse = 1 / np.maximum(depth, 1e-9)  # steps are even in disparity
        depth = 1 / (np.round(inverse / scene.step_m) * scene.step_m + 1e-12)
    depth[seen == MISSING] = 0
    return (rays * depth[..., None]).astype(np.float32), seen, normal


def _cast(body, origin, ray, hit):
    x, y = body.at
    a, b, h = body.size
    if body.kind == "ball":
        to = origin - np.array([x, y, a])
        qa, qb, qc = (ray**2).sum(-1), 2 * ray @ to, to @ to - a * a
        root = qb**2 - 4 * qa * qc
        hit((-qb - np.sqrt(np.maximum(root, 0))) / (2 * qa), root > 0, OBJECT)
        return
    if body.kind == "box":
        low, high = np.array([x - a, y - b, 0]), np.array([x + a, y + b, h])
        first, second = (low - origin) / ray, (high - origin) / ray
        near, far = np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)
        hit(near, near < far, OBJECT)
        return
    to = origin[:2] - np.array([x, y])
    qa, qb, qc = (ray[..., :2] ** 2).sum(-1), 2 * ray[..., :2] @ to, to @ to - a * a
    root = qb**2 - 4 * qa * qc
    t = (-qb - np.sqrt(np.maximum(root, 0))) / (2 * qa)
    up = origin[2] + t * ray[..., 2]
    hit(t, (root > 0) & (up > 0) & (up < h), OBJECT)
    t = (h - origin[2]) / ray[..., 2]
    at = to + t[..., None] * ray[..., :2]
    hit(t, (at**2).sum(-1) < a * a, OBJECT)


def _lost(depth, scene, rng):
    """Edges and their shadow on one side, blots, single pixels, up to a share of `missing`."""
    jump = np.abs(np.diff(depth, axis=1, append=depth[:, -1:])) > 0.02
    edges = cv2.dilate(jump.astype(np.uint8), np.ones((3, 5), np.uint8), anchor=(0, 1)) > 0
    if not scene.missing:
        return edges & False
    blots = cv2.GaussianBlur(rng.normal(size=depth.shape), (0, 0), 6)
    there = depth > 0
    want = max(scene.missing - (~there).mean(), 0.02)
    cut = np.quantile(blots[there], want / 2 / there.mean())
    return edges | (there & (blots < cut)) | (rng.random(depth.shape) < want / 2)
