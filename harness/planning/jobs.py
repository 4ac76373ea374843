"""A job: what determines its result, and where and with what it runs.

Light on purpose: a worker needs no more of planning than this, and no OmegaConf.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Optional

from harness.store import Spec, key_of
from harness.store.alike import alike


@dataclass(frozen=True, slots=True)
class Resources:
    """What one job reserves; fractions of a GPU let several jobs share it."""

    cpus: int = 1
    gpus: float = 0.0
    memory_gb: float = 2.0
    hours: float = 24.0  # time limit of one attempt
    # reserve just this, whatever jobs alike took; by default so where a method, "view" or "dataset"
    # has an entry of its own, and not from "default"
    fixed: Optional[bool] = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """How trained methods are evaluated. Batch size and timing do not change results."""

    batch: int = 8  # test samples predicted at once
    latency_warmup: int = 10  # samples before the clock starts (harness/metrics/README.md)
    latency_samples: int = 50  # at least so many timed samples, and
    latency_seconds: float = 10.0  # at least so long; 0 samples: no timing
    keep_maps: bool = True  # store every test map (float32)
    keep_models: bool = False  # store the fitted method


@dataclass(frozen=True, slots=True)
class Place:
    """Where the inputs of a job are and how it is run; never changes its result."""

    kind: str = ""  # of the dataset that a view reads (harness/data/datasets.py)
    root: str = ""  # its folder, unless a job makes it
    listing: str = ""  # of its category: names, sizes, times (harness/data/samples.py: fingerprint)
    content: str = ""  # and what these files hold (harness/data/content.py)
    samples: int = 0  # of a view's training split, for what jobs should take
    tested: int = 0  # likewise of its test split
    twin: str = ""  # key of a view that is equal but for its name: its files are taken
    truth: str = ""  # key of the category's ground truth at the sensor's pixels, of a cell
    inputs: Mapping[str, str] = field(default_factory=dict)  # dotted setting -> path
    labels: Mapping[str, str] = field(default_factory=dict)  # dataset and variant of a cell
    marks: tuple[str, ...] = ()  # what tables must say of its result
    plugins: Mapping[str, str] = field(default_factory=dict)  # file or module -> its code
    checkpoint_every_s: float = 60.0
    validate_every: float = 0.0  # share of a training between two looks; 0: none
    protocol: Protocol = field(default_factory=Protocol)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Place:
        """From what `asdict` gave, or JSON of it."""
        protocol = Protocol(**given.get("protocol", {}))
        marks = tuple(given.get("marks", ()))  # a list in JSON
        values: dict[str, Any] = {**given, "marks": marks, "protocol": protocol}
        return cls(**values)


@dataclass(frozen=True)
class Job:
    """A piece of work. Equal keys are the same work, on any machine and for any launch."""

    spec: dict[str, Any]  # determines the result; plain JSON
    title: str
    place: Place = field(default_factory=Place)
    resources: Resources = field(default_factory=Resources)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Job:
        """The job that `describe` described."""
        place, resources = Place.of(description["place"]), Resources(**description["resources"])
        return cls(description["spec"], description["title"], place, resources)

    def describe(self) -> dict[str, Any]:
        """As plain values that travel to a worker."""
        return {"key": self.key, **asdict(self)}

    @cached_property
    def key(self) -> str:
        """The hash of `spec` alone."""
        return key_of(self.spec)

    @cached_property
    def about(self) -> Spec:
        return Spec(self.spec)

    @cached_property
    def alike(self) -> str:
        """What it shares with jobs that take about as long and as much memory."""
        return alike(self.about)

    def reserving(self, resources: Resources) -> Job:
        """The same job with other resources."""
        if resources == self.resources:
            return self
        other = copy.copy(self)  # with its key, which takes time to make
        object.__setattr__(other, "resources", resources)
        return other

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the jobs that come before it."""
        return (*self.about.needs.keys, *filter(None, [self.place.twin, self.place.truth]))
