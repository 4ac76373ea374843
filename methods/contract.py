"""The one contract between methods and harness.

A method declares its settings and the view of the data it wants; the harness prepares that
view, hands over normal training samples and unlabelled test samples, and computes every
metric itself. Nothing here knows of files' layouts, Ray or MLflow.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from methods.checkpoints import Checkpoints
from methods.checkpoints import save_tensors as save_tensors  # the whole contract is here
from methods.declaration import SETTINGS, DeclaredMethod, DeclaredStage
from methods.declaration import Preparation as Preparation  # for authors
from methods.declaration import View as View
from methods.seeds import seed_for
from methods.validation import Look

if TYPE_CHECKING:
    import torch  # settings and plans need the contract, and not what computes


@dataclass(frozen=True)
class Batch:
    """Unlabelled samples of one view, stacked: name -> tensor (B, ...), and their ids.

    Ids are opaque: the same sample has the same one in a stage and in a cell, and it tells no more.
    """

    arrays: Mapping[str, torch.Tensor]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.arrays:
            raise KeyError(f"the view has no array {name!r}; it has {', '.join(self.arrays)}")
        return self.arrays[name]


@dataclass(frozen=True)
class Samples:
    """A split of a category in one view: name -> array (N, ...), usually memory-mapped."""

    arrays: Mapping[str, np.ndarray]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Copy the samples at `indices` (repeats allowed) onto `device`."""
        import torch

        from methods.blocks.transfer import moved

        index = np.asarray(indices, dtype=np.int64)
        gathered = [torch.from_numpy(v[index]) for v in self.arrays.values()]
        arrays = dict(zip(self.arrays, moved(gathered, device)))
        return Batch(arrays, tuple(self.ids[i] for i in index))

    def batches(self, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))), device)


@dataclass(frozen=True)
class Prediction:
    """maps (B, H, W) and scores (B,), float32; higher is more anomalous."""

    maps: torch.Tensor
    scores: torch.Tensor


@dataclass(frozen=True)
class Progress:
    """One report from a long loop."""

    phase: str
    step: int
    total: int
    loss: float | None = None
    seconds_left: float | None = None


@dataclass
class Validation:
    """How a training is looked at while it goes on: by scores on validation samples, normal ones
    and such with simulated defects, never on test data. methods/blocks/watch.py does it.

    score: metrics of the method as it is now, by name, higher is better
    every: share of the steps of a phase between two looks
    choose_by: the metric by whose best look the network is kept; None: that of the last step
    tell: called with all looks so far when there are new ones; may raise to stop the job
    """

    score: Callable[[], Mapping[str, float]]
    every: float = 0.1
    choose_by: str | None = None
    tell: Callable[[Sequence[Look]], None] = lambda looks: None
    looks: list[Look] = field(default_factory=list)


@dataclass
class Run:
    """What the harness gives a method for one job.

    folder: scratch space that survives a kill of the job; checkpoints live here.
    report: called with Progress; may raise to stop the job.
    stages: name -> what `Stage.save` wrote, for each stage the method asked for.
    validation: how its training is to be looked at, if it is; not given to stages.
    part: around a part of a prediction that papers time alone: `with run.part("rgb"):`, and
        around the wait of a training step for its draws (methods/blocks/training.py: WAITING).
    feeders: threads that draw the steps of a training ahead; any number gives the same bits.
    """

    category: str = "category"
    seed: int = 0
    device: torch.device | str = "cpu"
    folder: Path | None = None
    report: Callable[[Progress], None] = lambda progress: None
    checkpoint_every_s: float = 60.0
    stages: Mapping[str, Path] = field(default_factory=dict)
    validation: Validation | None = None
    part: Callable[[str], AbstractContextManager] = nullcontext
    feeders: int = 1
    checkpoints: Checkpoints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.folder, self.checkpoint_every_s)

    def load_checkpoint(self) -> dict | None:
        """The last saved state that is whole, tensors on the CPU, or None at a fresh start."""
        return self.checkpoints.load()

    def save_checkpoint(self, state: Callable[[], dict], now: bool = False) -> None:
        """Save what `state` returns, if the last save is `checkpoint_every_s` or more ago.

        It is copied at once and written beside the fit, or rarer if that costs more than a
        hundredth of its time. now: in any case, and written on return.
        """
        self.checkpoints.save(state, now)


