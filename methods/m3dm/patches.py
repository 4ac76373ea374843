"""What the banks hold and are asked for: patches of points, of the image, and of both."""

from __future__ import annotations

import torch

from methods.blocks.at_once import starts_fast
from methods.blocks.memory_bank import distinct
from methods.contract import Batch
from methods.m3dm.features import Features
from methods.m3dm.pfa import align, image_patches, operators
from methods.m3dm.settings import Pfa
from methods.m3dm.uff import ROWS, FeatureFusion


class Patches:
    """Batches -> {"xyz": (B, P, C), "rgb": (B, p, C), "fusion": (B, P, C)} of the names asked for.

    uff: the fusion network; None: both features side by side.
    """

    def __init__(self, features: Features, pfa: Pfa, uff: FeatureFusion | None = None):
        self.features, self.pfa, self.uff = features, pfa, uff
        self._operators: dict[str, torch.Tensor] | None = None

    def remember(self, on: bool) -> None:
        """Keep the operators of the samples that come by (some 0.4 MB each), or drop them."""
        self._operators = {} if on else None

    @torch.inference_mode()
    def __call__(
        self, batch: Batch, names: tuple[str, ...], late: bool = False
    ) -> dict[str, torch.Tensor]:
        found = self.features(batch, late)
        out = {}
        if "rgb" in names:
            out["rgb"] = found["rgb"].flatten(2).transpose(1, 2)
        groups = self.pfa.level == "group"
        if "fusion" in names or ("xyz" in names and not groups):
            out["xyz"] = self.on_grid(batch, found)
        if "fusion" in names:
            out["fusion"] = self.fused(out["xyz"], found["rgb"])
        if groups and "xyz" in names:
            out["xyz"] = found["point"]
        return {name: out[name] for name in names} | {
            key: found[key] for key in ("centres",) if key in found
        }

    def on_grid(self, batch: Batch, found: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features of points on the grid of patches (B, P, C), whatever the bank xyz holds."""
        known = self._operators if self._operators is not None else {}
        if new := [i for i, name in enumerate(batch.ids) if name not in known]:
            # not by a list as index, which an accelerator would wait for
            xyz, centres = (
                torch.stack([x[i] for i in new]) for x in (batch["xyz"], found["centres"])
            )
            made = operators(xyz, centres, self.pfa.grid, self.pfa.rule)
            known |= {batch.ids[i]: W for i, W in zip(new, made)}
        return align([known[name] for name in batch.ids], found["point"])

    def fused(self, xyz: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """xyz (B, P, C), tokens (B, D, g, g) -> (B, P, C + D)

        Equal patches go through the network once: empty ones, where telling them costs less than
        they do, and one of the image for each cell of the points' finer grid that it covers.
        """
        grid, g = self.pfa.grid, tokens.shape[2]
        if self.uff is None:
            return torch.cat([xyz, image_patches(tokens, grid)], dim=2)
        rows, which = xyz.flatten(0, 1), None
        if starts_fast(rows.device):
            some, which = distinct(rows)
            rows = rows[some]
        rows = torch.cat([self.uff.xyz(part) for part in rows.split(ROWS)])
        xyz = (rows if which is None else rows[which]).view_as(xyz)
        if grid % g == 0:
            tokens = self.uff.rgb(tokens.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return torch.cat([xyz, image_patches(tokens, grid)], dim=2)
        return torch.cat([xyz, self.uff.rgb(image_patches(tokens, grid))], dim=2)
