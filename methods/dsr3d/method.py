"""3DSR, of colour alone DSR: a discrete autoencoder of RGB-D, anomalies made among its codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from methods.blocks.losses import focal
from methods.blocks.samples import batches_on
from methods.blocks.training import NetworkMethod, optimise
from methods.blocks.weights import Fit
from methods.contract import Batch, Prediction, Run, Samples
from methods.dsr3d import anomalies, declaration, samples
from methods.dsr3d.declaration import dada_file, weights_setting
from methods.dsr3d.model import Dsr3dNet, smooth, stage2_loss
from methods.dsr3d.networks import InstanceNorm
from methods.dsr3d.settings import Settings
from methods.dsr3d.stage import FILE, DadaStage, RealDadaStage
from methods.dsr3d.weights import load_authors, published_dada, read
from methods.marks import IMPORTED

PHASES = ("train", "upsample")


class Dsr3d(declaration.Dsr3d, NetworkMethod):
    stages = {"dada": DadaStage, "dada_real": RealDadaStage}

    def __init__(self, settings: Settings, setting: str, run: Run | None = None):
        super().__init__(settings, setting, run)
        self.pipeline = settings.of(setting)
        self.net = Dsr3dNet(self.pipeline, setting)
        self.net.init_weights(torch.Generator().manual_seed(self.seed("init")))
        layout = InstanceNorm.memory_format(torch.device(self.run.device))
        self.net.to(self.run.device, memory_format=layout).eval()

    @classmethod
    def published(cls, settings: Settings, setting: str) -> dict[str, Callable[[Path], Fit]]:
        return {weights_setting(setting): published_dada(settings.of(setting).dada, setting)}

    def fit(self, train: Samples, validation: Samples) -> None:
        self._load_dada()
        s, net = self.pipeline, self.net
        batches = batches_on(self.run.device, train)

        def draw(draws, phase: str, step: int) -> tuple:
            rng = np.random.default_rng(self.seed("simulate", phase, step))
            drawn = draws(rng, len(train))
            return batches(drawn[0].index), *(one.to(self.run.device) for one in drawn)

        trained = (net.restrict_lo, net.restrict_hi, net.object_decoder, net.anomaly_net)
        draws = partial(draw, self._stage2_draws)
        self._optimise("train", trained, s.train, draws, self._stage2_loss)
        if self.setting == "rgb":
            draws = partial(draw, self._upsampler_draws)
            schedule = s.upsampler.train
            self._optimise("upsample", (net.upsampler,), schedule, draws, self._upsampler_loss)

    def _load_dada(self) -> None:
        dada, net = self.pipeline.dada, self.net.autoencoder
        if dada.weights:
            name = f"3dsr.{weights_setting(self.setting)}"
            file = dada_file(dada.weights, name, self.setting)
            load_authors(net, read(file), file)
            return
        (stage,) = self.stage_settings(self.settings, self.setting)
        if stage not in self.run.stages:
            raise ValueError(
                f"3dsr has no trained autoencoder: give what its stage {stage!r} saved as "
                f"Run.stages[{stage!r}], or the authors' file as 3dsr.dada.weights"
            )
        path = Path(self.run.stages[stage]) / FILE
        net.load_state_dict(torch.load(path, map_location=self.run.device, weights_only=True))

    def _optimise(self, phase, modules, schedule, draw, loss) -> None:
        trained = [p for module in modules for p in module.parameters()]
        optimise(
            self.name,
            self.net,
            torch.optim.Adam(trained, lr=schedule.lr, fused=True),
            schedule,
            self.run,
            partial(draw, phase),
            lambda step, drawn: loss(*drawn),
            phase,
            PHASES if self.setting == "rgb" else PHASES[:1],
        )

    def _stage2_draws(self, rng, count: int) -> tuple[samples.Draws, anomalies.Draws]:
        s, low = self.pipeline, self.view(self.settings, self.setting).size // 8
        image = samples.draw(rng, count, s.train.batch, s.mask, s.augment)
        return image, anomalies.draw(rng, s.train.batch, (low, low), s.anomaly)

    def _stage2_loss(
        self, batch: Batch, image: samples.Draws, feature: anomalies.Draws
    ) -> torch.Tensor:
        s, net = self.pipeline, self.net
        x, mask = samples.make(batch, image, s.mask, self.setting)
        with self._autocast(s.train.mixed_precision):
            simulated = net.simulate(x, mask, feature, s.anomaly)
            output = net.compare(simulated.lo, simulated.hi, simulated.general)
        return stage2_loss(output, simulated, x, s.loss)["total"]

    def _upsampler_draws(self, rng, count: int) -> tuple[samples.Draws]:
        s = self.pipeline.upsampler
        mask = self.pipeline.mask
        return (samples.draw(rng, count, s.train.batch, mask, s.augment, s.beta),)

    def _upsampler_loss(self, batch: Batch, image: samples.Draws) -> torch.Tensor:
        s, net = self.pipeline, self.net
        x, mask = samples.make(batch, image, s.mask, self.setting)
        with self._autocast(s.upsampler.train.mixed_precision):
            with torch.no_grad():
                output = net(samples.coloured(x, mask, image))
            logits = net.refine(output)
        return focal(logits.float().softmax(dim=1), mask, s.loss.gamma)

    def _autocast(self, enabled: bool) -> torch.autocast:
        return torch.autocast(torch.device(self.run.device).type, torch.bfloat16, enabled=enabled)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Prediction:
        s = self.pipeline
        x = samples.laid_out(samples.images(batch, self.setting))
        with self._autocast(s.predict_bfloat16):
            output = self.net(x)
            refined = self.net.refine(output) if self.setting == "rgb" else output.logits
        maps, final = (y.float().softmax(dim=1)[:, 1] for y in (output.logits, refined))
        smoothed = smooth(maps, s.score, self.setting)
        if s.score.smooth_map:
            final = smooth(final, s.score, self.setting) if self.setting == "rgb" else smoothed
        return Prediction(final, smoothed.amax(dim=(1, 2)))

    def notes(self) -> dict[str, str]:
        notes = {}
        if self.setting == "rgb":
            notes["network"] = "DSR, which the paper reports for RGB; map not cropped"
        if weights := self.pipeline.dada.weights:
            notes["dada"] = f"{IMPORTED} weights, {Path(weights).name}"
        return notes
