"""Jobs that wait, in the order in which they start.

Each job counts the ones before it that are open: that wait or run. At none it is ready, and lies
in a heap by rank with those that reserve the same. So whatever happens to a job costs the logarithm
of their number, and the number of its dependants.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping

from harness.planning.jobs import Job, Resources

PASSES = 8  # how often a ready job that does not fit is passed by ones that do


class Queue:
    """The jobs of a plan that are not done, those ready first among them by rank."""

    def __init__(
        self,
        jobs: Iterable[Job],
        rank: Mapping[str, float],
        reserve: Callable[[Job], Resources] = lambda job: job.resources,
    ):
        """jobs: all of the plan, none waits yet; rank: the highest first, then in their order;
        reserve: what a job takes now; it may be less or more later.
        """
        self.rank, self.reserve = rank, reserve
        self.waiting: dict[str, Job] = {}
        self.dependants: dict[str, list[str]] = {}
        self._place: dict[str, int] = {}
        self._open: set[str] = set()
        self._unmet: dict[str, int] = {}
        self._ready: dict[Resources, list[tuple[float, int, str]]] = {}
        self._passed: dict[str, int] = {}
        for i, job in enumerate(jobs):
            self._place[job.key] = i
            for need in set(job.needs):
                self.dependants.setdefault(need, []).append(job.key)

    def add(self, job: Job, first: bool = False) -> None:
        """A job waits, also one that ran or was done. first: before all others."""
        key, opens = job.key, job.key not in self._open
        self._open.add(key)
        self.waiting[key] = job
        self._unmet[key] = sum(need in self._open for need in set(job.needs))
        if opens:
            for dependant in self.dependants.get(key, ()):
                if dependant in self.waiting:
                    self._unmet[dependant] += 1
        if not self._unmet[key]:
            self._push(key, math.inf if first else None)

    def close(self, key: str) -> None:
        """A job is done: what waits for it alone is ready."""
        if key not in self._open:
            return
        self._open.discard(key)
        self.waiting.pop(key, None)
        for dependant in self.dependants.get(key, ()):
            if dependant in self.waiting:
                self._unmet[dependant] -= 1
                if not self._unmet[dependant]:
                    self._push(dependant)

    def withdraw(self, key: str) -> list[Job]:
        """Take out all that waits for a job that failed, directly or through others."""
        self._open.discard(key)
        found, ahead = [], [key]
        while ahead:
            for dependant in self.dependants.get(ahead.pop(), ()):
                if (job := self.waiting.pop(dependant, None)) is not None:
                    self._open.discard(dependant)
                    found.append(job)
                    ahead.append(dependant)
        return found

    def pop(self, fits: Callable[[Resources], bool]) -> Job | None:
        """The ready job of the highest rank that fits, with what it reserves; it is under way then.

        None if none fits, or if one that does not was passed too often: the room is kept for it.
        """
        for shape in list(self._ready):
            self._settle(shape)
        waits: list[str] = []
        heads = [(heap[0], shape) for shape, heap in self._ready.items()]
        for (_, _, key), shape in sorted(heads, key=lambda head: head[0]):
            if fits(shape):
                heapq.heappop(self._ready[shape])
                self._passed.pop(key, None)
                for one in waits:
                    self._passed[one] = self._passed.get(one, 0) + 1
                return self.waiting.pop(key).reserving(shape)
            if self._passed.get(key, 0) >= PASSES:
                return None
            waits.append(key)
        return None

    def heads(self) -> list[tuple[Job, Resources]]:
        """For each amount that ready jobs reserve the one that is next."""
        for shape in list(self._ready):
            self._settle(shape)
        return [(self.waiting[heap[0][2]], shape) for shape, heap in self._ready.items()]

    def _push(self, key: str, rank: float | None = None) -> None:
        rank = self.rank.get(key, 0.0) if rank is None else rank
        heap = self._ready.setdefault(self.reserve(self.waiting[key]), [])
        heapq.heappush(heap, (-rank, self._place.get(key, 0), key))

    def _settle(self, shape: Resources) -> None:
        """Drop what is no longer ready from the top of a heap, move what reserves otherwise now."""
        heap = self._ready[shape]
        while heap:
            key = heap[0][2]
            job = self.waiting.get(key)
            if job is None or self._unmet[key]:
                heapq.heappop(heap)
            elif (now := self.reserve(job)) != shape:
                heapq.heappush(self._ready.setdefault(now, []), heapq.heappop(heap))
            else:
                return
        del self._ready[shape]
