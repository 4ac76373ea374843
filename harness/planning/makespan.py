"""When the jobs of a plan would start and end: the driver's queue and room, and a clock.

No schedule is shorter than the longest path, nor than the time in which the nodes have so much CPU,
GPU and memory to give as the jobs reserve.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.planning.jobs import Job, Resources
from harness.planning.queue import Queue
from harness.planning.room import Offer, Room


@dataclass(frozen=True)
class Slot:
    """A job in the simulation. Seconds from the start of the launch."""

    job: Job  # with what it reserves
    start: float
    end: float


def simulate(
    jobs: Sequence[Job],
    seconds: Mapping[str, float],
    offers: Sequence[Offer],
    rank: Mapping[str, float],
    reserve: Callable[[Job], Resources] = lambda job: job.resources,
) -> list[Slot]:
    """The jobs in the order in which they start. What fits on no node is left out.

    jobs: each after those of them that it needs
    """
    queue, room = Queue(jobs, rank, reserve), Room(offers)
    for job in jobs:
        queue.add(job)
    slots: list[Slot] = []
    ends: list[tuple[float, int, str]] = []
    now = 0.0
    while True:
        while (job := queue.pop(room.fits)) is not None:
            room.take(job.key, job.resources)
            slots.append(Slot(job, now, now + seconds[job.key]))
            heapq.heappush(ends, (slots[-1].end, len(slots), job.key))
        if not ends:
            return slots
        now, _, key = heapq.heappop(ends)
        room.leave(key)
        queue.close(key)


def makespan(slots: Iterable[Slot]) -> float:
    return max((slot.end for slot in slots), default=0.0)


@dataclass(frozen=True)
class Bounds:
    """What no schedule is below, s."""

    work: float  # what the jobs reserve of the scarcest of CPUs, GPUs and memory, over all there is
    path: float  # the longest

    @property
    def least(self) -> float:
        return max(self.work, self.path)


def bounds(slots: Sequence[Slot], offers: Sequence[Offer]) -> Bounds:
    """Of the jobs in these slots."""
    work = 0.0
    for name in ("cpus", "gpus", "memory_gb"):
        there = sum(getattr(offer, name) for offer in offers)
        wanted = sum((s.end - s.start) * getattr(s.job.resources, name) for s in slots)
        work = max(work, wanted / there if there else 0.0)
    ends: dict[str, float] = {}  # with room for all
    for slot in slots:  # a job starts after its needs
        begins = max((ends.get(need, 0.0) for need in slot.job.needs), default=0.0)
        ends[slot.job.key] = begins + slot.end - slot.start
    return Bounds(work, max(ends.values(), default=0.0))
