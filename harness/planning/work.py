"""What jobs should take by what they compute: the MACs of methods/work.py at a given speed.

Measured jobs alike go before (harness/planning/costs.py). A job that shares its GPU computes at its
share of the speed.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import methods
from harness.planning.costs import Durations
from harness.planning.jobs import Job
from harness.planning.plan import Plan
from harness.store import Store, canonical

TEST = 120  # test samples of a category (the mean of MVTec 3D-AD's)
TRAIN = 266  # training samples of a category, likewise, where a view does not say
VIEWED = 1.2  # all samples of a category, in those trained on and tested: validation and its twins


@dataclass(frozen=True)
class Sizes:
    """Samples of what a job reads."""

    train: int  # of all categories
    test: int
    categories: int


class Work:
    """MACs and seconds of the jobs of a plan."""

    def __init__(self, jobs: Iterable[Job], tflops: float):
        self.jobs, self.tflops = {job.key: job for job in jobs}, tflops

    def macs(self, job: Job) -> float | None:
        """None of jobs that compute with no network of the five methods."""
        spec = job.about
        if spec.kind not in ("cell", "stage") or spec.method not in methods.METHODS:
            return None
        sizes = self._sizes(job)
        return _macs(spec.method, spec.stage, spec.setting, canonical(spec.settings), sizes)

    def _sizes(self, job: Job) -> Sizes:
        needs = job.about.needs
        views = [needs.view] if needs.view else list(needs.views.values())
        limit = job.about.train_samples
        counts = [self.jobs[key].place.samples or TRAIN for key in views if key in self.jobs]
        train = [min(count, limit or count) for count in counts]
        test = sum(min(TEST, count) for count in counts)
        return Sizes(sum(train), test, max(1, len(counts)))

    def full_gpu_s(self, job: Job) -> float | None:
        """Seconds with a whole GPU."""
        macs = self.macs(job)
        return None if macs is None else 2 * macs / (self.tflops * 1e12)

    def __call__(self, job: Job) -> float | None:
        """Seconds with the share of a GPU that the job reserves: a model for `Durations`."""
        seconds = self.full_gpu_s(job)
        share = min(1.0, job.resources.gpus) or 1.0
        return None if seconds is None else seconds / share


@functools.lru_cache(maxsize=4096)
def _macs(method: str, stage: str, setting: str, settings: str, sizes: Sizes) -> float | None:
    import json

    from methods import work
    from methods.contract import settings_from

    cls = methods.get(method)
    values = json.loads(settings)
    if stage:
        count = work.STAGES.get((method, stage))
        owner = cls.stages[stage]
        samples = sizes.train
        if owner.reads == "category":
            samples = round(VIEWED * (sizes.train + sizes.test))
        return count(settings_from(owner.Settings, values), samples) if count else None
    return work.CELLS[method](settings_from(cls.Settings, values), setting, sizes.train, sizes.test)


@dataclass(frozen=True)
class Estimate:
    """What a plan will take. gpu_s: seconds of a whole GPU, by method and by stage or setting."""

    gpu_s: dict[tuple[str, str], float]
    too_long: list[tuple[str, float, float]]  # jobs that pass their limit: title, hours, limit
    longest_s: float  # of the longest chain of jobs, each with its share

    @property
    def total_s(self) -> float:
        return sum(self.gpu_s.values())

    def wall_s(self, gpus: float) -> float:
        """With so many GPUs: neither the work nor the longest chain can be had sooner."""
        return max(self.total_s / gpus, self.longest_s)


def estimate(plan: Plan, store: Store, tflops: float) -> Estimate:
    """Of the jobs still to do: measured ones alike where there are any, else by their work."""
    from harness.planning.costs import ranks

    pending = plan.pending(store)
    model = Work(plan.jobs.values(), tflops)
    durations = Durations(store.taken(), model)
    gpu_s: dict[tuple[str, str], float] = defaultdict(float)
    too_long = []
    for job in pending:
        seconds, source = durations.sourced(job)
        if job.about.kind in ("cell", "stage") and source != "guess":
            part = job.about.stage or job.about.setting
            gpu_s[job.about.method, part] += seconds * (min(1.0, job.resources.gpus) or 1.0)
        if seconds > job.resources.hours * 3600:
            too_long.append((job.title, seconds / 3600, job.resources.hours))
    longest = max(ranks(pending, durations.of).values(), default=0.0)
    return Estimate(dict(gpu_s), too_long, longest)
