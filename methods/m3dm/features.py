"""Frozen features: the extractors, and the stages that keep their output on disk.

Every variant, sweep point and seed that asks for the same backbone, weights and view shares them.
Point features are kept as the extractor gives them, one row a group, a third of what the aligned
patches would take.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from methods.blocks.kept import Kept, Rows, Writer
from methods.blocks.points import farthest_points, nearest_points, pack, take
from methods.blocks.samples import standardised, unit_rgb
from methods.blocks.transfer import moved
from methods.contract import Batch, Progress, Run, Samples, Stage
from methods.m3dm import declaration
from methods.m3dm.declaration import PointStage, RgbStage
from methods.m3dm.weights import point_network, rgb_network
from methods.marks import RANDOM_INIT
from methods.seeds import seed_for

IDS, LATE = "ids.json", "late"


class RgbExtractor:
    """Batches of the view -> {"rgb": (B, C, g, g)}"""

    def __init__(self, settings: RgbStage, device: torch.device | str):
        self.settings = settings
        self.net = rgb_network(settings.rgb, settings.prep.size, settings.weights).to(device)

    @torch.inference_mode()
    def __call__(self, batch: Batch, category: str, late: bool = False) -> dict[str, torch.Tensor]:
        s = self.settings.rgb
        images = standardised(unit_rgb(batch["rgb"]), s.mean, s.std)
        return {"rgb": _as_kept(self.net(images), self.settings.cache)}


class PointExtractor:
    """Batches of the view -> {"centres": (B, G, 3), "point": (B, G, C)}"""

    def __init__(self, settings: PointStage, device: torch.device | str):
        self.settings, self.device = settings, device
        self.net = point_network(settings.point, settings.weights).to(device)

    @torch.inference_mode()
    def __call__(self, batch: Batch, category: str, late: bool = False) -> dict[str, torch.Tensor]:
        s = self.settings.point
        points, valid, _ = pack(batch["xyz"].cpu())
        chosen = farthest_points(points, s.groups, valid)
        points, valid, chosen = moved([points, valid, chosen], self.device)
        centres = take(points, chosen)
        _, index = nearest_points(centres, points, s.group_size, valid)
        groups = take(points, index) - centres[:, :, None]  # (B, G, S, 3)
        keep = self._keep(batch.ids, category, late) if s.mode == "official" else None
        features = self.net(groups, centres, s.mode, keep)
        return {"centres": centres, "point": _as_kept(features, self.settings.cache)}

    def _keep(self, ids: Sequence[str], category: str, late: bool) -> torch.Tensor:
        """Branch weights of stochastic depth, drawn per sample and pass."""
        rates = self.net.drop_rates()[:, None].numpy()  # (depth, 1)
        draws = [
            np.random.default_rng(seed_for("droppath", category, name, late)).random(
                (len(rates), 2)
            )
            for name in ids
        ]
        keep = torch.from_numpy(np.stack(draws) >= rates)
        return self.net.drop_weights(keep).to(next(self.net.parameters()))


def _as_kept(x: torch.Tensor, dtype: str) -> torch.Tensor:
    """Computed features with the precision of kept ones, so that either gives the same result."""
    return x.half().float() if dtype == "float16" else x


class FeatureStage(declaration.FeatureStage, Stage):
    """Features of every sample of a category, streamed to disk; a killed run goes on."""

    extractor: ClassVar[type]

    def fit(self, data: Mapping[str, Samples]) -> None:
        run, s = self.run, self.settings
        self.folder = Path(run.folder or tempfile.mkdtemp(prefix="m3dm-"))
        extract = self.extractor(s, run.device)
        done = (run.load_checkpoint() or {"done": {}})["done"]
        passes = [(split, samples, False) for split, samples in data.items()]
        if self.late:
            passes.append((LATE, data["train"], True))
        total, count = sum(len(samples) for _, samples, _ in passes), 0
        for split, samples, late in passes:
            with _Split(self.folder / split, samples.ids, done.get(split, 0)) as writer:
                for start in range(writer.done, len(samples), s.batch):
                    batch = samples.batch(
                        range(start, min(start + s.batch, len(samples))), run.device
                    )
                    writer.add(extract(batch, run.category, late), s.cache)
                    run.report(Progress("features", count + writer.done, total))
                    run.save_checkpoint(lambda: {"done": {**done, split: writer.flushed()}})
            done[split] = len(samples)
            count += len(samples)

    @property
    def late(self) -> bool:
        """Whether the second pass over the training samples sees other features."""
        return False

    def save(self, folder: Path) -> None:
        if folder.resolve() != self.folder.resolve():
            for part in sorted(self.folder.iterdir()):
                if part.is_dir():
                    part.rename(folder / part.name)

    def notes(self) -> dict[str, str]:
        return {"weights": RANDOM_INIT} if self.settings.weights == RANDOM_INIT else {}


class RgbFeatures(declaration.RgbFeatures, FeatureStage):
    extractor = RgbExtractor


class PointFeatures(declaration.PointFeatures, FeatureStage):
    extractor = PointExtractor

    @property
    def late(self) -> bool:
        return self.settings.point.mode == "official"


class _Split:
    """The .npy files of one split, filled together; only whole samples count as done."""

    def __init__(self, folder: Path, ids: Sequence[str], done: int):
        folder.mkdir(parents=True, exist_ok=True)
        index, text = folder / IDS, json.dumps(list(ids))
        if index.exists() and index.read_text() != text:
            done = 0  # rows of samples in another order, by an earlier version
        index.write_text(text)
        self.folder, self.total, self.done = folder, len(ids), done
        self.files: dict[str, Writer] = {}

    def __enter__(self) -> _Split:
        return self

    def __exit__(self, *error) -> None:
        for file in self.files.values():
            file.__exit__(*error)

    def add(self, arrays: Mapping[str, torch.Tensor], dtype: str) -> None:
        for name, values in arrays.items():
            values = values.cpu().numpy()
            if name != "centres":  # weights of neighbours need all their digits
                values = values.astype(dtype)
            if name not in self.files:
                self.files[name] = Writer(self.folder / f"{name}.npy", self.done, self.total)
            self.files[name].add(values)
        self.done += len(values)

    def flushed(self) -> int:
        for file in self.files.values():
            file.flush()
        return self.done


class Cache:
    """Features that a stage saved, by the ids of the samples."""

    def __init__(self, folder: Path, names: Sequence[str]):
        self.splits: dict[str, Kept] = {}
        for part in sorted(p for p in folder.iterdir() if (p / IDS).exists()):
            if ids := json.loads((part / IDS).read_text()):
                rows = {name: Rows.of_npy(part / f"{name}.npy") for name in names}
                self.splits[part.name] = Kept(ids, rows)

    def get(self, ids: Sequence[str], late: bool = False) -> dict[str, torch.Tensor] | None:
        """Arrays of the samples, float32; None if it has not all of them."""
        late = late and LATE in self.splits
        splits = [kept for name, kept in self.splits.items() if (name == LATE) == late]
        found = []
        for id in ids:
            kept = next((kept for kept in splits if id in kept), None)
            if kept is None:
                return None
            found.append(kept[id])
        return {
            name: torch.from_numpy(np.stack([arrays[name] for arrays in found])).float()
            for name in found[0]
        }


class Features:
    """Kept features where a stage has them, computed ones otherwise.

    stages: settings of the feature stages that are used -> by their names.
    """

    NAMES: ClassVar = {
        RgbFeatures.name: (RgbFeatures, ("rgb",)),
        PointFeatures.name: (PointFeatures, ("centres", "point")),
    }

    def __init__(self, stages: Mapping[str, Any], run: Run, category: str, at: str = ""):
        """at: what follows a stage's name in `run.stages`, such as "/bagel"."""
        self.stages, self.device, self.category = stages, run.device, category
        self.caches = {
            name: Cache(run.stages[name + at], self.NAMES[name][1])
            for name in stages
            if name + at in run.stages
        }
        self.extractors: dict[str, Any] = {}

    def __call__(self, batch: Batch, late: bool = False) -> dict[str, torch.Tensor]:
        """late: those of the second pass over the training samples (mode "official")."""
        out = {}
        for name, settings in self.stages.items():
            kept = self.caches[name].get(batch.ids, late) if name in self.caches else None
            if kept is None:
                if name not in self.extractors:
                    stage = self.NAMES[name][0]
                    self.extractors[name] = stage.extractor(settings, self.device)
                kept = self.extractors[name](batch, self.category, late)
            out |= dict(zip(kept, moved(list(kept.values()), self.device)))
        return out
