"""A method without the harness: its stages fitted in folders of their own, then itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from methods.contract import Method, Run, Samples


@dataclass
class Standalone:
    """A method with settings, in one setting, and what it is fitted on.

    data: split -> samples of a category, "train" and "validation" among them
    folder: name -> a fresh empty folder
    """

    method: type[Method]
    settings: Any
    setting: str
    data: Mapping[str, Samples]
    folder: Callable[[str], Path]
    category: str = "category"
    device: str = "cpu"
    _stages: dict[str, Path] = field(default_factory=dict, repr=False)

    def make(self, **run: Any) -> Any:
        """A fresh method, with the folders of the stages that it asked for."""
        wanted = self.method.stage_settings(self.settings, self.setting)
        stages = {name: self.stage(name, settings) for name, settings in wanted.items()}
        given = {"category": self.category, "device": self.device, "stages": stages} | run
        return self.method(self.settings, self.setting, Run(**given))

    def fit(self, **run: Any) -> Any:
        made = self.make(**run)
        with made.run.checkpoints:
            made.fit(self.data["train"], self.data["validation"])
        return made

    def stage(self, name: str, settings: Any) -> Path:
        """The folder of a stage, which is fitted once."""
        key = f"{name} {settings!r}"
        if key not in self._stages:
            cls = self.method.stages[name]
            below = {}
            for under, own in cls.stage_settings(settings).items():
                each = cls.reads == "train" and self.method.stages[under].reads == "category"
                below[f"{under}/{self.category}" if each else under] = self.stage(under, own)
            folder = self.folder(name)
            run = Run(category=self.category, device=self.device, folder=folder, stages=below)
            made = cls(settings, run)
            one = {self.category: self.data["train"]}
            with run.checkpoints:
                made.fit(dict(self.data) if cls.reads == "category" else one)
            made.save(folder)
            self._stages[key] = folder
        return self._stages[key]
