"""What jobs should take by what they compute: the loads of methods/work.py on a given machine.

Measured jobs alike go before (harness/planning/costs.py). A job that shares its GPU computes at its
share of the speed; one without a GPU computes on its CPU cores.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass

import methods
from harness.planning import loads
from harness.planning.jobs import Job
from harness.store import canonical
from methods.load import CORE, GPU_TFLOPS, Load, Machine

TEST = 120  # test samples of a category (the mean of MVTec 3D-AD's)
TRAIN = 266  # training samples of a category, likewise, where a view does not say
VIEWED = 1.2  # all samples of a category, in those trained on and tested: validation and its twins
# CPU s a sample of 800 px, files to arrays (tests/benchmarks/README.md)
PREPARED_S, TRUTH_S = 0.1, 0.01
STARTED_S = 0.3  # of any job: reading, checking and writing its files


@dataclass(frozen=True)
class Speeds:
    """What jobs run on: one GPU, and one core of a CPU."""

    gpu: Machine = Machine.gpu(GPU_TFLOPS)
    core: Machine = CORE


@dataclass(frozen=True)
class Sizes:
    """Samples of what a job reads."""

    train: int  # of all categories
    test: int
    categories: int


class Work:
    """Loads and seconds of the jobs of a plan."""

    def __init__(self, jobs: Iterable[Job], speeds: Speeds = Speeds()):
        self.jobs, self.speeds = {job.key: job for job in jobs}, speeds

    def load(self, job: Job) -> Load | None:
        """None of jobs of which nothing is known: made data, and methods that are not ours."""
        spec = job.about
        if spec.kind in ("view", "truth") and job.place.samples:
            each = PREPARED_S if spec.kind == "view" else TRUTH_S
            return Load(host_s=each * VIEWED * (job.place.samples + (job.place.tested or TEST)))
        if spec.kind not in ("cell", "stage") or spec.method not in methods.METHODS:
            return None
        counted = _load(
            spec.method, spec.stage, spec.setting, canonical(spec.settings), self._sizes(job)
        )
        return None if counted is None else counted + Load(host_s=STARTED_S)

    def samples(self, job: Job) -> int | None:
        """That a cell is trained on; None where no listing says it, and of other jobs."""
        view = self.jobs.get(job.about.needs.view or "") if job.about.kind == "cell" else None
        if view is None or not view.place.samples:
            return None
        return min(view.place.samples, job.about.train_samples or view.place.samples)

    def _sizes(self, job: Job) -> Sizes:
        needs = job.about.needs
        views = [needs.view] if needs.view else list(needs.views.values())
        limit = job.about.train_samples
        counts = [self.jobs[key].place.samples or TRAIN for key in views if key in self.jobs]
        train = [min(count, limit or count) for count in counts]
        test = sum(self.jobs[key].place.tested or TEST for key in views if key in self.jobs)
        return Sizes(sum(train), test, max(1, len(counts)))

    def whole_s(self, job: Job) -> float | None:
        """Seconds with a whole GPU, where the job has a GPU at all."""
        return self._seconds(job, 1.0)

    def __call__(self, job: Job) -> float | None:
        """Seconds with what the job reserves: a model for `Durations`."""
        return self._seconds(job, min(1.0, job.resources.gpus))

    def _seconds(self, job: Job, share: float) -> float | None:
        if (load := self.load(job)) is None:
            return None
        if job.resources.gpus > 0:
            return self.speeds.gpu.seconds(load, share)
        return self.speeds.core.seconds(load, job.resources.cpus)


@functools.lru_cache(maxsize=4096)
def _load(method: str, stage: str, setting: str, settings: str, sizes: Sizes) -> Load | None:
    if (kept := loads.kept()) is None:
        return None
    name = f"{method} {stage} {setting} {settings} {sizes}"
    return kept.get(name, lambda: _counted(method, stage, setting, settings, sizes))


def _counted(method: str, stage: str, setting: str, settings: str, sizes: Sizes) -> Load | None:
    from methods import work  # torch comes with it
    from methods.contract import settings_from

    cls = methods.declared(method)
    values = json.loads(settings)
    if not stage:
        count = work.CELLS.get(method)
        own = settings_from(cls.Settings, values)
        return count(own, setting, sizes.train, sizes.test) if count else None
    if (count := work.STAGES.get((method, stage))) is None:
        return None
    owner = cls.stages[stage]
    samples = sizes.train
    if owner.reads == "category":
        samples = round(VIEWED * (sizes.train + sizes.test))
    return count(settings_from(owner.Settings, values), samples)
