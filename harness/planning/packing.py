"""What a job reserves: what is declared, until jobs alike were measured.

The first job of a kind (harness/store/alike.py) has what the configuration says. Its peaks of GPU
and host memory are in its record, and later ones reserve the highest of these with a margin, at
most one card and what the largest node has. Where an entry is fixed, that is what is reserved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from harness.planning.jobs import Job, Resources
from harness.store.alike import Taken

GIB = 2**30
CONTEXT_BYTES = 0.6 * GIB  # of a card for each process, beside its tensors: CUDA and its libraries
SHARE = 0.01  # shares of a card are whole multiples, so that few differ
HOST_GIB = 0.25  # likewise of memory


@dataclass
class _Peaks:
    host: int = 0  # bytes
    card: float = 0.0  # share of it


class Packing:
    """What jobs reserve, by those alike that have ended and by those that ran out of memory."""

    def __init__(
        self, margin: float, memory_for: Callable[[Resources], float] = lambda r: math.inf
    ):
        """memory_for: GiB of the largest node that could run a job."""
        self.margin, self.memory_for = margin, memory_for
        self.peaks: dict[str, _Peaks] = {}
        self.more: dict[str, Resources] = {}  # of jobs that ran out of memory
        self.known: dict[tuple[str, Resources], Resources] = {}

    def learn(self, taken: Iterable[Taken]) -> None:
        for one in taken:
            before = self.peaks.setdefault(one.alike, _Peaks())
            host, card = max(before.host, one.host_bytes or 0), before.card
            if one.card_bytes and one.card_total:
                card = max(card, (one.card_bytes + CONTEXT_BYTES) / one.card_total)
            if (host, card) != (before.host, before.card):
                self.peaks[one.alike] = _Peaks(host, card)
                self.known.clear()

    def reserve(self, job: Job) -> Resources:
        if (more := self.more.get(job.key)) is not None:
            return more
        declared = job.resources
        if declared.fixed or job.alike not in self.peaks:
            return declared
        place = job.alike, declared
        if place not in self.known:
            self.known[place] = self._measured(self.peaks[job.alike], declared)
        return self.known[place]

    def _measured(self, peaks: _Peaks, declared: Resources) -> Resources:
        gpus, memory_gb = declared.gpus, declared.memory_gb
        if peaks.card and 0 < gpus <= 1:
            gpus = min(1.0, _up(peaks.card * (1 + self.margin), SHARE))
        if peaks.host:
            memory_gb = _up(peaks.host * (1 + self.margin) / GIB, HOST_GIB)
            memory_gb = min(memory_gb, self.memory_for(declared) or memory_gb)
        return replace(declared, gpus=gpus, memory_gb=memory_gb)

    def enlarge(self, job: Job, of_card: bool) -> bool:
        """More for a job that ran out of memory: twice the share of the card, or of host memory.

        of_card: it was the card's. -> whether there is more. No job can have more than a whole
        card, nor than the largest node, and where memory is not counted no more can be reserved.
        """
        had = job.resources
        if of_card:
            more = replace(had, gpus=min(2 * had.gpus, 1.0) if had.gpus < 1 else had.gpus)
        else:
            most = self.memory_for(had)
            most = max(had.memory_gb, min(2 * had.memory_gb, most)) if most < math.inf else 0.0
            more = replace(had, memory_gb=most or had.memory_gb)
        self.more[job.key] = more
        return more != had


def _up(value: float, step: float) -> float:
    """The next multiple of a step."""
    return round(math.ceil(value / step - 1e-9) * step, 6)
