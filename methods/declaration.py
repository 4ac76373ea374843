"""What a plan has to know of a method: settings, views, stages, what it reads; no torch here.

It is the half of the contract (methods/contract.py) that computes nothing. Our own methods keep
it in a file of its own, `methods/<name>/declaration.py`, so that planning a run imports no network.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

SETTINGS = ("rgb", "3d", "rgb+3d")
BACKGROUNDS = (
    "plane",  # what the method's own code takes away: `published` in configurations
    "support",  # all but what stands on the supporting plane, for any sensor: `plane` there
    "mask",  # all but what the user's own masks show
    "removed",  # what has no point: the clouds come without their background
    "none",  # nothing: all is object
    "auto",  # one of "support", "mask" and "none", chosen by the training samples
)


@dataclass(frozen=True)
class View:
    """A preprocessing recipe: what the harness makes of a sample before a method sees it.

    The recipes of the five methods are in methods/views.py, their builders in harness/data.
    """

    name: ClassVar[str]
    same_as: ClassVar[type[View] | None] = None  # a view of equal files, which are made only once
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # fields that are one of a few words
    background: str = "plane"  # how the object is told from the rest, one of BACKGROUNDS

    def on(self, background: str) -> Self:
        """The same recipe for scenes with that background."""
        return dataclasses.replace(self, background=background)

    def __post_init__(self):
        for name, known in {"background": BACKGROUNDS, **self.options}.items():
            if (value := getattr(self, name)) not in known:
                known = ", ".join(known)
                raise ValueError(
                    f"unknown {name} {value!r} in {type(self).__name__}; known: {known}"
                )


@dataclass(frozen=True)
class Preparation:
    """What a method's authors did differently on a dataset of another layout than MVTec 3D-AD's.

    reading: options of the dataset's reader; view: fields of every view of the method;
    train_samples: at most so many of a category are trained on.
    """

    reading: Mapping[str, Any] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)
    train_samples: int | None = None


class DeclaredStage(ABC):
    """Work that several cells share, such as a pre-trained network or frozen features.

    One job per settings, seed (unless `seeded` is False) and, where it reads data, per dataset or
    category: everything else that determines the result is in its Settings. Cells, and stages
    that build on it, find what it saved in `run.stages[name]`.

    `name`, `version` and `Settings` are as in `DeclaredMethod`.
    reads: "nothing";
           "train": the training samples of all categories of the cell's dataset;
           "category": every split of the cell's category, unlabelled (for frozen features).
    few_shot: whether a stage that reads "train" is trained on the few samples of a few-shot cell,
        or, False, on all there are.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[str] = "nothing"
    seeded: ClassVar[bool] = True
    few_shot: ClassVar[bool] = True

    @classmethod
    def version_of(cls, settings: Any) -> int:
        """As `Method.version_of`."""
        return cls.version

    @classmethod
    def view(cls, settings: Any) -> View | None:
        """The view of the samples; None where the stage reads nothing."""
        return None

    @classmethod
    def inputs(cls, settings: Any) -> Mapping[str, Path | None]:
        """As `Method.inputs`."""
        return {}

    @classmethod
    def stage_settings(cls, settings: Any) -> Mapping[str, Any]:
        """The stages it builds on: names of the method's `stages` -> the settings of each.

        Where one that reads a category serves one that reads all of them, `run.stages` has an
        entry "name/category" for each.
        """
        return {}

    @classmethod
    def fault(cls, settings: Any, samples: int) -> str:
        """Why so few training samples, over all categories, cannot be fitted, and what would do.

        Empty if they can. A run is refused by it when it is planned; of stages that read "train".
        """
        return ""


class DeclaredMethod(ABC):
    """One published approach, as a plan knows it.

    Class attributes: `name`; `version`, raised whenever the same settings give other numbers;
    `Settings`, a frozen dataclass with every constant, its unit and source; `variants`, named
    overrides of settings ("train.steps": 0), such as the rows of the paper's ablation tables;
    `stages`, the classes of the work it shares between cells; `validates`, whether `fit` looks at
    its training as `run.validation` says, which methods without steps of training cannot;
    `prepared`, what is published of its preparation of other datasets than MVTec 3D-AD: layout
    (harness/data/datasets.py) -> changes.

    `Settings` is not declared here: under a common type a class's own would not be known as such.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    stages: ClassVar[Mapping[str, type[DeclaredStage]]] = {}
    validates: ClassVar[bool] = False
    prepared: ClassVar[Mapping[str, Preparation]] = {}

    @classmethod
    def version_of(cls, settings: Any) -> int:
        """`version`, or another where a change gave other numbers with some settings alone."""
        return cls.version

    @classmethod
    @abstractmethod
    def view(cls, settings: Any, setting: str) -> View:
        """The view of the data that these settings want."""

    @classmethod
    def supported(cls, settings: Any) -> tuple[str, ...]:
        """Which of SETTINGS there are with these settings; a plan leaves the others out."""
        return SETTINGS

    @classmethod
    def inputs(cls, settings: Any, setting: str) -> Mapping[str, Path | None]:
        """Files and folders outside the dataset that determine the result (textures, weights).

        Dotted names of all settings that hold a path ("texture.folder") -> the path, or None where
        it has no part in the result. A job's key holds their content and not the paths. Raises
        ValueError or OSError with what to do if one is needed and not given.
        """
        return {}

    @classmethod
    def stage_settings(cls, settings: Any, setting: str) -> Mapping[str, Any]:
        """The stages a cell builds on: names of `stages` -> the settings of each."""
        return {}
