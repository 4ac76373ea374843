"""The driver: keeps a bounded number of jobs running until the plan is done.

Order, retries, time limits and the records of failures stay here, since Ray's own retries are
unlimited for memory kills and cannot tell a job its attempt (harness/engine/README.md, section 5).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.engine.executors import CRASHED, Executor, InfeasibleError, LostError
from harness.engine.heartbeat import WAITING, Pulse, Pulses
from harness.engine.outcomes import BROKEN, REFUSED, Outcome
from harness.planning.config import Schedule
from harness.planning.costs import expected, forecast
from harness.planning.jobs import Job
from harness.planning.outlook import Outlook, side_by_side
from harness.planning.packing import Packing
from harness.planning.plan import Plan
from harness.planning.queue import Queue
from harness.planning.room import Room
from harness.store import (
    DAMAGED,
    DONE,
    FAILED,
    OUT_OF_MEMORY,
    SKIPPED,
    TIMEOUT,
    Record,
    Store,
)
from harness.store.alike import Taken

POLL_S = 0.5
LOOK_S = 2.0  # how often running jobs are looked for in the store and listened to
BELIEVE_S = 5.0  # a result so long in the store is believed; else its outcome is on the way
KILL_S = 10.0  # for a worker to end that was told to; then it is killed, then given up
MENDED = 3  # how often a job may find what it builds on damaged
INFEASIBLE_CHECK_S = 30.0  # how often waiting jobs are checked against the nodes there are


@dataclass
class Running:
    """A job in the hands of a worker. Times are of the monotonic clock, s."""

    job: Job
    attempt: int
    progress: dict[str, Any] | None = None  # what it last said of itself
    started: float | None = None  # when we first heard of it
    there: float | None = None  # since when its result has been in the store
    over: float | None = None  # when it was told to end: it ran out of time
    silent: float | None = None  # when it was killed: it gave no sign of life
    reason: str = ""  # of that


@dataclass
class Summary:
    """How the jobs of a launch ended: status -> how many, and the failures' records."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """Something that a launch tells of a job."""

    name: str  # "done", "failed", "retry" or "waiting"; of all jobs, "waiting", "lost" or "back"
    job: Job | None
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
        pending: Sequence[Job] | None = None,
    ):
        """pending: what `plan.pending(store)` has just given, where the caller knows it"""
        self.plan, self.store, self.executor = plan, store, executor
        self.schedule, self.listen = schedule, listen
        self.running: dict[str, Running] = {}
        self.attempts: Counter[str] = Counter()
        self.mended: Counter[str] = Counter()
        self.room = Room(executor.offers)
        self.packing = Packing(schedule.packing_margin, self.room.memory_for)
        pending = plan.pending(store) if pending is None else pending
        taken = list(store.taken()) if pending else []
        self.packing.learn(taken)
        durations = forecast(plan, taken)
        seconds, rank = expected(pending, durations)
        sorts = {job.key: durations.sort(job) for job in pending}
        unknown = [job.key for job in pending if durations.sourced(job)[1] == "unknown"]
        work = ((seconds[job.key], self.packing.reserve(job)) for job in pending)
        beside = side_by_side(work, self.room.offers)
        self.outlook = Outlook(seconds, rank, beside, sorts, unknown)
        self.queue = Queue(plan.jobs.values(), rank, self.packing.reserve)
        for job in pending:
            self.queue.add(job)
        self.summary = Summary()
        self.pulses = Pulses(store)
        self.leaving: dict[str, Running] = {}  # done by what the store says, not by their workers
        self.told: set[str] = set()  # whose waits and silences were told
        self.began = self.checked_at = self.watched_at = self.looked_at = time.monotonic()

    def run(self, tick: Callable[[dict[str, Running]], None] = lambda running: None) -> Summary:
        """Until nothing waits or runs. `tick` is called about twice a second.

        Raises InfeasibleError before anything starts if a job could never run; OSError when
        the store cannot be written; LostError if Ray is gone for good. Leaves no job running,
        however it ends.
        """
        try:
            for resources in set(map(self.packing.reserve, self.queue.waiting.values())):
                self.executor.check(resources)
            while self.queue.waiting or self.running:
                try:
                    self._turn(tick)
                except LostError as error:
                    self._rejoin(error)
        finally:
            self.executor.close()
            self.store.index.flush()
        return self.summary

    @property
    def remaining_s(self) -> float | None:
        """Seconds until all jobs are over; None as long as nobody can tell."""
        now = time.monotonic()
        running = {
            key: (now - r.started, (r.progress or {}).get("seconds_left"))
            for key, r in self.running.items()
            if r.started is not None
        }
        return self.outlook.remaining(running, now - self.began)

    def _turn(self, tick: Callable[[dict[str, Running]], None]) -> None:
        self._submit()
        for outcome in self.executor.poll(POLL_S):
            self._handle(outcome)
        if time.monotonic() - self.watched_at >= POLL_S:
            self.watched_at = time.monotonic()
            self._watch()
            tick(self.running)

    def _submit(self) -> None:
        self.room.update(self.executor.offers)
        while (job := self.queue.pop(self.room.fits)) is not None:
            key = job.key
            if self.leaving.pop(key, None):
                self.executor.forget(key)
            self.room.take(key, job.resources)
            self.attempts[key] += 1
            self.running[key] = Running(job, self.attempts[key])
            self.store.forget_progress(key)
            self.pulses.begin(key)
            self.executor.submit(job, str(self.store.path), self.attempts[key])

    def _rejoin(self, error: LostError) -> None:
        """Tell of a lost Ray, join it again, and put back in line what ran there.

        Where a worker lives on beyond the loss, the next one waits for its lock.
        """
        n = len(self.running)
        again = f"; {n} jobs under way are submitted again" if n else ""
        self.listen(Event("lost", None, reason=f"{error}: it is joined again{again}"))
        back = list(self.running)
        self.attempts.subtract(back)  # not their fault
        for key in back:
            self.queue.add(self._left(key))
        self.leaving.clear()
        since = time.monotonic()
        self.executor.rejoin(self.schedule.reconnect_minutes)
        self.listen(
            Event("back", None, reason=f"Ray is there again after {time.monotonic() - since:.0f} s")
        )
        for key in back:
            if self.store.done(key):
                self._count(self.plan.jobs[key])

    def _left(self, key: str) -> Job:
        """A job that no longer runs, as the plan has it."""
        del self.running[key]
        self.room.leave(key)
        return self.plan.jobs[key]

    def _count(self, job: Job) -> None:
        self.queue.close(job.key)
        self.summary.counts[DONE] += 1
        record = self.store.finished(job.key)
        taken = Taken.of(record)
        self.packing.learn([taken] if taken else [])
        self.outlook.ended(job.key, taken.seconds if taken else None)
        self.listen(Event(DONE, job, record))

    def _handle(self, outcome: Outcome) -> None:
        key, status = outcome.key, outcome.status
        self.pulses.end(key)
        if self.leaving.pop(key, None):  # told already
            return
        ended = self.running[key]
        job = self._left(key)
        if ended.over is not None and status == CRASHED:
            outcome = replace(outcome, status=TIMEOUT, reason=ended.reason)
        elif ended.silent is not None and status == CRASHED:
            outcome = replace(outcome, reason=ended.reason)
        elif status == DONE and not self.store.done(key):
            reason = f"its worker says that it is done, and {self.store.path} has no result of it"
            reason = f"{reason}: do all nodes see this very folder?"
            outcome = replace(outcome, status=CRASHED, reason=reason)
        status = outcome.status
        if self.store.done(key):  # another launch may have finished it meanwhile
            self._count(job)
            if outcome.changed:
                self._wait_again(self.queue.dependants.get(key, ()))
        elif status == REFUSED:
            self.executor.exclude(outcome)
            self.attempts[key] -= 1
            self.queue.add(job)
            self.listen(Event("retry", job, reason=outcome.reason))
        elif status == BROKEN:
            self.attempts[key] -= 1
            self.queue.add(job, first=True)
        elif status == DAMAGED and self.mended[key] < MENDED:
            self.mended[key] += 1
            self.listen(Event("retry", job, reason=f"{outcome.reason}; it is computed again"))
            self._wait_again([key])
        elif status == CRASHED and ended.attempt <= self.schedule.retries:
            self.queue.add(job)
            self.listen(Event("retry", job, reason=outcome.reason))
        elif status == OUT_OF_MEMORY and self.packing.enlarge(ended.job, outcome.of_card):
            self.queue.add(job, first=True)
            self.listen(Event("retry", job, reason=outcome.reason))
        else:
            status = FAILED if status == CRASHED else status
            self._fail(job, replace(outcome, status=status), ended.attempt)

    def _wait_again(self, keys: Iterable[str]) -> None:
        """Put jobs that are not done (any more) back in line, after what they need of the same."""
        ahead = list(keys)
        while ahead:
            job = self.plan.jobs.get(key := ahead.pop())
            if job is None or key in self.queue.waiting or key in self.running:
                continue
            if not self.store.done(key):
                self.queue.add(job)
                self.outlook.opened(key)
                ahead += job.needs

    def _fail(self, job: Job, outcome: Outcome, attempt: int) -> None:
        """A job has failed for good; what needs it is skipped."""
        self._record_failure(job, outcome, attempt)
        reason = f"needs {job.title!r}, which ended as {outcome.status}: {outcome.reason}"
        for dependant in self.queue.withdraw(job.key):
            self._record_failure(dependant, Outcome(dependant.key, SKIPPED, reason), 0)

    def _record_failure(self, job: Job, outcome: Outcome, attempt: int) -> None:
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
        self.outlook.ended(job.key, None)
        self.listen(Event(FAILED, job, record, outcome.reason))

    def _watch(self) -> None:
        """Look at running jobs: believe the store, listen to workers, end those over their time."""
        now = time.monotonic()
        self.read_progress()
        if now - self.looked_at >= LOOK_S:
            if now - self.looked_at > 3 * LOOK_S:
                self.pulses.excuse()
            self.looked_at = now
            self.pulses.look([*self.running, *self.leaving])
            for key, running in list(self.running.items()):
                if not self._believed(key, running, now):
                    self._listen_to(key, running, now)
            for key, running in self.leaving.items():
                self._silent(key, running, self.pulses.of(key), now)
            if any(running.started is None for running in self.running.values()):
                self.executor.end_stopped(self._silence_s)
        if now - self.checked_at < INFEASIBLE_CHECK_S:
            return
        self.checked_at = now
        unheard = [r.job for r in self.running.values() if r.started is None]
        for job in [*unheard, *(job.reserving(r) for job, r in self.queue.heads())]:
            try:
                self.executor.check(job.resources)
            except InfeasibleError as error:
                self.listen(Event("waiting", job, reason=str(error)))

    def read_progress(self) -> None:
        """Of running jobs, from the store."""
        for key, running in self.running.items():
            running.progress = self.store.progress(key)
            if running.started is None and running.progress:
                running.started = time.monotonic()

    @property
    def _silence_s(self) -> float:
        return 60 * self.schedule.silence_minutes

    def _believed(self, key: str, running: Running, now: float) -> bool:
        """Whether the job is done, by its result in the store; a lost link tells of no outcome."""
        if not self.store.done(key):
            running.there = None
            return False
        running.there = running.there or now
        if now - running.there < BELIEVE_S:
            return True  # its outcome should be on the way
        self.leaving[key] = running
        self._count(self._left(key))
        if self.store.last_aside(key):  # it may have been computed again, to other bytes
            self._wait_again(self.queue.dependants.get(key, ()))
        return True

    def _listen_to(self, key: str, running: Running, now: float) -> None:
        """What a job's worker says of itself, or does not."""
        pulses = self.pulses.of(key)
        own = [pulse for pulse in pulses if pulse.driver == self.executor.name]
        if own and running.started is None:
            running.started = now
        if waiting := [pulse for pulse in own if pulse.state == WAITING]:
            self._tell_wait(running, waiting[0])
        self._over(key, running, own, now)
        if key in self.running:
            self._silent(key, running, own, now)

    def _tell_wait(self, running: Running, pulse: Pulse) -> None:
        holder = self.store.holder(running.job.key)
        who = str(holder or "an unknown process")
        phase = f"waiting for the lock held by {who}"
        running.progress = {"phase": phase, "step": 0, "total": 1}
        stopped = holder is not None and holder.process.stopped
        if stopped and running.job.key not in self.told:
            self.told.add(running.job.key)
            why = f"{phase}: continue or end that process (kill -CONT, kill -KILL)"
            self.listen(Event("waiting", running.job, reason=why))
        elif WAITING not in self.told:
            self.told.add(WAITING)
            why = f"for a lock, first that of {running.job.title!r}, held by {who}"
            self.listen(Event("waiting", None, reason=why))

    def _over(self, key: str, running: Running, own: list[Pulse], now: float) -> None:
        """End a job over its time: cancelled, then killed, then given up."""
        began = min((pulse.began for pulse in own), default=running.started)
        hours = running.job.resources.hours
        if running.over is None:
            if began is not None and now - began > 3600 * hours:
                running.over = now
                running.reason = f"over its time limit of {hours:g} h (resources, hours)"
                self.executor.cancel(key)
            return
        if now - running.over > KILL_S:
            for pulse in own:
                self.executor.end(pulse.process, pulse.node)
        if now - running.over > 2 * KILL_S:
            self._give_up(Outcome(key, TIMEOUT, running.reason))

    def _silent(self, key: str, running: Running, own: list[Pulse], now: float) -> None:
        """Kill a worker that gives no sign of life; the job is tried again, elsewhere if it fits.

        Where nobody can reach it, or Ray does not notice, it is given up.
        """
        given_up = running.silent is not None and now - running.silent > 2 * KILL_S
        for pulse in own:
            if now - pulse.heard <= self._silence_s or running.silent is not None:
                continue
            running.silent = now
            running.reason = f"no sign of life from {pulse.process} for {now - pulse.heard:.0f} s"
            self.executor.avoid(key, pulse.node)
            given_up = not self.executor.end(pulse.process, pulse.node)
        if given_up and key in self.running:
            self._give_up(Outcome(key, CRASHED, running.reason))

    def _give_up(self, outcome: Outcome) -> None:
        self.executor.forget(outcome.key)
        self._handle(outcome)
