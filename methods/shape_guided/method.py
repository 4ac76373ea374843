"""Shape-Guided: signed distances of patches of points guide a memory of image features.

What the parts compute: methods/shape_guided/README.md, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from methods.blocks.maps import blurred_in_levels, enlarged
from methods.blocks.training import weight_sizes
from methods.blocks.transfer import sent
from methods.blocks.weights import Fit
from methods.contract import (
    Batch,
    Method,
    Prediction,
    Progress,
    Run,
    Samples,
    save_tensors,
)
from methods.marks import RANDOM_INIT
from methods.seeds import seed_for
from methods.shape_guided import declaration, inference
from methods.shape_guided.declaration import guided, rgb_path, sdf_path, uses_shape
from methods.shape_guided.features import KeptFeatures, RgbFeatures, described
from methods.shape_guided.memory import Builder, Memory, cells_of
from methods.shape_guided.patches import cut_cloud, normalise, points_of
from methods.shape_guided.settings import Settings
from methods.shape_guided.stage import (
    CHECKPOINT,
    CutPatches,
    Cuts,
    ShapeExpert,
)
from methods.shape_guided.weights import (
    appearance,
    load_backbone,
    load_shape_net,
    published_shape_net,
    shape_net,
)
from methods.work import appearance_macs, patch_macs


@dataclass(frozen=True)
class Described:
    """A sample as the experts see it. P patches of K points, G cells; 0 of what is not used."""

    pixels: torch.Tensor  # (P, K) ids
    points: torch.Tensor  # (P, K, 3) normalised
    sdf: torch.Tensor  # (P, F)
    rgb: torch.Tensor  # (G, C)
    cells: torch.Tensor  # (P, G) bool


class ShapeGuided(declaration.ShapeGuided, Method):
    stages = {stage.name: stage for stage in (RgbFeatures, CutPatches, ShapeExpert)}

    def __init__(self, settings: Settings, setting: str, run: Run | None = None):
        super().__init__(settings, setting, run)
        self.uses_rgb = "rgb" in setting
        self.guided = guided(settings, setting)
        self.uses_shape = uses_shape(settings, setting)
        self.memory: Memory | None = None
        self.a, self.b = 1.0, 0.0  # RGB scores on the scale of SDF scores
        self.searched = [0, 0]  # features searched, samples
        self.rgb_features = 0  # of all training samples, before any choice
        device = self.run.device
        if self.uses_rgb:
            self.appearance = appearance(settings.rgb).to(device)
        if self.uses_shape:
            seed = seed_for("init", self.name, self.run.seed)
            self.shape = shape_net(settings.net, seed).to(device).eval()
        folders, self.cuts, self.kept = self.run.stages, None, None
        if CutPatches.name in folders:
            self.cuts = Cuts(folders[CutPatches.name])
        if RgbFeatures.name in folders:
            cells = (settings.prep.size // 8) ** 2
            self.kept = KeptFeatures(folders[RgbFeatures.name], cells)

    @classmethod
    def published(cls, settings: Settings, setting: str) -> dict[str, Callable[[Path], Fit]]:
        uses = uses_shape(settings, setting)
        return {"weights.sdf": published_shape_net(settings.net)} if uses else {}

    def fit(self, train: Samples, validation: Samples) -> None:
        self._load_weights()
        s, run = self.settings.search, self.run
        keep_all = self.uses_rgb and not self.guided and s.unguided_bank == "all"
        builder, memory, maps = Builder(keep_all), None, []
        if state := run.load_checkpoint():
            builder.restore([_to(part, run.device) for part in state["parts"]])
            memory = state["memory"] and Memory(**_to(state["memory"], run.device))
            maps = [_to(pair, run.device) for pair in state["maps"]]

        def state_now():
            filled = memory.state() if memory else None
            return {"parts": builder.state(), "memory": filled, "maps": maps}

        while memory is None and len(builder) < len(train):
            first = len(builder)
            batch = range(first, min(first + self.settings.batch, len(train)))
            for x in self._describe(train.batch(batch, run.device)):
                builder.add(x.sdf, x.rgb, x.cells)
            run.report(Progress("remember", len(builder), len(train)))
            run.save_checkpoint(state_now)
        self.memory = memory = memory or self._joined(builder, train)
        if self.setting == "rgb+3d":
            drawn = self._drawn(len(train))
            for i in drawn[len(maps) :]:
                (x,) = self._describe(train.batch([i], run.device))
                maps.append(self._left_out(x, int(i), train.arrays["xyz"].shape[1]))
                run.report(Progress("align", len(maps), len(drawn)))
                run.save_checkpoint(state_now)
            rgb, sdf = (torch.stack([m[name] for m in maps]) for name in ("rgb", "sdf"))
            self.a, self.b = inference.alignment(rgb, sdf)
        self.searched = [0, 0]
        self.rgb_features = len(train) * (train.arrays["xyz"].shape[1] // 8) ** 2

    def _load_weights(self) -> None:
        weights, stage = self.settings.weights, self.run.stages.get(ShapeExpert.name)
        if self.uses_rgb and (file := rgb_path(weights.rgb, self.settings.rgb.backbone)):
            load_backbone(self.appearance, file)
        if self.uses_shape and weights.sdf != RANDOM_INIT:
            file = sdf_path(weights.sdf) or (stage and Path(stage) / CHECKPOINT)
            if file is None:
                raise ValueError(
                    "shape_guided has no shape expert: run its stage 'shape_expert' and hand its "
                    "folder over in run.stages, or give shape_guided.weights.sdf"
                )
            load_shape_net(self.shape, file)

    def _joined(self, builder: Builder, train: Samples) -> Memory:
        memory = builder.join()
        if len(memory.sdf) == 0:
            raise ValueError(
                f"no point in the {len(train)} training clouds of {self.run.category}: "
                "did background removal leave nothing?"
            )
        return memory

    def _drawn(self, count: int) -> np.ndarray:
        rng = np.random.default_rng(self.seed("align"))
        return rng.choice(count, min(self.settings.align.samples, count), replace=False)

    @torch.no_grad()
    def _describe(self, batch: Batch) -> list[Described]:
        pixels = [self._cut(id, xyz) for id, xyz in zip(batch.ids, batch["xyz"])]
        return list(self.describe(self._features(batch), batch["xyz"], pixels))

    def _features(self, batch: Batch) -> torch.Tensor:
        """(B, G, C), kept or computed; G = 0 without images."""
        if not self.uses_rgb:
            return batch["xyz"].new_empty(len(batch), 0, 0)
        kept = self.kept.get(batch.ids) if self.kept else None
        if kept is None:
            with self.run.part("rgb"):
                return described(self.appearance, batch, self.settings.rgb)
        return sent(kept, batch["xyz"].device)

    def _cut(self, id: str, xyz: torch.Tensor) -> torch.Tensor:
        known = self.cuts.get(id) if self.cuts else None
        if known is None:
            return cut_cloud(xyz, self.settings.patches, self.run.seed)
        return sent(known, xyz.device)

    @torch.no_grad()
    def describe(
        self, rgb: torch.Tensor, xyz: torch.Tensor, pixels: list[torch.Tensor]
    ) -> Iterable[Described]:
        """rgb (B, G, C) features, xyz (B, S, S, 3), pixels: (P, K) of each sample."""
        s, size = self.settings.search, xyz.shape[1]
        grid = size // 8
        for i, ids in enumerate(pixels):
            points = normalise(points_of(xyz[i], ids))[0]
            sdf = points.new_empty(len(ids), self.settings.net.feature if self.uses_shape else 0)
            if self.uses_shape and len(ids):
                sdf = self.shape.features(points)
            if self.uses_rgb:
                cells = cells_of(ids, size, grid, s.expand, s.expansion)
            else:
                cells = torch.zeros(len(ids), 0, dtype=torch.bool, device=ids.device)
            yield Described(ids, points, sdf, rgb[i], cells)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Prediction:
        found = [self.assess(x, batch["xyz"].shape[1]) for x in self._describe(batch)]
        return Prediction(torch.stack([m for m, _ in found]), torch.stack([s for _, s in found]))

    def assess(self, x: Described, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (size, size) and score () of a sample; zeros if it has no point."""
        s = self.settings
        if not len(x.pixels):
            return x.points.new_zeros(size, size), x.points.new_zeros(())
        maps, scores = self._maps(x, None, size)
        if self.setting != "rgb+3d":
            (one,), (score,) = maps.values(), scores.values()
            return self._blurred(one), score
        rgb = inference.aligned(maps["rgb"], self.a, self.b, s.align.clip)
        fused = self._blurred(torch.maximum(rgb, maps["sdf"]))
        return fused, scores["rgb"] * scores["sdf"] if s.maps.score == "product" else fused.max()

    def _maps(self, x: Described, own: int | None, size: int):
        """Maps (size, size), not blurred, and scores () by modality: "sdf", "rgb".

        own: the training sample x is; without its own features it is looked at as if it were new.
        """
        maps, scores, rows = {}, {}, None
        if self.uses_shape:
            rows = self._neighbours(x, own)
        if "3d" in self.setting:
            distances, scores["sdf"] = self._sdf(x, rows)
            overlap = self.settings.maps.overlap
            maps["sdf"] = inference.sdf_map(distances, x.pixels, size, overlap)
        if self.uses_rgb:
            with self.run.part("rgb"):
                cells = self._rgb(x, rows, own)
                maps["rgb"], scores["rgb"] = enlarged(cells[None], size)[0], cells.max()
        return maps, scores

    def _neighbours(self, x: Described, own: int | None) -> torch.Tensor:
        """Rows (P, k1) of the SDF bank; own: training sample to leave out."""
        memory, k = self.memory, self.settings.search.k_sdf
        return self._nearest(x.sdf, memory.sdf, memory.sdf_owner, k, own)

    @torch.no_grad()
    def _left_out(self, x: Described, own: int, size: int) -> dict[str, torch.Tensor]:
        """Both maps of training sample `own`, as the scores are aligned on."""
        if not len(x.pixels):
            return {name: x.points.new_zeros(size, size) for name in ("rgb", "sdf")}
        maps, _ = self._maps(x, own, size)
        if self.settings.align.maps == "raw":
            return maps
        return {name: self._blurred(m) for name, m in maps.items()}

    def _blurred(self, one: torch.Tensor) -> torch.Tensor:
        """A map (size, size)."""
        radius = self.settings.maps.blur_px
        return blurred_in_levels(one[None], radius)[0] if radius else one

    def _nearest(self, queries, bank, owner, k, own):
        if own is None:
            return inference.nearest_rows(queries, bank, k)[0]
        if self.settings.align.leave_out == "image":
            return inference.nearest_rows(queries, bank, k, owner == own)[0]
        return inference.nearest_rows(queries, bank, k + 1)[0][:, 1:]  # all but itself

    def _sdf(self, x: Described, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Signed distances (P, K) from the shapes rebuilt of normal ones, and score ()."""
        s = self.settings.search
        made, errors = inference.reconstruct(x.sdf, self.memory.sdf[rows], s.code_sdf, s.atoms)
        return self.shape.distances(made, x.points), errors.max()

    def _rgb(self, x: Described, rows: torch.Tensor | None, own: int | None) -> torch.Tensor:
        """Scores (G,) of the cells, 0 outside the foreground; the greatest is the image's."""
        s, bank, owner = self.settings.search, self.memory.rgb, self.memory.rgb_owner
        if self.guided:
            dictionary = self.memory.dictionary(rows)
            bank, owner = bank[dictionary], owner[dictionary]
        self.searched[0] += len(bank)
        self.searched[1] += 1
        cells = x.cells.any(dim=0).nonzero()[:, 0]
        queries = x.rgb[cells]
        found = self._nearest(queries, bank, owner, s.k_rgb, own)
        _, errors = inference.reconstruct(queries, bank[found], s.code_rgb, s.atoms)
        return x.rgb.new_zeros(len(x.rgb)).index_copy_(0, cells, errors)

    def save(self, folder: Path) -> None:
        save_tensors(
            folder / "model.pt",
            {
                "memory": self.memory.state(),
                "alignment": (self.a, self.b),
                "rgb_features": self.rgb_features,
                "nets": {name: net.state_dict() for name, net in self._nets().items()},
            },
        )

    def load(self, folder: Path) -> None:
        state = torch.load(folder / "model.pt", map_location=self.run.device, weights_only=True)
        self.memory = Memory(**state["memory"])
        self.a, self.b = state["alignment"]
        self.rgb_features = state.get("rgb_features", 0)  # not in files of earlier versions
        for name, net in self._nets().items():
            net.load_state_dict(state["nets"][name])

    def _nets(self) -> dict[str, torch.nn.Module]:
        return {n: getattr(self, n) for n in ("shape", "appearance") if hasattr(self, n)}

    def sizes(self) -> dict[str, int]:
        sizes = weight_sizes(torch.nn.ModuleList(self._nets().values()))
        if self.memory:
            sizes |= {
                "bank_bytes": self.memory.bytes,
                "sdf_bank_rows": len(self.memory.sdf) if self.uses_shape else 0,
                "rgb_bank_rows": len(self.memory.rgb),
            }
        if self.searched[1]:
            sizes["rgb_features_searched"] = round(self.searched[0] / self.searched[1])  # Table 3
            sizes["rgb_features"] = self.rgb_features
        if "3d" in self.setting:  # of the networks alone, as section 4.5 of the paper has them
            sizes["macs_per_patch"] = patch_macs(
                self.settings.net, self.settings.patches.scaled.points
            )
        else:
            sizes["macs_network"] = appearance_macs(self.settings)
        return sizes

    def notes(self) -> dict[str, str]:
        s, notes = self.settings.weights, {}
        if self.uses_rgb:
            notes["rgb_weights"] = RANDOM_INIT if s.rgb == RANDOM_INIT else Path(s.rgb).name
        if self.uses_shape and s.sdf:
            notes["sdf_weights"] = RANDOM_INIT if s.sdf == RANDOM_INIT else Path(s.sdf).name
        return notes


def _to(tensors: dict[str, torch.Tensor], device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}
