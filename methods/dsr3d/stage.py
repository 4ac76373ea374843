"""Stage 1 as work that cells share: the discrete autoencoder, trained once and then frozen.

Trained on RGB images from anywhere and simulated depth (methods/dsr3d/README.md, section 3).
The ablation "dsr_naive" trains on the dataset's own images instead, all its categories together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from methods.blocks.samples import unit_rgb
from methods.blocks.texture_choice import source_name
from methods.blocks.textures import texture_source
from methods.blocks.training import optimise, weight_sizes
from methods.blocks.transfer import moved
from methods.contract import Batch, Run, Samples, Stage, save_tensors
from methods.dsr3d import declaration
from methods.dsr3d.dada import Autoencoder, Coded
from methods.dsr3d.declaration import StageSettings, images_setting, needs_images
from methods.dsr3d.settings import DadaLoss
from methods.dsr3d.simulation import Draws, draw_sample, images, stack

FILE = "dada.pt"

log = logging.getLogger(__name__)


class DadaStage(declaration.DadaStage, Stage):
    def __init__(self, settings: StageSettings, run: Run | None = None):
        super().__init__(settings, run)
        s = settings
        self.net = Autoencoder(s.dada.net, s.setting)
        self.net.init_weights(torch.Generator().manual_seed(self.seed("init")))
        self.net.to(self.run.device, memory_format=torch.channels_last).eval()
        self.used: dict[str, int] = {}

    def fit(self, train: Mapping[str, Samples]) -> None:
        s = self.settings.dada
        draw, make = self._sampler(train)
        low = s.train.mixed_precision

        def loss(step: int, drawn: Any) -> torch.Tensor:
            x = make(drawn).contiguous(memory_format=torch.channels_last)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
                coded = self.net(x)
            return dada_loss(coded, x, s.loss, self.settings.setting)["total"]

        trained = [p for p in self.net.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(trained, lr=s.train.lr, fused=True)
        optimise("3dsr (stage dada)", self.net, optimiser, s.train, self.run, draw, loss)
        self.net.eval()
        with torch.inference_mode():
            seen = self.net(make(draw(s.train.steps)))
        for level in ("lo", "hi"):
            codes = getattr(seen, level).codes
            self.used[f"codes_used_{level}"] = len(codes.unique())
        log.info("dada codes=%d %s", s.net.codes, self.used)

    def _sampler(self, train: Mapping[str, Samples]):
        """draw(step), a step's random numbers, and make(drawn), the images of these."""
        s, setting, device = self.settings.dada, self.settings.setting, self.run.device
        texture = None
        if needs_images(self.settings):
            texture = texture_source(
                s.images.source, s.size, s.images.folder, setting=images_setting(self.settings)
            )

        def sample(step: int, index: int) -> tuple:
            rng = np.random.default_rng(self.seed("simulate", step, index))
            return draw_sample(rng, s, setting, texture)

        # Reading images takes long: as many threads as torch computes with.
        pool = ThreadPoolExecutor(torch.get_num_threads())

        def draw(step: int) -> Draws:
            drawn = pool.map(partial(sample, step), range(s.train.batch))
            return Draws.stacked(drawn).to(device)

        def make(drawn: Draws) -> torch.Tensor:
            return images(drawn, s, setting)

        return draw, make

    def save(self, folder: Path) -> None:
        save_tensors(folder / FILE, self.net.state_dict())

    def sizes(self) -> dict[str, int]:
        return {**weight_sizes(self.net), **self.used}

    def notes(self) -> dict[str, str]:
        s = self.settings.dada.images
        if not needs_images(self.settings):
            return {}
        return {"dada_images": source_name(s.source, s.folder, "imagenet")}


class RealDadaStage(declaration.RealDadaStage, DadaStage):
    def _sampler(self, train: Mapping[str, Samples]):
        s, setting, device = self.settings.dada, self.settings.setting, self.run.device
        names = sorted(train)
        ends = np.cumsum([len(train[name]) for name in names])

        def draw(step: int) -> list[torch.Tensor]:
            rng = np.random.default_rng(self.seed("simulate", step))
            found = [read(index) for index in rng.integers(ends[-1], size=s.train.batch)]
            parts = (torch.cat([one[name] for one in found]) for name in ("rgb", "depth"))
            return moved(list(parts), device)

        def read(index: int) -> Batch:
            which = int(np.searchsorted(ends, index, side="right"))
            samples = train[names[which]]
            return samples.batch([int(index - ends[which] + len(samples))])

        def make(drawn: list[torch.Tensor]) -> torch.Tensor:
            rgb, depth = drawn
            return stack(unit_rgb(rgb), depth[:, None], setting)

        return draw, make

    def notes(self) -> dict[str, str]:
        return {"dada_images": "the dataset's own, RGB and depth"}


def dada_loss(coded: Coded, x: torch.Tensor, s: DadaLoss, setting: str) -> dict[str, torch.Tensor]:
    """Terms of stage 1's loss (section 3), and their sum "total".

    "joint" is the mean over all channels, so that RGB+D counts depth once and RGB three times;
    "modality" takes a mean of each.
    """
    norm = s.norm or ("l1" if setting == "rgb+3d" else "l2")
    error = coded.recon.float() - x
    error = error.abs() if norm == "l1" else error.square()
    weight = {"rgb": [s.lambda_i], "3d": [s.lambda_d], "rgb+3d": [s.lambda_d, s.lambda_i]}[setting]
    parts = error.split([1, 3], dim=1) if setting == "rgb+3d" else [error]
    share = [p.shape[1] / x.shape[1] if s.reduction == "joint" else 1.0 for p in parts]
    recon = sum(w * f * part.mean() for w, f, part in zip(weight, share, parts))
    terms = {"recon": recon, "codes_lo": coded.lo.loss, "codes_hi": coded.hi.loss}
    return {**terms, "total": recon + coded.lo.loss + coded.hi.loss}
