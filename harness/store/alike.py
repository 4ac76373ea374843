"""Which jobs take about as long and as much memory: those of one kind and of equal sizes.

Sizes are all settings but real numbers: widths, steps, batches, image sizes, backbones, switches
tell what a job takes; weights of losses, rates and probabilities do not, so the points of a sweep
over these are alike. Where a real number does size something (M3DM's share of the coreset), a job
is alike to ones that took less: it runs out of memory once and is tried again with more.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from harness.store.files import canonical
from harness.store.records import Record
from harness.store.specs import Spec


def alike(spec: Spec) -> str:
    """One text for all jobs alike; of which category they are does not enter."""
    sizes = (spec.settings, spec.view, spec.recipe, spec.reading, spec.train_samples)
    kind = spec.values.get("kind")
    what = (kind, spec.method, spec.stage, spec.setting, [_sizes(part) for part in sizes])
    return hashlib.sha256(canonical(what).encode()).hexdigest()[:16]


def _sizes(value: Any) -> Any:
    """A value without its real numbers."""
    if isinstance(value, float):
        return None
    if isinstance(value, dict):
        return {name: _sizes(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_sizes(one) for one in value]
    return value


@dataclass(frozen=True)
class Taken:
    """What a finished job took; None where the system could not tell."""

    alike: str
    category: str
    seconds: float
    host_bytes: int | None = None  # peak of the process
    card_bytes: int | None = None  # peak of its tensors on the GPU
    card_total: int | None = None  # bytes that this GPU has
    samples: int | None = None  # of a cell: those it was trained on

    @classmethod
    def of(cls, record: Record) -> Taken | None:
        """None of a record that tells nothing of others: a view that took over another's files."""
        seconds = record.timings.get("total_s")
        if record.twin or seconds is None:
            return None
        memory = record.memory
        return cls(
            alike(record.spec),
            record.spec.category,
            seconds,
            memory.get("host_peak_bytes"),
            memory.get("device_peak_bytes"),
            memory.get("device_total_bytes"),
            record.counts.get("train"),
        )

    def plain(self) -> list[Any]:
        return list(asdict(self).values())
