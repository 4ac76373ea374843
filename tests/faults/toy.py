"""A method that trains for a moment, with checkpoints and stages: its launch takes a second."""

from dataclasses import dataclass, field

import torch

from methods.blocks.training import Constant, optimise
from methods.contract import Prediction
from tests.harness.toy_method import MeanSettings, Toy


@dataclass(frozen=True)
class Settings:
    mean: MeanSettings = field(default_factory=MeanSettings)
    factor: float = 1.0
    steps: int = 8


class Trained(Toy):
    """The stage's mean, and a filter that learns to give depth back."""

    Settings, variants = Settings, {"double": {"factor": 2.0}}

    def __init__(self, settings, setting, run=None):
        super().__init__(settings, setting, run)
        self.net = torch.nn.Conv2d(1, 1, 3, padding=1)
        with torch.no_grad():
            for values in self.net.parameters():
                generator = torch.Generator().manual_seed(self.seed("init"))
                values.copy_(torch.rand(values.shape, generator=generator))

    def fit(self, train, validation):
        super().fit(train, validation)
        optimiser = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)

        def loss(step, index):
            depth = train.batch([index], "cpu")["depth"][:, None]
            return (self.net(depth) - depth).square().mean()

        schedule = Constant(self.settings.steps)
        optimise("toy", self.net, optimiser, schedule, self.run, lambda s: s % len(train), loss)

    @torch.no_grad()
    def predict(self, batch):
        depth = batch["depth"]
        maps = self.settings.factor * (self.net(depth[:, None])[:, 0] - depth - self.mean).abs()
        return Prediction(maps, maps.amax(dim=(1, 2)))
