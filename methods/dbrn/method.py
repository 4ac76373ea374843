"""DBRN: a network each reconstructs colour and depth; a third, shared, segments both.

The paper has no public code, so this is a reference implementation: methods/dbrn/README.md lists
every decision with its alternatives, and each is a setting. Sections are those of that file.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import torch

from methods.blocks.draem import image_score
from methods.blocks.samples import batches_on, rgbd
from methods.blocks.swin_unet import SwinUnet, load_pretrained
from methods.blocks.texture_choice import source_name
from methods.blocks.textures import chosen_texture
from methods.blocks.training import NetworkMethod, ahead, epoch_order, optimise, settle_norms
from methods.contract import Batch, Prediction, Run, Samples
from methods.dbrn import declaration
from methods.dbrn.dropout import inference_drops, multipliers, onto, training_drops
from methods.dbrn.losses import dbrn_loss
from methods.dbrn.network import AllDrops, DbrnNet, Output, SameImage, init_weights
from methods.dbrn.settings import Settings
from methods.dbrn.simulation import Draws, Simulated, draw_samples, simulate
from methods.errors import UserError


class Dbrn(declaration.Dbrn, NetworkMethod):
    def __init__(self, settings: Settings, setting: str, run: Run | None = None):
        super().__init__(settings, setting, run)
        self.net = DbrnNet(settings, setting)
        generator = torch.Generator().manual_seed(self.seed("init"))
        init_weights(self.net, generator, settings.swin.init_std, settings.swin.start_level)
        if settings.swin.pretrained:
            for net in self.net.branches.values():
                if isinstance(net, SwinUnet):
                    load_pretrained(net, Path(settings.swin.pretrained))
        # channels_last: faster convolutions, above all on the CPU.
        self.net.to(self.run.device, memory_format=torch.channels_last).eval()
        if settings.test.compile or settings.train.compile:
            _check_compiler()
        self._compile()

    def _compile(self) -> None:
        """What predict calls; compiled code holds the weights, so new ones need new code."""
        self._anomaly_map = self.net.anomaly_map
        if self.settings.test.compile:
            torch._dynamo.reset()
            self._anomaly_map = torch.compile(self.net.anomaly_map, options={"freezing": True})

    def fit(self, train: Samples, validation: Samples) -> None:
        s, device = self.settings.train, self.run.device
        texture = self._texture() if s.steps else None
        order = partial(
            epoch_order, batch=s.batch, count=len(train), seed=partial(self.seed, "order")
        )
        batch = batches_on(device, train)

        def draw(step):
            seeds = [self.seed("simulate", step, index) for index in range(s.batch)]
            draws = draw_samples(seeds, self.settings, self.setting, texture)
            drops = onto(self._training_drops(step), device)
            return batch(order(step)), draws.to(device), drops

        def settle():
            drawn = ahead(draw, s.steps, s.steps + s.norm_batches)
            settle_norms(self.net, (partial(self._pass, *new) for _, new in drawn))

        self._anomaly_map = self.net.anomaly_map  # of weights that still move
        objective = torch.compile(self._objective) if s.compile else self._objective
        optimise(
            self.name,
            self.net,
            self._optimiser(),
            s,
            self.run,
            draw,
            lambda step, drawn: objective(*self._shown(*drawn)),
            settle=settle if s.norm_batches else None,
        )
        self._compile()

    def _optimiser(self) -> torch.optim.Adam:
        """One optimiser, three rates (section 8)."""
        s, disc = self.settings.train, self.net.disc
        ism = list(disc.ism.parameters()) if hasattr(disc, "ism") else []
        own = {id(p) for p in ism}
        groups = [
            {
                "params": [p for net in self.net.branches.values() for p in net.parameters()],
                "lr": s.lr_recon,
            },
            {"params": [p for p in disc.parameters() if id(p) not in own], "lr": s.lr_disc},
            {"params": ism, "lr": s.lr_ism},
        ]
        groups = [g for g in groups if g["params"]]
        return torch.optim.Adam(groups, betas=(0.9, s.beta2), fused=True)

    def _objective(self, x: Simulated, drops: AllDrops, same: SameImage | None) -> torch.Tensor:
        output = self._answer(x, drops, same)
        return dbrn_loss(output, x.clean_rgb, x.clean_depth, x.foreground, x.mask, self.settings)[
            "total"
        ]

    def _pass(self, batch: Batch, draws: Draws, drops: AllDrops) -> Output:
        return self._answer(*self._shown(batch, draws, drops))

    def _answer(self, x: Simulated, drops: AllDrops, same: SameImage | None) -> Output:
        """Of the networks, in float32."""
        low = self.settings.train.mixed_precision
        with torch.autocast(x.rgb.device.type, torch.bfloat16, enabled=low):
            return self.net(x.rgb, x.depth, drops, same).float()

    def _shown(
        self, batch: Batch, draws: Draws, drops: AllDrops
    ) -> tuple[Simulated, AllDrops, SameImage | None]:
        """What a step's networks are shown, and by what its parts are multiplied."""
        x = simulate(*rgbd(batch), draws, self.settings)
        return x, multipliers(drops, self.settings.dropout), self._same_image(x, draws)

    def _training_drops(self, step: int) -> AllDrops:
        """Drawn on the CPU, so that they are the same on any device."""
        generator = torch.Generator().manual_seed(self.seed("drop", step))
        batch, dropout = self.settings.train.batch, self.settings.dropout
        drops = {
            name: training_drops(net, batch, dropout, generator)
            for name, net in self.net.branches.items()
        }
        if isinstance(body := self.net.disc.body, SwinUnet):
            shown = batch * self.net.scales
            drops["disc"] = training_drops(body, shown, dropout, generator, skips=False)
        return AllDrops(**drops)

    def _same_image(self, x: Simulated, draws: Draws) -> SameImage | None:
        """The same-image trick (section 6.2): of fusion by scores only."""
        half = self.settings.ism.same_image_prob / 2
        if self.net.disc.fusion != "ism" or half == 0:
            return None
        shown = (x.rgb, x.depth)
        if self.settings.ism.same_image == "clean":
            shown = (x.clean_rgb, x.clean_depth)
        return SameImage(draws.same < half, (half <= draws.same) & (draws.same < 2 * half), *shown)

    def _texture(self):
        s = self.settings
        return chosen_texture(s.texture, s.prep.size, self.run.category, "dbrn.texture")

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Prediction:
        s = self.settings
        rgb, depth, foreground = rgbd(batch)
        maps = torch.stack(
            [
                self._predict_maps(rgb, depth, self.inference_drops(batch.ids, number, rgb.device))
                for number in range(s.test.passes if s.test.dropout else 1)
            ]
        ).mean(dim=0)  # (B, H, W)
        if s.test.mask_background:
            maps = maps * foreground[:, 0]
        if s.score == "max":
            return Prediction(maps, maps.amax(dim=(1, 2)))
        return Prediction(maps, image_score(maps, s.score_window))

    def _predict_maps(self, rgb, depth, drops):
        low = self.settings.test.precision == "bfloat16"
        with torch.autocast(rgb.device.type, torch.bfloat16, enabled=low):
            return self._anomaly_map(rgb, depth, drops)

    def inference_drops(self, ids: tuple[str, ...], number: int, device) -> AllDrops:
        """What pass `number` through the networks drops of the samples called `ids`."""
        if not self.settings.test.dropout:
            return AllDrops()
        seed = partial(self.seed, "test drop", self.settings.test.seed, number)
        return AllDrops(
            **{
                name: inference_drops(
                    net,
                    [partial(seed, sample, name) for sample in ids],
                    self.settings.dropout,
                    device,
                )
                for name, net in self.net.branches.items()
            }
        )

    def load(self, folder: Path) -> None:
        super().load(folder)
        self._compile()

    def notes(self) -> dict[str, str]:
        s = self.settings
        notes = {"texture_source": source_name(s.texture.source, s.texture.folder)}
        if s.swin.pretrained and s.recon.net == "swin_unet":
            notes["weights"] = Path(s.swin.pretrained).name
        return notes


def _check_compiler() -> None:
    """Before a fit is paid for. Raises UserError without what torch.compile calls."""
    asked = os.environ.get("CXX", "g++")
    if shutil.which(asked) is None:
        raise UserError(
            f"compile of dbrn.test and dbrn.train needs a C++ compiler, and there is no {asked}: "
            "install one, name another by CXX, or leave it false"
        )
