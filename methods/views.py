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