class Stage(DeclaredStage):
    """Work that several cells share: what `DeclaredStage` says of it, and how it is done."""

    def __init__(self, settings: Any, run: Run | None = None):
        self.settings, self.run = settings, run or Run()

    def seed(self, purpose: str, *names: object) -> int:
        """A seed of this stage's own, whatever it reads, e.g. seed("simulate", step)."""
        return seed_for(purpose, self.name, self.run.seed, *names)

    @abstractmethod
    def fit(self, data: Mapping[str, Samples]) -> None:
        """Learn from category -> training samples, or split -> samples where it reads a category.

        Continues from `run.load_checkpoint()` if there is one.
        """

    @abstractmethod
    def save(self, folder: Path) -> None: ...

    def sizes(self) -> Mapping[str, int]:
        return {}

    def notes(self) -> Mapping[str, str]:
        """Facts that every result built on this stage must carry, e.g. its texture source."""
        return {}


class Method(DeclaredMethod):
    """One published approach, for one setting and one job: `DeclaredMethod`, and how it is done."""

    registry: ClassVar[str] = "methods"  # in a plug-in's file it is found by this
    stages: ClassVar[Mapping[str, type[Stage]]] = {}

    def __init__(self, settings: Any, setting: str, run: Run | None = None):
        if setting not in SETTINGS:
            raise ValueError(f"unknown setting {setting!r}; known: {', '.join(SETTINGS)}")
        self.settings, self.setting, self.run = settings, setting, run or Run()

    def seed(self, purpose: str, *names: object) -> int:
        """A seed of this method's own on its category, e.g. seed("simulate", step)."""
        return seed_for(purpose, self.name, self.run.category, self.run.seed, *names)

    @classmethod
    def published(cls, settings: Any, setting: str) -> Mapping[str, Callable[[Path], Any]]:
        """Readers of published weights, for `relief weights import`.

        Dotted names of settings that take a file -> its path -> how it fits the network of these
        settings (methods/blocks/weights.py: Fit).
        """
        return {}

    @abstractmethod
    def fit(self, train: Samples, validation: Samples) -> None:
        """Learn from normal samples; continue from `run.load_checkpoint()` if there is one."""

    @abstractmethod
    def predict(self, batch: Batch) -> Prediction:
        """Maps at the view's mask resolution and one score per sample."""

    @abstractmethod
    def save(self, folder: Path) -> None: ...

    @abstractmethod
    def load(self, folder: Path) -> None: ...

    def sizes(self) -> Mapping[str, int]:
        """What the fitted method weighs, e.g. parameters, weight_bytes, bank_bytes."""
        return {}

    def notes(self) -> Mapping[str, str]:
        """Facts a reader of the results must know, e.g. texture_source, weights."""
        return {}


def settings_from(cls: type, values: Mapping[str, Any]) -> Any:
    """Build a (nested) settings dataclass from the plain mapping that JSON gives back.

    Missing keys take their defaults. Raises ValueError for a key that does not exist.
    """
    hints, names = typing.get_type_hints(cls), [f.name for f in dataclasses.fields(cls)]
    hints = {name: hints[name] for name in names}  # without what belongs to the class
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(unknown)}; it has {', '.join(hints)}")
    return cls(**{k: _typed(hints[k], v) for k, v in values.items()})


def _typed(hint: Any, value: Any) -> Any:
    hints = typing.get_args(hint) if _is_union(hint) else (hint,)
    for wanted in hints:
        if dataclasses.is_dataclass(wanted) and isinstance(value, Mapping):
            return settings_from(wanted, value)
        if (typing.get_origin(wanted) or wanted) is tuple and isinstance(value, list):
            return tuple(value)
    if hint is float and isinstance(value, int):
        return float(value)
    return value


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
