"""A method that is all contract and no computation, with stages over a category and a dataset."""

import json
from dataclasses import dataclass, field

from methods.contract import Method, Prediction, Stage, save_tensors
from methods.marks import RANDOM_INIT
from methods.views import Das3dView


@dataclass(frozen=True)
class CountsSettings:
    view: Das3dView = field(default_factory=lambda: Das3dView(size=64))


class Counts(Stage):
    """How many samples each split of a category has."""

    name, Settings, reads, seeded = "counts", CountsSettings, "category", False

    @classmethod
    def view(cls, settings):
        return settings.view

    def fit(self, splits):
        self.counts = {split: len(samples) for split, samples in splits.items()}

    def save(self, folder):
        (folder / "counts.json").write_text(json.dumps(self.counts))


@dataclass(frozen=True)
class MeanSettings:
    counts: CountsSettings = field(default_factory=CountsSettings)
    offset: float = 0.0


class Mean(Stage):
    """The mean depth of all categories' training samples."""

    name, Settings, reads = "mean", MeanSettings, "train"

    @classmethod
    def view(cls, settings):
        return settings.counts.view

    @classmethod
    def stage_settings(cls, settings):
        return {"counts": settings.counts}

    def fit(self, train):
        self.means = {
            name: float(samples.arrays["depth"].mean()) for name, samples in train.items()
        }
        for name, samples in train.items():
            counts = json.loads((self.run.stages[f"counts/{name}"] / "counts.json").read_text())
            assert counts["train"] >= len(samples) and counts["test"] > 0

    def save(self, folder):
        (folder / "mean.json").write_text(json.dumps(self.means))

    def notes(self):
        return {"mean_of": ",".join(self.means)}


@dataclass(frozen=True)
class Settings:
    mean: MeanSettings = field(default_factory=MeanSettings)
    factor: float = 1.0


class Toy(Method):
    """Depth minus the stage's mean."""

    name, Settings, stages = "toy", Settings, {"mean": Mean, "counts": Counts}
    variants = {"double": {"factor": 2.0}, "offset": {"mean.offset": 1.0}}

    @classmethod
    def view(cls, settings, setting):
        return settings.mean.counts.view

    @classmethod
    def stage_settings(cls, settings, setting):
        return {"mean": settings.mean, "counts": settings.mean.counts}

    def fit(self, train, validation):
        assert (self.run.stages["counts"] / "counts.json").exists()
        means = json.loads((self.run.stages["mean"] / "mean.json").read_text())
        self.mean = sum(means.values()) / len(means)

    def predict(self, batch):
        maps = self.settings.factor * (batch["depth"] - self.mean).abs()
        return Prediction(maps, maps.amax(dim=(1, 2)))

    def save(self, folder):
        save_tensors(folder / "mean.pt", {"mean": self.mean})

    def load(self, folder):
        raise NotImplementedError("nothing loads it")

    def notes(self):
        backbone = RANDOM_INIT if self.settings.factor == 1 else "trained"
        return {"factor": str(self.settings.factor), "weights": f"backbone {backbone}"}
