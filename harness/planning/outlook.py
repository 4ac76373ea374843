"""When a launch should end, by what its jobs should take and what they have taken so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.planning.jobs import Resources
from harness.planning.room import Offer

Running = tuple[float, float | None]  # s: for how long a job has run, what it says is left


class Outlook:
    """Counts expected seconds of jobs that are not over; as cheap for many jobs as for few.

    Expectations may be off by a factor, or be guesses: what ended so far says by which, and how
    many jobs ran side by side.
    """

    def __init__(
        self,
        seconds: Mapping[str, float],
        rank: Mapping[str, float],
        beside: float = 1.0,
        unknown: Mapping[str, str] = {},
    ):
        """seconds: that each job should take; rank: of the longest path that begins with it;
        beside: how many run side by side, until some have ended; unknown: jobs whose seconds mean
        nothing, and their method: until one of it has ended
        """
        self.unknown = dict(unknown)
        self.seconds, self.rank, self.beside = seconds, rank, beside
        self.open = set(seconds)
        self.left = sum(seconds.values())
        self.expected = self.taken = 0.0  # of those that were done here

    def ended(self, key: str, took: float | None) -> None:
        """took: None of a job that failed or was skipped."""
        if key not in self.open:
            return
        self.open.discard(key)
        self.left -= self.seconds[key]
        if took is not None and key in self.unknown:
            of = self.unknown[key]  # how far off they are is in the factor from now on
            self.unknown = {key: method for key, method in self.unknown.items() if method != of}
        if took is not None:
            self.expected += self.seconds[key]
            self.taken += took

    def opened(self, key: str) -> None:
        """A job waits again."""
        if key in self.seconds and key not in self.open:
            self.open.add(key)
            self.left += self.seconds[key]

    def job(self, key: str) -> float | None:
        """Seconds that a job takes, as expectations have come true so far; None if unknown."""
        if key not in self.seconds or key in self.unknown:
            return None
        return self.seconds[key] * self._factor

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
        if self.taken and since_start:
            beside = max(1.0, (self.taken + under_way) / since_start)
        waiting = self.left - sum(self.seconds.get(k, 0.0) for k in running if k in self.open)
        after = {k: self.rank.get(k, 0.0) - self.seconds.get(k, 0.0) for k in running}
        paths = (left[k] + after[k] * self._factor for k in running)
        return max((waiting * self._factor + sum(left.values())) / beside, *paths, 0.0)

    @property
    def _factor(self) -> float:
        return self.taken / self.expected if self.expected else 1.0


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
