"""The shared stage that trains the fusion network, once over all categories of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from methods.blocks.training import Constant, optimise
from methods.contract import Run, Samples, Stage, save_tensors
from methods.m3dm import declaration
from methods.m3dm.declaration import UffTraining
from methods.m3dm.features import Features
from methods.m3dm.patches import Patches
from methods.m3dm.pfa import image_patches, misaligned
from methods.m3dm.uff import sample_order, updates
from methods.m3dm.weights import make_uff
from methods.marks import RANDOM_INIT

FILE = "uff.pt"


class UffStage(declaration.UffStage, Stage):
    def __init__(self, settings: UffTraining, run: Run | None = None):
        super().__init__(settings, run)
        self.net = None

    def fit(self, data: Mapping[str, Samples]) -> None:
        s, run = self.settings.uff, self.run
        everything = [(name, i) for name in sorted(data) for i in range(len(data[name]))]
        if fault := self.fault(self.settings, len(everything)):
            raise ValueError(fault)
        steps = updates(len(everything), s)
        pairs = self._pairs(data)
        xyz, rgb = pairs(*everything[0])
        self.net = make_uff(xyz.shape[1], rgb.shape[1], s.ratio, s.head, run.seed).to(run.device)
        optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=s.lr, betas=s.betas, weight_decay=s.weight_decay
        )

        def draw(step: int) -> np.ndarray:
            epoch, first, _ = steps[step]
            return sample_order(len(everything), epoch, s, run.seed)[first : first + s.accumulation]

        def losses(step: int, batches: np.ndarray) -> Iterator[torch.Tensor]:
            for batch in batches:
                found = [pairs(*everything[i]) for i in batch]
                xyz, rgb = (torch.cat(part) for part in zip(*found))
                yield self.net.loss(xyz, rgb, s.temperature) / len(batches)

        optimise(
            "m3dm.uff",
            self.net,
            optimiser,
            Constant(len(steps)),
            run,
            draw,
            losses,
            rate=lambda step: steps[step][2],
            advice="lower uff.lr",
        )
        self.net.requires_grad_(False)

    def _pairs(self, data: Mapping[str, Samples]):
        """(category, sample) -> its patches of points (P, C) and of the image (P, D), in pairs."""
        s, run = self.settings, self.run
        stages = self.stage_settings(s)
        made = {name: Patches(Features(stages, run, name, f"/{name}"), s.pfa) for name in data}

        def pairs(category: str, i: int) -> tuple[torch.Tensor, torch.Tensor]:
            batch, patches = data[category].batch([i], run.device), made[category]
            with torch.no_grad():  # not inference mode: these enter a graph
                found = patches.features(batch)
                xyz, tokens = patches.on_grid(batch, found)[0], found["rgb"]
                rgb = image_patches(tokens, s.pfa.grid)[0]
                if s.uff.pairing == "official_release":
                    flat = tokens.flatten(2).transpose(1, 2)[0]
                    rgb = flat[misaligned(tokens.shape[2], s.pfa.grid).to(flat.device)]
                return xyz.clone(), rgb.clone()

        return pairs

    def save(self, folder: Path) -> None:
        save_tensors(folder / FILE, {"model": self.net.state_dict()})

    def sizes(self) -> dict[str, int]:
        return {"uff_parameters": sum(p.numel() for p in self.net.parameters())}

    def notes(self) -> dict[str, str]:
        random = RANDOM_INIT in (self.settings.rgb.weights, self.settings.point.weights)
        return {"uff": "trained"} | ({"weights": RANDOM_INIT} if random else {})
