"""Recipes of the views the methods want; harness/data/views builds and caches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from methods.declaration import View


@dataclass(frozen=True)
class BtfView(View):
    """What takes the background away in BTF, M3DM and Shape-Guided.

    The plane under the object, found in the frame of the image, and all points near it become
    zero in cloud and image; then all points outside the largest cluster. Missing points are not
    near the plane: their colour stays. Cloud, image and ground truth are padded alike
    (harness/data/README.md, section 4).
    """

    plane_inlier_m: float = 0.004  # RANSAC inlier distance (BTF preprocessing)
    plane_iterations: int = 1000  # RANSAC iterations (BTF preprocessing)
    plane_points: int = 50  # points a RANSAC sample (BTF preprocessing)
    plane_border_px: int = 10  # frame whose points are tried as plane (BTF preprocessing)
    plane_distance_m: float = 0.005  # points nearer to the plane are removed (paper)
    pad: bool = True  # zero-pad to a square, side a multiple of 100 (BTF)
    dbscan: bool = True  # keep the largest DBSCAN cluster only (BTF)
    dbscan_eps_m: float = 0.006  # neighbourhood radius (BTF)
    dbscan_min_points: int = 30  # points that make a core point, itself counted (BTF)
    mask_rgb: bool = True  # blacken removed pixels (M3DM from September 2023 on)

    def on(self, background: str) -> Self:
        """Padding is a step of the published removal, so other backgrounds go without."""
        return replace(self, background=background, pad=self.pad and background == "plane")


@dataclass(frozen=True)
class Das3dView(BtfView):
    """Background-free RGB and normalised depth (methods/das3d/README.md, section 1).

    Arrays: rgb uint8 (N, S, S, 3); depth float32 (N, S, S) in [0, 1], background exactly 1
    (with depth_range "category" test samples may leave that range, and the background is as deep
    as the deepest point of its own image); foreground bool (N, S, S). The ground truth is cut and
    resized alike. With background "none" neither plane nor clusters are removed; "removed" is for
    clouds that come without it: what has no point is background, in the colours too (`mask_rgb`).
    """

    name: ClassVar[str] = "das3d"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "hole_fill": ("none", "ast3"),
        "depth_range": ("image", "category"),
        "depth_resize": ("nearest", "bilinear"),
    }
    size: int = 256  # px, side of the square output (paper)
    hole_fill: str = "none"  # "none": holes lie as deep as the background; "ast3": AST
    depth_range: str = "image"  # min-max over the "image" or the "category" (train split)
    depth_resize: str = "nearest"  # "nearest" (floor(i * n / S)) or "bilinear"


@dataclass(frozen=True)
class M3dmView(BtfView):
    """Background-free RGB and organised cloud (methods/m3dm/README.md, section 1).

    Arrays: rgb uint8 (N, S, S, 3); xyz float32 (N, S, S, 3) in metres, zeros where missing or
    removed; a point is valid if all three coordinates are non-zero. The ground truth is padded
    and resized, but sampled half an output pixel beside the cloud, as published.

    The colours are those of Pillow's 8-bit resize and not normalised: that loses nothing, takes
    a quarter of the space, and backbones with other statistics can use the same files.

    With background "none" nothing is removed and nothing padded: it is for clouds that come
    without their background, such as the published conversion of Eyecandies.
    """

    name: ClassVar[str] = "m3dm"
    size: int = 224  # px, side of the square output (code)

    def on(self, background: str) -> Self:
        if background == "none":  # pads nothing either; the key stays that of earlier results
            return replace(self, background=background)
        return super().on(background)


@dataclass(frozen=True)
class ShapeGuidedView(M3dmView):
    """Background-free RGB and organised cloud (methods/shape_guided/README.md, section 1).

    Nothing differs from `M3dmView` but the name: both published codes share BTF's background
    removal, the three resizes, and what a valid point is. Scaling the cloud and cutting it into
    patches, with seeds and sizes of their own, is the method's part.
    """

    name: ClassVar[str] = "shape_guided"
    same_as: ClassVar[type[View] | None] = M3dmView


@dataclass(frozen=True)
class DbrnView(View):
    """Filled depth in [0.2, 0.8], RGB with its background, foreground.

    Arrays: rgb uint8 (N, S, S, 3); depth float32 (N, S, S), larger is farther (with depth_range
    "category" test samples may leave the range); foreground bool (N, S, S). The ground truth is
    resized alike. With background "none" nothing is filled: the foreground is what has depth,
    the rest lies as deep as the deepest point. methods/dbrn/README.md, section 2.
    """

    name: ClassVar[str] = "dbrn"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "bg_fill": ("cluster", "plane", "max"),
        "depth_range": ("image", "category"),
    }
    size: int = 224  # px, side of the square output (inferred)
    n_fills: int = 3  # passes of hole filling (AST)
    fg_threshold: str = "auto"  # distance from the background plane that makes the
    #   foreground: "auto" (from the object's height, inferred), "ast" (0.007 m), metres, metres
    #   by category ("bagel:0.005,rope:0.003"), or "none": all is foreground
    fg_min_m: float = 0.002  # least threshold of "auto", and height that counts (inferred)
    fg_max_m: float = 0.007  # its largest (AST)
    fg_share: float = 0.2  # threshold / height of the object (inferred)
    fg_percentile: float = 95.0  # of the distances, taken as the height (inferred)
    frame_px: int = 10  # frame in which the background is looked for (inferred)
    bg_fill: str = "cluster"  # holes left: mean of the background's cluster (inferred);
    #   "plane": depth of the background plane, "max": the deepest point
    depth_range: str = "image"  # min-max over the "image" or the "category" (inferred)
    depth_low: float = 0.2  # depth of the nearest point (paper)
    depth_high: float = 0.8  # depth of the farthest point (paper)


@dataclass(frozen=True)
class Dsr3dView(View):
    """Whole colour images and depth that is 0 off the object (methods/dsr3d/README.md, section 1).

    Arrays: rgb uint8 (N, S, S, 3); depth float32 (N, S, S), `depth_low` nearest to `depth_high`
    farthest on the object, 0 where there is none; foreground bool (N, S, S), pixels of the
    object that the sensor saw. With background "none" every pixel that it saw is foreground.
    """

    name: ClassVar[str] = "dsr3d"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "plane": ("corners", "pixels"),
        "mask_rule": ("nearest", "any", "full"),
    }
    size: int = 384  # px, side of the square output; no aspect is kept (code)
    plane: str = "corners"  # points of the plane: three "corners" of 3 x 3 px (code);
    # three "pixels" of the border (its Eyecandies helper)
    plane_distance_m: float = 0.005  # points nearer to the plane are background (code)
    closing: int = 3  # dilations, then erosions of the foreground (code)
    depth_low: float = 0.1  # depth of the nearest point (code; paper: 0)
    depth_high: float = 0.9  # depth of the farthest point (code; paper: 1)
    hole_passes: int = 2  # passes of the hole filling (code; paper: 1)
    mask_rule: str = "nearest"  # resized ground truth (ours); the code's: "any" or "full",
    # bilinear and then > 0 (AUPRO) or = 1 (P-AUROC)


@dataclass(frozen=True)
class PlainView(View):
    """Whole scans, made smaller: nothing is removed, filled or normalised.

    Arrays: rgb uint8 (N, S, S, 3), means over areas; depth float32 (N, S, S), z in metres; height
    float32 (N, S, S), metres above a plane, towards the camera; valid bool (N, S, S), what the
    sensor saw: depth and height are 0 elsewhere. The plane is fitted robustly to the points of
    the image's frame, where no object lies, with background "support" it is the supporting plane,
    with others fitted to all points. The ground truth is resized like the depth, to the nearest
    pixel; no aspect is kept.
    """

    name: ClassVar[str] = "plain"
    size: int = 256  # px, side of the square output (as DAS3D's)
    border_px: int = 4  # frame of the output in which the plane is looked for (BTF's 10 of 800)
