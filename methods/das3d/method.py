"""DAS3D: anomalies made in colour and depth, two networks that repair them, a U-Net that tells."""

from __future__ import annotations

import numpy as np
import torch

from methods.blocks.draem import image_score, init_weights
from methods.blocks.samples import batches_on, rgbd
from methods.blocks.texture_choice import source_name
from methods.blocks.textures import chosen_texture
from methods.blocks.training import NetworkMethod, epoch_order, optimise
from methods.contract import Batch, Prediction, Run, Samples
from methods.das3d import declaration
from methods.das3d.network import Das3dNet, das3d_loss
from methods.das3d.settings import Settings
from methods.das3d.synthesis import Draws, draw_samples, synthesise


class Das3d(declaration.Das3d, NetworkMethod):
    def __init__(self, settings: Settings, setting: str, run: Run | None = None):
        super().__init__(settings, setting, run)
        self.net = Das3dNet(settings, setting)
        init_weights(self.net, torch.Generator().manual_seed(self.seed("init")))
        # channels_last: a fifth to a quarter less time for narrow networks on the CPU.
        self.net.to(self.run.device, memory_format=torch.channels_last).eval()

    def fit(self, train: Samples, validation: Samples) -> None:
        s, device = self.settings.train, self.run.device
        optimiser = torch.optim.Adam(self.net.parameters(), lr=s.lr, fused=True)
        texture = self._texture() if s.steps else None
        batch = batches_on(device, train)

        def draw(step):
            seeds = [self.seed("simulate", step, index) for index in range(s.batch)]
            draws = draw_samples(seeds, self.settings, self.setting, texture)
            return batch(self._order(step, len(train))), draws.to(device)

        optimise(
            self.name,
            self.net,
            optimiser,
            s,
            self.run,
            draw,
            lambda step, drawn: self._loss(*drawn),
        )

    def _loss(self, batch: Batch, draws: Draws) -> torch.Tensor:
        rgb, depth, foreground = rgbd(batch)
        x = synthesise(rgb, depth, foreground, draws, self.settings)
        low = self.settings.train.mixed_precision
        with torch.autocast(rgb.device.type, torch.bfloat16, enabled=low):
            output = self.net(x.rgb, x.depth)
        if low:
            output = type(output)(*(y if y is None else y.float() for y in output))
        return das3d_loss(output, x.clean_rgb, x.clean_depth, x.mask, self.settings.loss)["total"]

    def _texture(self):
        if "rgb" not in self.setting:
            return None
        s = self.settings
        return chosen_texture(s.texture, s.prep.size, self.run.category, "das3d.texture")

    def _order(self, step: int, count: int) -> np.ndarray:
        return epoch_order(
            step, self.settings.train.batch, count, lambda epoch: self.seed("order", epoch)
        )

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Prediction:
        rgb, depth, _ = rgbd(batch)
        maps = self.net(rgb, depth).logits.softmax(dim=1)[:, 1]  # (B, H, W)
        if self.settings.score == "max":
            return Prediction(maps, maps.amax(dim=(1, 2)))
        return Prediction(maps, image_score(maps, self.settings.score_window))

    def notes(self) -> dict[str, str]:
        s = self.settings.texture
        return {"texture_source": source_name(s.source, s.folder)} if "rgb" in self.setting else {}
