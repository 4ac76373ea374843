"""Each check of the suite for authors finds the fault that it is there for."""

import re
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from methods.contract import Method, Prediction, Progress, Samples, save_tensors
from methods.contract_suite import CHECKS, Case, run, run_one
from methods.views import Das3dView

SIZE = 8


@dataclass(frozen=True)
class Settings:
    view: Das3dView = field(default_factory=lambda: Das3dView(size=SIZE))
    steps: int = 5


class Mean(Method):
    """Nothing is wrong with it: a mean that is taken in steps, with checkpoints."""

    name, Settings = "mean", Settings
    kept: list = []

    @classmethod
    def view(cls, settings, setting):
        return settings.view

    def fit(self, train, validation):
        state = self.run.load_checkpoint() or {"step": 0, "sum": torch.zeros(SIZE, SIZE)}
        while state["step"] < self.settings.steps:
            x = train.batch([state["step"] % len(train)])["depth"][0]
            state = {"step": state["step"] + 1, "sum": self.added(state["sum"], x)}
            self.run.report(Progress("mean", state["step"], self.settings.steps))
            self.run.save_checkpoint(lambda: state)
        self.mean = state["sum"] / self.settings.steps

    def added(self, total, x):
        return total + x

    def predict(self, batch):
        maps = (batch["depth"] - self.mean).abs()
        return Prediction(maps, maps.amax(dim=(1, 2)))

    def save(self, folder):
        save_tensors(folder / "mean.pt", {"mean": self.mean})

    def load(self, folder):
        self.mean = torch.load(folder / "mean.pt", weights_only=True)["mean"]


class Small(Mean):
    def predict(self, batch):
        return Prediction(super().predict(batch).maps[:, ::2], super().predict(batch).scores)


class OverBatch(Mean):
    def predict(self, batch):
        found = super().predict(batch)
        return Prediction(found.maps - found.maps.mean(), found.scores)


class Random(Mean):
    def added(self, total, x):
        return total + x + 1e-6 * torch.from_numpy(np.random.default_rng().random((SIZE, SIZE)))


class Forgetful(Mean):
    def load(self, folder):
        self.mean = torch.zeros(SIZE, SIZE)


class Starting(Mean):
    """It goes on with another step's sum."""

    def fit(self, train, validation):
        state = self.run.load_checkpoint()
        super().fit(train, validation)
        self.mean = self.mean + (1e-3 if state else 0)


class Catching(Mean):
    def fit(self, train, validation):
        try:
            super().fit(train, validation)
        except BaseException:
            self.mean = torch.zeros(SIZE, SIZE)


class Changing(Mean):
    def predict(self, batch):
        batch["depth"].mul_(2)
        return super().predict(batch)


class Knowing(Mean):
    def predict(self, batch):
        found = super().predict(batch)
        return Prediction(found.maps, torch.tensor([float(len(id)) ** 3 for id in batch.ids]))


class Keeping(Mean):
    def predict(self, batch):
        self.kept.append(torch.ones(2**20))  # 4 MiB
        return super().predict(batch)


class Wordy(Mean):
    def sizes(self):
        return {"parameters": 64.0}


class Free(Mean):
    @dataclass
    class Settings:
        view: Das3dView = field(default_factory=lambda: Das3dView(size=SIZE))
        steps: int = 5


def case(method, tmp_path):
    rng, count = np.random.default_rng(0), iter(range(1000))

    def samples(prefix, n):
        depth = rng.random((n, SIZE, SIZE)).astype(np.float32)
        return Samples({"depth": depth}, tuple(f"{prefix}{'x' * i}" for i in range(n)))

    def folder(name):
        made = tmp_path / f"{name}{next(count)}"
        made.mkdir()
        return made

    data = {split: samples(split, 4) for split in ("train", "validation", "test")}
    return Case(method, method.Settings(), "3d", data, folder, size=(SIZE, SIZE))


def test_a_sound_method_passes_every_check(tmp_path):
    told = []
    found = run(case(Mean, tmp_path), told.append)
    assert [result.check for result in found] == list(CHECKS) and told == found
    failed = {result.check: result.why for result in found if result.state == "failed"}
    assert not failed
    resumed = next(result for result in found if result.check == "resumed")
    assert resumed.why.endswith("of 5; at most 0 repeated")


@pytest.mark.parametrize(
    "method, check, said",
    [
        (Free, "settings", "Settings is not frozen"),
        (Small, "shapes", r"maps are \(4, 4, 8\), not \(4, 8, 8\)"),
        (OverBatch, "alone", "does a statistic go over the batch"),
        (Random, "same_seed", "a second fit of the same seed saves another mean.pt"),
        (Forgetful, "saved", "the loaded method predicts other maps, by up to"),
        (Starting, "resumed", "killed at mean . of 5 and resumed saves another mean.pt"),
        (Catching, "resumed", "the fit caught the end"),
        (Changing, "inputs", "predict changes depth of its batch"),
        (Knowing, "names", "scores change by .* with the ids alone"),
        (Keeping, "memory", "30 predictions leave \\d+ MiB behind"),
        (Wordy, "words", r"sizes\(\) says 'parameters' is 64.0, no int"),
    ],
)
def test_each_fault_is_found_and_said(tmp_path, method, check, said):
    result = run_one(case(method, tmp_path), check)
    method.kept.clear()
    assert result.state == "failed" and re.search(said, result.why), result.why


def test_an_error_of_a_method_fails_its_check_with_the_place(tmp_path):
    class Raising(Mean):
        def predict(self, batch):
            raise KeyError("height")

    result = run_one(case(Raising, tmp_path), "shapes")
    assert result.state == "failed" and "KeyError: 'height'" in result.why
    assert "test_contract_suite.py" in result.why
