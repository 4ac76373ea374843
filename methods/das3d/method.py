"""DAS3D as a plug-in: fit on normal samples with synthetic anomalies, predict, save, load."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from methods.blocks.draem import init_weights
from methods.blocks.textures import augmented, source_name, texture_folder, texture_source
from methods.contract import (
    Batch,
    Method,
    Prediction,
    Progress,
    Run,
    Samples,
    save_tensors,
    seed_for,
)
from methods.das3d.network import Das3dNet, das3d_loss, image_score
from methods.das3d.settings import Settings
from methods.das3d.synthesis import Draws, draw_samples, synthesise
from methods.views import Das3dView

REPORT_EVERY_S = 0.5


class Das3d(Method):
    name = "das3d"
    Settings = Settings
    variants = {
        "no_skew_no_dropout": {"skew.enabled": False, "p_d": 0.0},       # Table 6
        "skew_only": {"p_d": 0.0},
        "dropout_only": {"skew.enabled": False},
        "untrained": {"train.steps": 0},
    }

    def __init__(self, settings: Settings, setting: str, run: Run | None = None):
        super().__init__(settings, setting, run)
        self.net = Das3dNet(settings, setting)
        init_weights(self.net, torch.Generator().manual_seed(self._seed("init")))
        # channels_last: a fifth to a quarter less time for narrow networks on the CPU.
        self.net.to(self.run.device, memory_format=torch.channels_last).eval()

    @classmethod
    def view(cls, settings: Settings) -> Das3dView:
        return settings.prep

    @classmethod
    def inputs(cls, settings: Settings, setting: str) -> dict[str, Path | None]:
        used = "rgb" in setting and settings.train.steps > 0
        texture = settings.texture
        folder = texture_folder(texture.source, texture.folder, "das3d.texture") if used else None
        return {"texture.folder": folder}

    def fit(self, train: Samples, validation: Samples) -> None:
        s, run = self.settings.train, self.run
        optimiser = torch.optim.Adam(self.net.parameters(), lr=s.lr, fused=True)
        first = 0
        if state := run.load_checkpoint():
            first = state["step"]
            self.net.load_state_dict(state["net"])
            optimiser.load_state_dict(state["optimiser"])

        def state_after(step):
            return {
                "step": step,
                "net": self.net.state_dict(),
                "optimiser": optimiser.state_dict(),
            }

        self.net.train()
        start = reported = time.monotonic()
        for step, draws in self._draws_ahead(first):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, s)
            loss = self._loss(train, step, draws)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

            done, now = step + 1, time.monotonic()
            if now - reported >= REPORT_EVERY_S or done == s.steps:
                seconds_left = (now - start) / (done - first) * (s.steps - done)
                run.report(Progress("train", done, s.steps, finite(loss, done), seconds_left))
                reported = now
            run.save_checkpoint(lambda: state_after(done))
        self.net.eval()

    def _loss(self, train: Samples, step: int, draws: Draws) -> torch.Tensor:
        batch = train.batch(self._order(step, len(train)), self.run.device)
        rgb, depth, foreground = images(batch)
        x = synthesise(rgb, depth, foreground, draws.to(rgb.device), self.settings)
        low = self.settings.train.mixed_precision
        with torch.autocast(rgb.device.type, torch.bfloat16, enabled=low):
            output = self.net(x.rgb, x.depth)
        if low:
            output = type(output)(*(y if y is None else y.float() for y in output))
        return das3d_loss(
            output, x.clean_rgb, x.clean_depth, x.mask, self.settings.loss
        )["total"]

    def _draws_ahead(self, first: int) -> Iterator[tuple[int, Draws]]:
        """(step, its draws) up to the last step; a thread draws the next while one is in use."""
        steps, batch = self.settings.train.steps, self.settings.train.batch
        if first >= steps:
            return
        texture = self._texture()

        def draw(step):
            seeds = [self._seed("simulate", step, index) for index in range(batch)]
            return draw_samples(seeds, self.settings, self.setting, texture)

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(draw, first)
            for step in range(first, steps):
                draws = coming.result()
                if step + 1 < steps:
                    coming = pool.submit(draw, step + 1)
                yield step, draws

    def _texture(self):
        if "rgb" not in self.setting:
            return None
        s = self.settings.texture
        texture = texture_source(
            s.source, self.settings.prep.size, s.folder, self.run.category, "das3d.texture"
        )
        return augmented(texture) if s.augment else texture

    def _order(self, step: int, count: int) -> np.ndarray:
        """Samples of a step: the training set is gone through in a new order every epoch."""
        batch = self.settings.train.batch
        place = np.arange(step * batch, (step + 1) * batch)
        epochs = range(place[0] // count, place[-1] // count + 1)
        orders = [np.random.default_rng(self._seed("order", e)).permutation(count) for e in epochs]
        return np.concatenate(orders)[place - epochs[0] * count]

    def _seed(self, purpose: str, *names: object) -> int:
        return seed_for(purpose, self.name, self.run.category, self.run.seed, *names)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Prediction:
        rgb, depth, _ = images(batch)
        maps = self.net(rgb, depth).logits.softmax(dim=1)[:, 1]           # (B, H, W)
        if self.settings.score == "max":
            return Prediction(maps, maps.amax(dim=(1, 2)))
        return Prediction(maps, image_score(maps, self.settings.score_window))

    def save(self, folder: Path) -> None:
        save_tensors(folder / "net.pt", self.net.state_dict())

    def load(self, folder: Path) -> None:
        self.net.load_state_dict(
            torch.load(folder / "net.pt", map_location=self.run.device, weights_only=True)
        )
        self.net.eval()

    def sizes(self) -> dict[str, int]:
        return {
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "weight_bytes": sum(
                t.numel() * t.element_size()
                for t in itertools.chain(self.net.parameters(), self.net.buffers())
            ),
        }

    def notes(self) -> dict[str, str]:
        s = self.settings.texture
        return {"texture_source": source_name(s.source, s.folder)} if "rgb" in self.setting else {}


def learning_rate(step: int, train) -> float:
    """The rate of a step: lr, times gamma once past each milestone."""
    return train.lr * train.gamma ** sum(step >= m * train.steps for m in train.milestones)


def finite(loss: torch.Tensor, step: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"das3d: loss is {value} at step {step}; try a lower train.lr")
    return value


def images(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """rgb (B, 3, S, S), depth (B, 1, S, S) and foreground (B, 1, S, S), float32 in [0, 1]."""
    rgb = batch["rgb"].permute(0, 3, 1, 2).float() / 255
    return rgb, batch["depth"][:, None], batch["foreground"][:, None].float()
