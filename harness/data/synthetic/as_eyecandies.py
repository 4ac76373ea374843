"""Samples as files in the layout of Eyecandies: six lights, 16-bit depth, no missing points."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from harness.data.eyecandies import FOLDERS

from .part import json_bytes
from .render import Light, Pose
from .sample import Staged, stage
from .scene import generator, name_key
from .sensor import photograph
from .spec import Spec

UNITS_PER_M = 10  # Eyecandies' scenes are that much larger than MVTec's, and so than ours
ASIDE = -0.1  # x of the world's origin; at 0 the middle column would have x = 0, which
# M3DM's code takes as missing
DIGITS = {"train": 3, "val": 2, "test_public": 2}  # of the published numbers
SPOTS = {1: (0, 1), 2: (1, 0), 3: (0, -1), 4: (-1, 0)}  # image_N: where its light comes from
SPOT_SLOPE = np.radians(50)  # from the vertical
SPOT_AMBIENT, SPOT_DIFFUSE = 0.15, 0.9
MASKS = ("bumps", "dents", "colors", "normals")
README = """\
{category}: computed images of an object that does not exist, in the layout of Eyecandies.

{{train,val,test_public}}/data/NN_image_{{0..5}}.png   colour under six lights, 8 bit
{{train,val,test_public}}/data/NN_depth.png          16 bit, 0 and 65535 as in NN_info_depth.yaml
{{train,val,test_public}}/data/NN_mask.png           anomalous pixels, by type in NN_<type>_mask.png
manifest.json                                      the settings, and what was drawn for each sample
"""


def folders(category: str, spec: Spec) -> list[str]:
    return [f"{folder}/data" for folder in FOLDERS.values()]


def notes(category: str, spec: Spec) -> dict[str, bytes]:
    """The files that are about the category as a whole."""
    return {"readme.txt": README.format(category=category).encode()}


def write_sample(
    put: Callable, category: str, split: str, defect: str, index: int, spec: Spec
) -> dict:
    """Write one sample's 17 files by put(path, content); -> what was drawn."""
    staged = stage(category, split, defect, index, spec)
    number, of = _number(category, split, defect, index, spec)
    folder = FOLDERS[split]
    digits = max(DIGITS[folder], len(str(of - 1)))
    start = f"{folder}/data/{number:0{digits}d}_"

    def image(item: str, array: np.ndarray) -> None:
        put(f"{start}{item}.png", lambda f: Image.fromarray(array).save(f, "PNG"))

    for light, rgb in photographs(staged, spec).items():
        image(f"image_{light}", rgb)
    depth, low, high = quantised(staged.twin.depth.sight.z * UNITS_PER_M)
    image("depth", depth)
    put(f"{start}info_depth.yaml", f"normalization:\n  max: {high}\n  min: {low}\n".encode())
    normal = staged.twin.depth.normal * (1, -1, -1)  # y and z against the camera's axes
    image("normals", np.round((normal + 1) * 127.5).astype(np.uint8))
    text = io.BytesIO()
    np.savetxt(text, camera_to_world(staged.scene.pose, staged.scene.depth), fmt="%.9g")
    put(f"{start}pose.txt", text.getvalue())
    masks = masks_by_type(staged, depth.shape)
    for name, mask in masks.items():
        image(f"{name}_mask", mask)
    image("mask", np.bitwise_or.reduce(list(masks.values())))
    put(f"{start}metadata.yaml", f"anomalous: {int(defect != 'good')}\n".encode())
    drawn = {**staged.drawn, "file": start}
    put(f"{start}obj_params.yaml", json_bytes(drawn))  # JSON is YAML
    return drawn


def photographs(staged: Staged, spec: Spec) -> dict[int, np.ndarray]:
    """Light -> image (H, W, 3) uint8: 0 all spots, 1 to 4 one spot, 5 the environment."""
    scene, camera = staged.scene, spec.camera
    rng = generator(*scene.key, name_key("sensor"), camera.height, camera.width)
    exposed = {
        number: scene.exposed(staged.twin.colour, camera, light=_spot(side, scene.light.specular))
        for number, side in SPOTS.items()
    }
    exposed = {0: sum(exposed.values()) / len(SPOTS), **exposed}
    exposed[5] = scene.exposed(staged.twin.colour, camera)
    return {number: photograph(linear, rng) for number, linear in exposed.items()}


def quantised(depth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """-> uint16 (H, W) and the depths that 0 and 65535 stand for"""
    low, high = float(depth.min()), float(depth.max())
    return np.round((depth - low) / (high - low) * 65535).astype(np.uint16), low, high


def camera_to_world(pose: Pose, depth: float) -> np.ndarray:
    """(4, 4): origin on the conveyor beside where the camera looks, z along its normal.

    The conveyor is tilted about x alone, so its normal is (0, sin, cos).
    """
    _, sin, cos = pose.normal
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, -turn @ (ASIDE, 0, depth * UNITS_PER_M)
    return matrix


def masks_by_type(staged: Staged, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Eyecandies' type of defect -> mask (H, W) uint8, 0 or 255."""
    masks = {name: np.zeros(shape, np.uint8) for name in MASKS}
    for defect, mask in zip(staged.defects, staged.masks):
        if defect.kind in ("color", "contamination"):
            name = "colors"
        else:
            name = "bumps" if defect.drawn.get("height_m", -1) > 0 else "dents"
        masks[name][mask] = 255
    return masks


def _spot(side: tuple[int, int], specular: float) -> Light:
    x, y = np.sin(SPOT_SLOPE) * np.array(side)
    direction = np.array([x, y, -np.cos(SPOT_SLOPE)])
    return Light(direction, specular, SPOT_AMBIENT, SPOT_DIFFUSE)


def _number(category, split, defect, index, spec) -> tuple[int, int]:
    """A sample's number in its split, good ones first, and how many there are."""
    counts = {k: n for k, n in spec.counts(category).items() if k.startswith(f"{split}/")}
    names = list(counts)
    before = sum(counts[name] for name in names[: names.index(f"{split}/{defect}")])
    return before + index, sum(counts.values())
