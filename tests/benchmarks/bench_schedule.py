"""What the driver costs a job: 1,000 empty jobs through it against bare Ray tasks, in one run.

python -m tests.benchmarks.bench_schedule [--jobs 1000] [--workers 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time

from harness.engine.driver import Driver
from harness.engine.on_ray import OnRay
from harness.planning.config import Schedule
from harness.store import DONE, SCHEMA, Record, Store
from tests.harness import toy


class Believing(Store):
    """Takes a job as done once it has begun: what results cost on disk is another matter."""

    begun: frozenset[str] = frozenset()

    def done(self, key: str) -> bool:
        return key in self.begun

    def finished(self, key: str) -> Record:
        return Record.of({"schema": SCHEMA, "status": DONE}, self.folder(key))


def through_the_driver(task, jobs: list, workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        executor = OnRay(cpus=workers, gpus=0, task=task)
        warm_up(executor)
        store = Believing(folder)
        driver = Driver(toy.plan(*jobs), store, executor, Schedule())
        store.begun = frozenset(driver.waiting)
        close, executor.close = executor.close, lambda: None  # stopping Ray is no job's cost
        start = time.perf_counter()
        assert driver.run().counts == {DONE: len(jobs)}
        seconds = time.perf_counter() - start
        close()
        return seconds


def warm_up(executor: OnRay) -> None:
    """Workers started and the task's modules imported, in every worker."""
    for i in range(8):
        job = toy.job(f"warm {i}")
        executor.submit(job, tempfile.gettempdir(), 1)
    while executor.refs:
        executor.poll(1.0)


def bare_ray(jobs: list, workers: int) -> float:
    executor = OnRay(cpus=workers, gpus=0, task=toy.nothing)
    ray, remote = executor.ray, executor.shared.options(num_cpus=1)
    warm_up(executor)
    described = [job.describe() for job in jobs]
    start, pending = time.perf_counter(), []
    for job in described:
        pending.append(remote.remote(job, "", 1))
        if len(pending) >= 2 * workers:
            ready, pending = ray.wait(pending, num_returns=1)
            ray.get(ready)
    ray.get(pending)
    seconds = time.perf_counter() - start
    executor.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    jobs = [toy.job(f"job {i}") for i in range(arguments.jobs)]
    bare = bare_ray(jobs, arguments.workers)
    driver = through_the_driver(toy.nothing, jobs, arguments.workers)
    print(f"| {len(jobs)} empty jobs, {arguments.workers} workers | ms a job | ratio |")
    print("|---|---|---|")
    print(f"| Ray tasks, bounded submission, no driver | {1000 * bare / len(jobs):.2f} | 1.0 |")
    print(f"| through the driver | {1000 * driver / len(jobs):.2f} | {driver / bare:.2f} |")


if __name__ == "__main__":
    main()
