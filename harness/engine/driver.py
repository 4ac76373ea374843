"""The driver: keeps a bounded number of jobs running until the plan is done.

Order, retries, time limits and the records of failures stay here, since Ray's own retries are
unlimited for memory kills and cannot tell a job its attempt (harness/engine/README.md, section 5).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from harness.engine.executors import CRASHED, Executor, InfeasibleError
from harness.engine.outcomes import REFUSED, Outcome
from harness.planning.config import Schedule
from harness.planning.jobs import Job
from harness.planning.plan import Plan
from harness.store import DAMAGED, DONE, FAILED, OUT_OF_MEMORY, SKIPPED, Record, Store

POLL_S = 0.5
MENDED = 3  # how often a job may find what it builds on damaged
INFEASIBLE_CHECK_S = 30.0  # how often waiting jobs are checked against the nodes there are


@dataclass
class Running:
    """An attempt at a job that has not ended."""

    job: Job
    attempt: int
    progress: dict[str, Any] | None = None  # what it last said of itself


@dataclass
class Summary:
    """How the jobs of a launch ended: status -> how many, and the failures' records."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """Something that a launch tells of a job."""

    name: str  # "done", "failed", "retry" or "waiting"
    job: Job
    record: Record | None = None  # of a job that ended
    reason: str = ""


Listener = Callable[[Event], None]


class Driver:
    """Runs the pending jobs of a plan; a job starts when all it needs is done."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Executor,
        schedule: Schedule,
        listen: Listener = lambda event: None,
    ):
        self.plan, self.store, self.executor = plan, store, executor
        self.schedule, self.listen = schedule, listen
        self.waiting = {job.key: job for job in plan.pending(store)}
        self.running: dict[str, Running] = {}
        self.attempts: Counter[str] = Counter()
        self.mended: Counter[str] = Counter()
        self.dependants: dict[str, set[str]] = defaultdict(set)
        for job in plan.jobs.values():
            for need in job.needs:
                self.dependants[need].add(job.key)
        self.summary = Summary()
        self.checked_at = self.watched_at = time.monotonic()

    def run(self, tick: Callable[[dict[str, Running]], None] = lambda running: None) -> Summary:
        """Until nothing waits or runs. `tick` is called about twice a second.

        Raises InfeasibleError before anything starts if a job could never run; OSError when
        the store cannot be written. Leaves no job running, however it ends.
        """
        try:
            for resources in {job.resources for job in self.waiting.values()}:
                self.executor.check(resources)
            while self.waiting or self.running:
                self._submit()
                for outcome in self.executor.poll(POLL_S):
                    self._handle(outcome)
                if time.monotonic() - self.watched_at >= POLL_S:
                    self.watched_at = time.monotonic()
                    self._watch()
                    tick(self.running)
        finally:
            self.executor.close()
        return self.summary

    def _submit(self) -> None:
        for key, job in list(self.waiting.items()):
            if len(self.running) >= 2 * self.executor.slots:
                return
            if any(need in self.waiting or need in self.running for need in job.needs):
                continue
            del self.waiting[key]
            self.attempts[key] += 1
            self.running[key] = Running(job, self.attempts[key])
            self.store.forget_progress(key)
            self.executor.submit(job, str(self.store.path), self.attempts[key])

    def _handle(self, outcome: Outcome) -> None:
        key, status = outcome.key, outcome.status
        ended = self.running.pop(key)
        job = ended.job
        if status == DONE and not self.store.done(key):
            reason = f"its worker says that it is done, and {self.store.path} has no result of it"
            status = CRASHED
            outcome = replace(outcome, reason=f"{reason}: do all nodes see this very folder?")
        if self.store.done(key):  # another launch may have finished it meanwhile
            self.summary.counts[DONE] += 1
            self.listen(Event(DONE, job, self.store.finished(key)))
            if outcome.changed:
                self._wait_again(self.dependants[key])
        elif status == REFUSED:
            self.executor.exclude(outcome)
            self.attempts[key] -= 1
            self.waiting[key] = job
            self.listen(Event("retry", job, reason=outcome.reason))
        elif status == DAMAGED and self.mended[key] < MENDED:
            self.mended[key] += 1
            self.listen(Event("retry", job, reason=f"{outcome.reason}; it is computed again"))
            self._wait_again([key])
        elif status == CRASHED and ended.attempt <= self.schedule.retries:
            self.waiting[key] = job
            self.listen(Event("retry", job, reason=outcome.reason))
        elif status == OUT_OF_MEMORY and ended.attempt == 1 and (larger := self._larger(job)):
            self.waiting[key] = larger
            self.listen(Event("retry", larger, reason=outcome.reason))
        else:
            status = FAILED if status == CRASHED else status
            self._fail(job, replace(outcome, status=status), ended.attempt)

    def _wait_again(self, keys: Iterable[str]) -> None:
        """Put jobs that are not done (any more) back in line, after what they need of the same."""
        for key in keys:
            job = self.plan.jobs.get(key)
            if job is None or key in self.waiting or key in self.running or self.store.done(key):
                continue
            self._wait_again(job.needs)
            self.waiting[key] = job

    def _larger(self, job: Job) -> Job | None:
        """The job with twice the memory and share of the GPU, if any node has that much."""
        r = job.resources
        gpus = min(2 * r.gpus, 1.0) if r.gpus < 1 else r.gpus
        larger = replace(r, memory_gb=2 * r.memory_gb, gpus=gpus)
        try:
            self.executor.check(larger)
        except InfeasibleError:
            return None
        return replace(job, resources=larger)

    def _fail(self, job: Job, outcome: Outcome, attempt: int) -> None:
        record = self.store.fail(
            job.key,
            {
                "key": job.key,
                "kind": job.about.kind,
                "title": job.title,
                "status": outcome.status,
                "reason": outcome.reason,
                "log": list(outcome.log),
                "attempt": attempt,
                "spec": job.spec,
                "labels": dict(job.place.labels),
                "ended": time.time(),
            },
        )
        self.summary.counts[outcome.status] += 1
        self.summary.failures.append(record)
        self.listen(Event(FAILED, job, record, outcome.reason))
        for key in self.dependants[job.key]:
            if dependant := self.waiting.pop(key, None):
                reason = f"needs {job.title!r}, which ended as {outcome.status}: {outcome.reason}"
                self._fail(dependant, Outcome(key, SKIPPED, reason), 0)

    def _watch(self) -> None:
        """Read the progress of running jobs, end those over their time, notice lost resources."""
        now = time.time()
        for key, running in self.running.items():
            running.progress = self.store.progress(key)
            limit = running.job.resources.hours * 3600
            if running.progress and now - running.progress["started"] > limit:
                self.executor.cancel(key)
        if time.monotonic() - self.checked_at < INFEASIBLE_CHECK_S:
            return
        self.checked_at = time.monotonic()
        for job in [r.job for r in self.running.values() if r.progress is None]:
            try:
                self.executor.check(job.resources)
            except InfeasibleError as error:
                self.listen(Event("waiting", job, reason=str(error)))
