"""When a launch should end, by what its jobs should take and what they have taken so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from harness.planning.jobs import Resources
from harness.planning.room import Offer

Running = tuple[float, float | None]  # s: for how long a job has run, what it says is left


class Outlook:
    """Counts expected seconds of jobs that are not over; as cheap for many jobs as for few.

    Expectations may be off by a factor, or be guesses: what ended so far says by which, for each
    sort of jobs apart, and how many jobs ran side by side.
    """

    def __init__(
        self,
        seconds: Mapping[str, float],
        rank: Mapping[str, float],
        beside: float = 1.0,
        sorts: Mapping[str, str] = {},
        unknown: Iterable[str] = (),
    ):
        """seconds: that each job should take; rank: of the longest path that begins with it;
        beside: how many run side by side, until some have ended; sorts: what those jobs have in
        common whose seconds are off by the same factor; unknown: jobs whose seconds mean nothing,
        until one of their sort has ended
        """
        self.seconds, self.rank, self.beside, self.sorts = seconds, rank, beside, sorts
        self.unknown = set(unknown)
        self.open = set(seconds)
        self.waits: dict[str, float] = defaultdict(float)  # s of those that are open, by sort
        for key, value in seconds.items():
            self.waits[self._sort(key)] += value
        self.expected: dict[str, float] = defaultdict(float)  # of those that were done here
        self.taken: dict[str, float] = defaultdict(float)

    def ended(self, key: str, took: float | None) -> None:
        """took: None of a job that failed or was skipped."""
        if key not in self.open:
            return
        self.open.discard(key)
        sort = self._sort(key)
        self.waits[sort] -= self.seconds[key]
        if took is None:
            return
        if key in self.unknown:  # how far off they are is in the factor from now on
            self.unknown = {other for other in self.unknown if self._sort(other) != sort}
        self.expected[sort] += self.seconds[key]
        self.taken[sort] += took

    def opened(self, key: str) -> None:
        """A job waits again."""
        if key in self.seconds and key not in self.open:
            self.open.add(key)
            self.waits[self._sort(key)] += self.seconds[key]

    @property
    def left(self) -> float:
        """Seconds of jobs that are not over, as they have come true so far."""
        return sum(value * self._factor(sort) for sort, value in self.waits.items())

    def job(self, key: str) -> float | None:
        """Seconds that a job takes, as expectations have come true so far; None if unknown."""
        if key not in self.seconds or key in self.unknown:
            return None
        return self._takes(key)

    def left_of(self, key: str, ran: float, told: float | None) -> float | None:
        """Seconds until a running job ends; None if nothing is known.

        ran: for how long it has; told: what it says itself is left, which goes before
        """
        if told is not None:
            return told
        takes = self.job(key)
        return None if takes is None else max(0.0, takes - ran)

    def remaining(self, running: Mapping[str, Running], since_start: float) -> float | None:
        """Seconds until all jobs are over; None if nobody can tell. since_start: of the launch"""
        told = {key for key, (_, left) in running.items() if left is not None}
        if not (self.open - told).isdisjoint(self.unknown):
            return None
        left = {k: self.left_of(k, *r) or 0.0 for k, r in running.items()}
        under_way = sum(ran for ran, _ in running.values())
        beside = self.beside
        if (taken := sum(self.taken.values())) and since_start:
            beside = max(1.0, (taken + under_way) / since_start)
        waiting = self.left - sum(self._takes(k) for k in running if k in self.open)
        plain = sum(self.waits.values())
        usual = self.left / plain if plain > 0 else 1.0  # factor of what comes after a job
        after = {k: self.rank.get(k, 0.0) - self.seconds.get(k, 0.0) for k in running}
        paths = (left[k] + after[k] * usual for k in running)
        return max((max(0.0, waiting) + sum(left.values())) / beside, *paths, 0.0)

    def _takes(self, key: str) -> float:
        return self.seconds[key] * self._factor(self._sort(key))

    def _sort(self, key: str) -> str:
        return self.sorts.get(key, "")

    def _factor(self, sort: str) -> float:
        return self.taken[sort] / expected if (expected := self.expected[sort]) else 1.0


def side_by_side(work: Iterable[tuple[float, Resources]], offers: Sequence[Offer]) -> float:
    """How many jobs run at once if all that is scarcest is in use, at least 1.

    work: seconds of each job and what it reserves meanwhile
    """
    seconds, wanted = 0.0, {"cpus": 0.0, "gpus": 0.0, "memory_gb": 0.0, "jobs": 0.0}
    for took, resources in work:
        seconds += took
        for name in wanted:
            wanted[name] += took * getattr(resources, name, 1.0)
    least = 0.0  # s, if nothing is ever idle
    for name, amount in wanted.items():
        there = sum(getattr(offer, name) for offer in offers)
        least = max(least, amount / there if there else 0.0)
    return max(1.0, seconds / least) if least else 1.0
