"""Frozen features: the extractors, and the stages that keep their output on disk.

Every variant, sweep point and seed that asks for the same backbone, weights and view shares them.
Point features are kept as the extractor gives them, one row a group, a third of what the aligned
patches would take.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from methods.blocks.points import farthest_points, nearest_points, pack, take
from methods.blocks.samples import standardised, unit_rgb
from methods.contract import RANDOM_INIT, Batch, Progress, Run, Samples, Stage
from methods.m3dm.settings import Point, Rgb
from methods.m3dm.weights import point_file, point_network, rgb_file, rgb_network
from methods.seeds import seed_for
from methods.views import M3dmView


@dataclass(frozen=True)
class RgbStage:
    prep: M3dmView = M3dmView()
    rgb: Rgb = Rgb()
    weights: str | None = None
    cache: str = "float32"
    batch: int = 4


@dataclass(frozen=True)
class PointStage:
    prep: M3dmView = M3dmView()
    point: Point = Point()
    weights: str | None = None
    cache: str = "float32"
    batch: int = 4


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
        self.settings = settings
        self.net = point_network(settings.point, settings.weights).to(device)

    @torch.inference_mode()
    def __call__(self, batch: Batch, category: str, late: bool = False) -> dict[str, torch.Tensor]:
        s = self.settings.point
        points, valid, _ = pack(batch["xyz"])
        centres = take(points, farthest_points(points, s.groups, valid))
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


class FeatureStage(Stage):
    """Features of every sample of a category, streamed to disk; a killed run goes on."""

    reads = "category"
    seeded = False
    extractor: ClassVar[type]

    @classmethod
    def view(cls, settings: Any) -> M3dmView:
        return settings.prep

    def fit(self, data: Mapping[str, Samples]) -> None:
        run, s = self.run, self.settings
        self.folder = Path(run.folder or tempfile.mkdtemp(prefix="m3dm-"))
        extract = self.extractor(s, run.device)
        done = (run.load_checkpoint() or {"done": {}})["done"]
        passes = [(split, samples, False) for split, samples in data.items()]
        if self.late:
            passes.append(("late", data["train"], True))
        total, count = sum(len(samples) for _, samples, _ in passes), 0
        for split, samples, late in passes:
            with _Writer(self.folder / split, samples.ids, done.get(split, 0)) as writer:
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


class RgbFeatures(FeatureStage):
    name = "rgb_features"
    Settings = RgbStage
    extractor = RgbExtractor

    @classmethod
    def inputs(cls, settings: RgbStage) -> dict[str, Path | None]:
        path = rgb_file(settings.weights, settings.rgb)
        return {"weights": path} if path else {}


class PointFeatures(FeatureStage):
    name = "point_features"
    Settings = PointStage
    extractor = PointExtractor

    @classmethod
    def inputs(cls, settings: PointStage) -> dict[str, Path | None]:
        path = point_file(settings.weights, settings.point)
        return {"weights": path} if path else {}

    @property
    def late(self) -> bool:
        return self.settings.point.mode == "official"


class _Writer:
    """The .npy files of one split, one row a sample; only whole rows count as done.

    Plain writes: the pages of a memory map would count as memory of the process.
    """

    def __init__(self, folder: Path, ids: Sequence[str], done: int):
        self.folder, self.ids, self.done, self.files = folder, ids, done, {}

    def __enter__(self) -> _Writer:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "ids.json").write_text(json.dumps(list(self.ids)))
        return self

    def __exit__(self, *_) -> None:
        for file in self.files.values():
            file.close()

    def add(self, arrays: Mapping[str, torch.Tensor], dtype: str) -> None:
        for name, values in arrays.items():
            values = values.cpu().numpy()
            if name != "centres":  # weights of neighbours need all their digits
                values = values.astype(dtype)
            if name not in self.files:
                self.files[name] = self._open(name, values)
            self.files[name].write(np.ascontiguousarray(values).tobytes())
        self.done += len(values)

    def _open(self, name: str, values: np.ndarray):
        path = self.folder / f"{name}.npy"
        file = path.open("r+b" if self.done else "wb")
        header = np.lib.format.header_data_from_array_1_0(values)
        header["shape"] = (len(self.ids), *values.shape[1:])
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(self.done * values[0].nbytes, 1)
        return file

    def flushed(self) -> int:
        for file in self.files.values():
            file.flush()
        return self.done


class Cache:
    """Features that a stage saved, by the ids of the samples."""

    def __init__(self, folder: Path, names: Sequence[str]):
        self.arrays, self.rows = {}, {}
        for part in sorted(p for p in folder.iterdir() if (p / "ids.json").exists()):
            ids = json.loads((part / "ids.json").read_text())
            if ids:
                self.arrays[part.name] = {n: _Rows(part / f"{n}.npy") for n in names}
                self.rows[part.name] = {name: i for i, name in enumerate(ids)}

    def get(self, ids: Sequence[str], late: bool = False) -> dict[str, torch.Tensor] | None:
        """Arrays of the samples, float32; None if it has not all of them."""
        late = late and "late" in self.rows
        found = []
        for name in ids:
            splits = ["late"] if late else [s for s in self.rows if s != "late"]
            split = next((s for s in splits if name in self.rows[s]), None)
            if split is None:
                return None
            found.append((self.arrays[split], self.rows[split][name]))
        return {
            name: torch.from_numpy(np.stack([arrays[name][row] for arrays, row in found])).float()
            for name in found[0][0]
        }


class _Rows:
    """Rows of a .npy file, read one by one: what is not mapped does not count as memory."""

    def __init__(self, path: Path):
        array = np.load(path, mmap_mode="r")
        self.path, self.shape, self.dtype = path, array.shape[1:], array.dtype
        self.offset, self.size = array.offset, int(np.prod(self.shape))

    def __getitem__(self, row: int) -> np.ndarray:
        offset = self.offset + row * self.size * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, self.size, offset=offset).reshape(self.shape)


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
            out |= {k: v.to(self.device) for k, v in kept.items()}
        return out
