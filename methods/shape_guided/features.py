"""The appearance expert's features of a category, kept for all variants and seeds on it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from methods.blocks.kept import Kept, Rows, Writer
from methods.contract import Batch, Progress, Samples, Stage
from methods.shape_guided import declaration
from methods.shape_guided.appearance import normalised
from methods.shape_guided.declaration import rgb_path
from methods.shape_guided.settings import Rgb
from methods.shape_guided.weights import appearance, load_backbone

ROWS, INDEX = "rgb.f32", "rgb.json"


class RgbFeatures(declaration.RgbFeatures, Stage):
    """Float32 features (G, C) of every sample, streamed to disk; a killed run goes on."""

    def fit(self, data: Mapping[str, Samples]) -> None:
        s, run = self.settings, self.run
        net = appearance(s.rgb).to(run.device)
        if file := rgb_path(s.weights, s.rgb.backbone):
            load_backbone(net, file)
        self.path = Path(run.folder or tempfile.mkdtemp(prefix="shape-guided-")) / ROWS
        self.ids: list[str] = []
        state, order = run.load_checkpoint() or {}, [id for s in data.values() for id in s.ids]
        done = state["samples"] if state.get("ids") == order else 0  # not of an earlier order
        parts = [
            (samples, range(first, min(first + s.batch, len(samples))))
            for samples in data.values()
            for first in range(0, len(samples), s.batch)
        ]
        total = sum(len(rows) for _, rows in parts)
        with Writer(self.path, done) as out:
            for samples, rows in parts:
                self.ids += [samples.ids[i] for i in rows]
                if len(self.ids) <= done:
                    continue
                features = described(net, samples.batch(rows, run.device), s.rgb)
                out.add(features.cpu().numpy())
                run.report(Progress("features", out.done, total))
                run.save_checkpoint(lambda: {"samples": out.flushed(), "ids": order})

    def save(self, folder: Path) -> None:
        if self.path.parent.resolve() != folder.resolve():
            shutil.move(self.path, folder / ROWS)
        (folder / INDEX).write_text(json.dumps({"ids": self.ids}) + "\n", encoding="utf-8")


def described(net: torch.nn.Module, batch: Batch, rgb: Rgb) -> torch.Tensor:
    """Features (B, G, C) of the samples of a batch."""
    return net(normalised(batch["rgb"], rgb))


class KeptFeatures:
    """What `RgbFeatures` saved, by the ids of samples. Rows are read as they are asked for."""

    def __init__(self, folder: Path, cells: int):
        """cells: G, from which follows C."""
        ids = json.loads((folder / INDEX).read_text(encoding="utf-8"))["ids"]
        values = (folder / ROWS).stat().st_size // 4
        shape = (cells, values // max(1, len(ids)) // cells)
        self.kept = Kept(ids, {"rgb": Rows(folder / ROWS, shape, np.float32)})

    def get(self, ids: Sequence[str]) -> torch.Tensor | None:
        """(B, G, C); None unless all of the samples are known."""
        if not all(id in self.kept for id in ids):
            return None
        return torch.from_numpy(np.stack([self.kept[id]["rgb"] for id in ids]))
