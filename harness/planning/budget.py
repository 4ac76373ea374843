"""What a plan will take: GPU-hours by method, its end on so many GPUs, jobs beyond their limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.planning.costs import Durations, ranks
from harness.planning.jobs import Job


@dataclass(frozen=True)
class Budget:
    """gpu_s: seconds of a whole GPU, by method and by stage or setting."""

    gpu_s: dict[tuple[str, str], float]
    too_long: list[tuple[str, float, float]]  # jobs that pass their limit: titles, hours, limit
    longest_s: float  # of the longest chain of jobs, each with its share

    @property
    def total_s(self) -> float:
        return sum(self.gpu_s.values())

    def wall_s(self, gpus: float) -> float:
        """With so many GPUs: neither the work nor the longest chain can be had sooner."""
        return max(self.total_s / gpus, self.longest_s)


def budget(pending: Sequence[Job], durations: Durations) -> Budget:
    """Of jobs that are to do, each after those it needs. durations: of `forecast`"""
    gpu_s: dict[tuple[str, str], float] = defaultdict(float)
    too_long: dict[tuple, list[tuple[float, str]]] = defaultdict(list)
    for job in pending:
        seconds, source = durations.sourced(job)
        if job.about.kind in ("cell", "stage") and source not in ("guess", "unknown"):
            part = job.about.stage or job.about.setting
            gpu_s[job.about.method, part] += seconds * (min(1.0, job.resources.gpus) or 1.0)
        if seconds > job.resources.hours * 3600:
            kind = job.about.method, job.about.stage, job.about.setting, job.resources.hours
            too_long[kind].append((seconds / 3600, job.title))
    longest = max(ranks(pending, durations.of).values(), default=0.0)
    named = [(_named(jobs), max(jobs)[0], kind[-1]) for kind, jobs in too_long.items()]
    return Budget(dict(gpu_s), named, longest)


def _named(jobs: list[tuple[float, str]]) -> str:
    """The job that takes longest, and how many there are like it."""
    (_, title), others = max(jobs), len(jobs) - 1
    return f"{title} and {others} like it" if others else title
