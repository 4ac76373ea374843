"""Recipes of the views the methods want; harness/data/views builds and caches them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from methods.contract import View


@dataclass(frozen=True)
class Das3dView(View):
    """Background-free RGB and normalised depth (specs/das3d.md section 2).

    Arrays: rgb uint8 (N, S, S, 3); depth float32 (N, S, S) in [0, 1], background exactly 1
    (with depth_range "category" test samples may leave that range, and the background is as deep
    as the deepest point of its own image); foreground bool (N, S, S). The ground truth is cut and
    resized alike. With background "none" neither plane nor clusters are removed.
    """

    name: ClassVar[str] = "das3d"
    size: int = 256                      # px, side of the square output (paper)
    plane_inlier_m: float = 0.004        # RANSAC inlier distance (BTF preprocessing)
    plane_iterations: int = 1000         # RANSAC iterations (BTF preprocessing)
    plane_points: int = 50               # points a RANSAC sample (BTF preprocessing)
    plane_border_px: int = 10            # frame whose points are tried as plane (BTF preprocessing)
    plane_distance_m: float = 0.005      # points nearer to the plane are removed (paper)
    pad: bool = True                     # zero-pad to a square, side a multiple of 100 (BTF)
    dbscan: bool = True                  # keep the largest DBSCAN cluster only (BTF)
    dbscan_eps_m: float = 0.006          # neighbourhood radius (BTF)
    dbscan_min_points: int = 30          # points that make a core point, itself counted (BTF)
    hole_fill: str = "none"              # "none": holes lie as deep as the background; "ast3": AST
    depth_range: str = "image"           # min-max over the "image" or the "category" (train split)
    depth_resize: str = "nearest"        # "nearest" (floor(i * n / S)) or "bilinear"


@dataclass(frozen=True)
class Dsr3dView(View):
    """Whole colour images and depth that is 0 off the object (specs/3dsr.md, section 3).

    Arrays: rgb uint8 (N, S, S, 3); depth float32 (N, S, S), `depth_low` nearest to `depth_high`
    farthest on the object, 0 where there is none; foreground bool (N, S, S), pixels of the
    object that the sensor saw. With background "none" every pixel that it saw is foreground.
    """

    name: ClassVar[str] = "dsr3d"
    size: int = 384                      # px, side of the square output; no aspect is kept (code)
    plane: str = "corners"               # points of the plane: three "corners" of 3 x 3 px (code);
                                         # three "pixels" of the border (its Eyecandies helper)
    plane_distance_m: float = 0.005      # points nearer to the plane are background (code)
    closing: int = 3                     # dilations, then erosions of the foreground (code)
    depth_low: float = 0.1               # depth of the nearest point (code; paper: 0)
    depth_high: float = 0.9              # depth of the farthest point (code; paper: 1)
    hole_passes: int = 2                 # passes of the hole filling (code; paper: 1)
    mask_rule: str = "nearest"           # resized ground truth (ours); the code's: "any" or "full",
                                         # bilinear and then > 0 (AUPRO) or = 1 (P-AUROC)
