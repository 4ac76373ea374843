"""The spec of a job: what it is asked to do and what it builds on; its key is made of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Needs:
    """The jobs that a job builds on: what each is for -> its key.

    named: as in a spec, e.g. {"view": key, "stage:uff": key, "view:bagel": key, "dataset": key}
    """

    named: Mapping[str, str]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.named.values())

    @property
    def view(self) -> str | None:
        """The view that a cell sees."""
        return self.named.get("view")

    @property
    def dataset(self) -> str | None:
        """The job that makes a view's dataset."""
        return self.named.get("dataset")

    @property
    def views(self) -> dict[str, str]:
        """Those that a stage sees, by category."""
        return self._of("view")

    @property
    def stages(self) -> dict[str, str]:
        """By name; "name/category" where a stage reads one of each category."""
        return self._of("stage")

    def _of(self, kind: str) -> dict[str, str]:
        parts = ((*name.partition(":"), key) for name, key in self.named.items())
        return {name: key for found, colon, name, key in parts if found == kind and colon}


@dataclass(frozen=True)
class Spec:
    """The description of a job, of whose canonical JSON its key is made; absent parts are empty."""

    values: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """ "dataset", "view", "truth", "stage" or "cell"."""
        return self.values["kind"]

    @property
    def method(self) -> str:
        return self.values.get("method", "")

    @property
    def stage(self) -> str:
        return self.values.get("stage", "")

    @property
    def setting(self) -> str:
        return self.values.get("setting", "")

    @property
    def category(self) -> str:
        return self.values.get("category", "")

    @property
    def seed(self) -> int:
        return self.values.get("seed", 0)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the method or stage, resolved, without the paths in them."""
        return self.values.get("settings", {})

    @property
    def selection(self) -> dict[str, Any]:
        """Of the network that is tested: metric and every; empty for that of the last step."""
        return self.values.get("selection", {})

    @property
    def imported(self) -> bool:
        """Of a cell: whether its maps were made elsewhere."""
        return "maps" in self.values

    @property
    def train_samples(self) -> int | None:
        return self.values.get("train_samples")

    @property
    def view(self) -> dict[str, Any]:
        """A view's recipe: its name and fields."""
        return self.values.get("view", {})

    @property
    def reading(self) -> dict[str, Any]:
        """How a view reads the files of its dataset."""
        return self.values.get("reading", {})

    @property
    def data(self) -> str:
        """What a view is of: the identity of the category's content, or the job that made it."""
        return self.values.get("data", "")

    @property
    def code(self) -> dict[str, str]:
        """Modules of ours that computed it and were not as declared: file -> their meaning."""
        return self.values.get("code", {})

    @property
    def recipe(self) -> dict[str, Any]:
        """What a made dataset consists of."""
        return self.values.get("recipe", {})

    @cached_property
    def needs(self) -> Needs:
        return Needs(self.values.get("needs", {}))
