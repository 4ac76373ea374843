"""Work that cells share: the trained shape expert, and each category cut into patches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from methods.blocks.kept import Rows
from methods.blocks.training import Constant, optimise
from methods.blocks.transfer import moved
from methods.contract import Progress, Run, Samples, Stage, save_tensors
from methods.shape_guided import declaration
from methods.shape_guided.declaration import ExpertSettings
from methods.shape_guided.patches import cut_cloud, points_of
from methods.shape_guided.sdf import pull_loss, queries_around, query_spread
from methods.shape_guided.weights import SHAPE_KEY, shape_net

CHECKPOINT = "shape_expert.pth"


class ShapeExpert(declaration.ShapeExpert, Stage):
    """One shape expert for all categories of a dataset.

    methods/shape_guided/README.md, sections 1.5 and 2.
    """

    def __init__(self, settings: ExpertSettings, run: Run | None = None):
        super().__init__(settings, run)
        self.net = shape_net(settings.net, self.seed("init")).to(self.run.device)

    def fit(self, data: Mapping[str, Samples]) -> None:
        s = self.settings.train
        points = self._patches(data)  # (P, K, 3)
        sigma = query_spread(points, s.neighbour)  # (P, K)
        self.steps = self._steps(len(points))

        def draw(step: int) -> list[torch.Tensor]:
            index = self._order(step, len(points))
            noise = self._queries((len(index), *points.shape[1:]), step)
            return moved([index, *noise], points.device)

        def loss(step: int, drawn: list[torch.Tensor]) -> torch.Tensor:
            index, *noise = drawn
            return self._loss(points[index], sigma[index], *noise)

        optimise(
            "shape_guided",
            self.net,
            torch.optim.Adam(self.net.parameters(), lr=s.lr),
            Constant(self.steps),
            self.run,
            draw,
            loss,
        )

    def _patches(self, data: Mapping[str, Samples]) -> torch.Tensor:
        """Patches (P, K, 3) of the clouds drawn from each category, not yet normalised."""
        wanted, patches = self.settings.train.clouds, self.settings.patches
        clouds = []
        for category, samples in sorted(data.items()):
            rng = np.random.default_rng(self.seed("clouds", category))
            count = min(wanted or len(samples), len(samples))
            for i in rng.choice(len(samples), count, replace=False):
                xyz = samples.batch([i], self.run.device)["xyz"][0]
                clouds.append(points_of(xyz, cut_cloud(xyz, patches, self.run.seed)))
                self.run.report(Progress(f"cut {category}", len(clouds), count * len(data)))
        points = torch.cat(clouds)
        if not len(points):
            raise ValueError(
                f"no point in {len(clouds)} training clouds of {', '.join(data)}: "
                "did background removal leave nothing?"
            )
        return points

    def _steps(self, patches: int) -> int:
        s = self.settings.train
        return s.epochs * max(1, patches // s.batch) if s.steps is None else s.steps

    def _order(self, step: int, count: int) -> torch.Tensor:
        """Patches of a step: all in a new order every epoch, an incomplete last batch left out."""
        batch = min(self.settings.train.batch, count)
        epoch, place = divmod(step, count // batch)
        order = np.random.default_rng(self.seed("order", epoch)).permutation(count)
        return torch.from_numpy(order[place * batch : (place + 1) * batch])

    def _queries(self, shape: tuple[int, ...], step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """How far around which point a step asks: factors (B,) and noise (B, K, 3)."""
        s = self.settings.train
        generator = torch.Generator().manual_seed(self.seed("queries", step))
        near = torch.rand(shape[0], generator=generator) < s.near_share
        return torch.where(near, s.near, s.far), torch.randn(shape, generator=generator)

    def _loss(
        self,
        points: torch.Tensor,
        sigma: torch.Tensor,
        factor: torch.Tensor,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        patch, queries, targets = queries_around(points, sigma, factor, noise)
        seen = targets if self.settings.train.encoder_input == "targets" else patch
        return pull_loss(self.net, seen, queries, targets)

    def save(self, folder: Path) -> None:
        """In the layout of the authors' checkpoints."""
        state = {SHAPE_KEY: self.net.state_dict(), "current_iteration": self.steps}
        save_tensors(folder / CHECKPOINT, state)

    def sizes(self) -> dict[str, int]:
        return {"shape_expert_parameters": sum(p.numel() for p in self.net.parameters())}

    def notes(self) -> dict[str, str]:
        return {"sdf_weights": f"trained for {self.steps} steps"}


class CutPatches(declaration.CutPatches, Stage):
    """Pixel ids of the patches of every sample of a category."""

    def fit(self, data: Mapping[str, Samples]) -> None:
        total, done = sum(map(len, data.values())), 0
        self.ids: list[str] = []
        self.pixels: list[np.ndarray] = []
        for samples in data.values():
            for i in range(len(samples)):
                batch = samples.batch([i], self.run.device)
                pixels = cut_cloud(batch["xyz"][0], self.settings.patches, self.run.seed)
                self.ids += batch.ids
                self.pixels.append(pixels.cpu().numpy().astype(np.int32))
                done += 1
                self.run.report(Progress("cut", done, total))

    def save(self, folder: Path) -> None:
        np.save(folder / "pixels.npy", np.concatenate(self.pixels))  # (sum P, K)
        index = {"ids": self.ids, "patches": [len(p) for p in self.pixels]}
        (folder / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")


class Cuts:
    """What `CutPatches` saved: `cuts.get(id)` gives pixel ids (P, K), or None for a new sample."""

    def __init__(self, folder: Path):
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.pixels = Rows.of_npy(folder / "pixels.npy")
        ends = np.cumsum(index["patches"])
        starts = ends - index["patches"]
        self.rows = dict(zip(index["ids"], zip(starts.tolist(), ends.tolist())))

    def get(self, id: str) -> torch.Tensor | None:
        if id not in self.rows:
            return None
        start, end = self.rows[id]
        return torch.from_numpy(self.pixels.read(start, end - start).astype(np.int64))
