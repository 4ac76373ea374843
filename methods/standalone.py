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
    watch: name of a stage, "" for the method -> more of what its fit is given in its Run
    """

    method: type[Method]
    settings: Any
    setting: str
    data: Mapping[str, Samples]
    folder: Callable[[str], Path]
    category: str = "category"
    device: str = "cpu"
    watch: Callable[[str], Mapping[str, Any]] = lambda name: {}
    _stages: dict[str, Path] = field(default_factory=dict, repr=False)

    def make(self, **run: Any) -> Any:
        """A fresh method, with the folders of the stages that it asked for."""
        given = {"category": self.category, "device": self.device, "stages": self._fitted()} | run
        return self.method(self.settings, self.setting, Run(**given))

    def fit(self, **run: Any) -> Any:
        self._fitted()  # watched before the method is
        made = self.make(**{**self.watch(""), **run})
        with made.run.checkpoints:
            made.fit(self.data["train"], self.data["validation"])
        return made

    def _fitted(self) -> dict[str, Path]:
        wanted = self.method.stage_settings(self.settings, self.setting)
        return {name: self.stage(name, settings) for name, settings in wanted.items()}

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
            given = {"device": self.device, "folder": folder, "stages": below, **self.watch(name)}
            run = Run(category=self.category, **given)
            made = cls(settings, run)
            one = {self.category: self.data["train"]}
            with run.checkpoints:
                made.fit(dict(self.data) if cls.reads == "category" else one)
            made.save(folder)
            self._stages[key] = folder
        return self._stages[key]
