"""The driver: keeps a bounded number of jobs running until the plan is done.

Ray only starts processes and places them on CPUs and GPUs. Order, retries, time limits and the
records of failures stay here, since Ray's own retries are unlimited for memory kills and cannot
tell a job its attempt (harness/engine/README.md, section 5).
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch
from tenacity import RetryCallState, Retrying, stop_after_attempt

from harness.engine.job import run_job
from harness.planning.config import Resources, Schedule
from harness.planning.plan import Job, Plan
from harness.store import DONE, FAILED, OUT_OF_MEMORY, SKIPPED, TIMEOUT, Store

CRASHED = "crashed"  # the worker process or its node went away: worth another attempt
GIB = 2**30
POLL_S = 0.5
INFEASIBLE_CHECK_S = 30.0  # how often waiting jobs are checked against the nodes there are


class InfeasibleError(RuntimeError):
    """No node could ever run a job; the message names what is missing."""


def describe(job: Job) -> dict:
    """A job as the plain dictionary that travels to a worker."""
    return {
        "key": job.key,
        "spec": job.spec,
        "place": job.place,
        "title": job.title,
        "resources": asdict(job.resources),
    }


Task = Callable[[dict, str, int], dict]  # (job, store path, attempt) -> outcome


class Executor(Protocol):
    """Where jobs run. Outcomes are {key, status, reason?, log?}."""

    slots: int

    def check(self, resources: Resources) -> None: ...
    def submit(self, job: dict, store_path: str, attempt: int) -> None: ...
    def poll(self, timeout: float) -> list[dict]: ...
    def cancel(self, key: str) -> None: ...
    def close(self) -> None: ...


class InProcess:
    """Jobs one after another in this process: for debugging and tests."""

    slots = 1

    def __init__(self, task: Task = run_job):
        self.task = task
        self.queue: list[tuple[dict, str, int]] = []

    def check(self, resources: Resources) -> None:
        if resources.gpus > 0 and not torch.cuda.is_available():
            raise InfeasibleError(_too_much(resources, "this machine has no GPU"))

    def submit(self, job: dict, store_path: str, attempt: int) -> None:
        self.queue.append((job, store_path, attempt))

    def poll(self, timeout: float) -> list[dict]:
        return [self.task(*self.queue.pop(0))]

    def cancel(self, key: str) -> None:
        """A job of this process cannot be stopped from this process."""

    def close(self) -> None:
        self.queue.clear()


class OnRay:
    """Jobs as Ray tasks, on a Ray that this starts on loopback or on a cluster by address."""

    def __init__(
        self,
        address: str | None = None,
        cpus: int | None = None,
        gpus: int | None = None,
        isolation: str = "auto",
        task: Task = run_job,
        joined: bool = False,
    ):
        """joined: use the Ray that this process is connected to; it runs on at the end."""
        if not joined:
            _prepare_environment(local=address is None)
        import ray

        self.ray, self.joined = ray, joined
        if not joined:
            self._start(address, cpus, gpus)
        self.isolation = isolation
        self.refs: dict[Any, str] = {}
        # a worker kept for the next job saves seconds of imports; a fresh process a job gives
        # clean memory figures and frees the GPU in between
        self.shared = ray.remote(max_calls=0, max_retries=0)(task)
        self.single = ray.remote(max_calls=1, max_retries=0)(task)

    def _start(self, address: str | None, cpus: int | None, gpus: int | None) -> None:
        options: dict[str, Any] = {
            "address": address or "local",
            "log_to_driver": False,
            "logging_level": "ERROR",
        }
        if address is None:
            # only descriptions and outcomes travel through the object store
            options |= {
                "num_cpus": cpus,
                "num_gpus": gpus,
                "include_dashboard": False,
                "object_store_memory": 100 * 2**20,
            }
        attempts = Retrying(stop=stop_after_attempt(3), reraise=True, before_sleep=self._again)
        attempts(self.ray.init, **options)

    def _again(self, state: RetryCallState) -> None:
        error = state.outcome.exception()
        print(f"ray_start attempt={state.attempt_number} failed={str(error).splitlines()[0]!r}")
        self.ray.shutdown()

    @property
    def nodes(self) -> list[dict[str, float]]:
        return [n["Resources"] for n in self.ray.nodes() if n["Alive"]]

    @property
    def slots(self) -> int:
        return max(1, int(sum(n.get("CPU", 0) for n in self.nodes)))

    def check(self, resources: Resources) -> None:
        wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory_gb * GIB}
        nodes = self.nodes
        if any(all(n.get(k, 0) >= v for k, v in wanted.items()) for n in nodes):
            return
        sizes = "; ".join(
            f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs, "
            f"{n.get('memory', 0) / GIB:.1f} GiB"
            for n in nodes
        )
        raise InfeasibleError(_too_much(resources, f"the nodes have: {sizes}"))

    def submit(self, job: dict, store_path: str, attempt: int) -> None:
        r = job["resources"]
        alone = self.isolation == "process" or (self.isolation == "auto" and r["gpus"] > 0)
        task = (self.single if alone else self.shared).options(
            num_cpus=r["cpus"],
            num_gpus=r["gpus"],
            memory=int(r["memory_gb"] * GIB),
            name=job["title"],
            scheduling_strategy="DEFAULT",  # not inside a sweep's trial
        )
        self.refs[task.remote(job, store_path, attempt)] = job["key"]

    def poll(self, timeout: float) -> list[dict]:
        ready, others = self.ray.wait(list(self.refs), num_returns=1, timeout=timeout)
        if ready and others:
            ready += self.ray.wait(others, num_returns=len(others), timeout=0)[0]
        return [self._outcome(ref, self.refs.pop(ref)) for ref in ready]

    def _outcome(self, ref: Any, key: str) -> dict:
        lost = self.ray.exceptions
        try:
            return self.ray.get(ref)
        except lost.OutOfMemoryError as error:
            return {"key": key, "status": OUT_OF_MEMORY, "reason": _first_line(error)}
        except lost.TaskCancelledError as error:
            return {"key": key, "status": TIMEOUT, "reason": _first_line(error)}
        except lost.RayTaskError as error:  # outside run_job's own handling: the store, a lock
            return {
                "key": key,
                "status": FAILED,
                "reason": _first_line(error.cause or error),
                "log": str(error).splitlines()[-30:],
            }
        except lost.RayError as error:
            return {"key": key, "status": CRASHED, "reason": _first_line(error)}

    def cancel(self, key: str) -> None:
        for ref, name in self.refs.items():
            if name == key:
                self.ray.cancel(ref, force=True)

    def close(self) -> None:
        for ref in self.refs:
            self.ray.cancel(ref, force=True)
        self.refs.clear()
        if not self.joined:
            self.ray.shutdown()


def _too_much(resources: Resources, have: str) -> str:
    return (
        f"a job asks for {resources.cpus} CPUs, {resources.gpus:g} GPUs and "
        f"{resources.memory_gb:g} GiB, and {have}; change resources.default or resources.<method> "
        "(resources.default.gpus=0 runs on the CPU), or add such a node"
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:500]


def _prepare_environment(local: bool) -> None:
    """Variables that Ray reads at import or start (harness/engine/README.md, section 4)."""
    values = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers use this very environment
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # jobs without GPU see no GPU
        "RAY_worker_niceness": "0",
        "DO_NOT_TRACK": "true",
    }
    if local:
        values["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # listen on loopback only
    for name, value in values.items():
        os.environ.setdefault(name, value)


@dataclass
class _Running:
    job: Job
    attempt: int
    progress: dict | None = None


@dataclass
class Summary:
    """How the jobs of a launch ended: status -> how many, and the failures' records."""

    counts: Counter = field(default_factory=Counter)
    failures: list[dict] = field(default_factory=list)


Listener = Callable[
    [str, Job, dict], None
]  # event ("done", "failed", "retry", "waiting"), job, details


class Driver:
    """Runs the pending jobs of a plan; a job starts when all it needs is done."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Executor,
        schedule: Schedule,
        listen: Listener = lambda event, job, details: None,
    ):
        self.plan, self.store, self.executor = plan, store, executor
        self.schedule, self.listen = schedule, listen
        self.waiting = {job.key: job for job in plan.pending(store)}
        self.running: dict[str, _Running] = {}
        self.attempts: Counter = Counter()
        self.dependants = defaultdict(set)
        for job in plan.jobs.values():
            for need in job.needs:
                self.dependants[need].add(job.key)
        self.summary = Summary()
        self.checked_at = self.watched_at = time.monotonic()

    def run(self, tick: Callable[[dict[str, _Running]], None] = lambda running: None) -> Summary:
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
            self.running[key] = _Running(job, self.attempts[key])
            (self.store.work(key) / "progress.json").unlink(missing_ok=True)
            self.executor.submit(describe(job), str(self.store.path), self.attempts[key])

    def _handle(self, outcome: dict) -> None:
        key, status = outcome["key"], outcome["status"]
        ended = self.running.pop(key)
        job = ended.job
        if status == DONE or self.store.done(key):  # another launch may have finished it meanwhile
            self.summary.counts[DONE] += 1
            self.listen(DONE, job, self.store.result(key))
        elif status == CRASHED and ended.attempt <= self.schedule.retries:
            self.waiting[key] = job
            self.listen("retry", job, outcome)
        elif status == OUT_OF_MEMORY and ended.attempt == 1 and (larger := self._larger(job)):
            self.waiting[key] = larger
            self.listen("retry", larger, outcome)
        else:
            self._fail(job, FAILED if status == CRASHED else status, outcome, ended.attempt)

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

    def _fail(self, job: Job, status: str, outcome: dict, attempt: int) -> None:
        record = {
            "schema": 1,
            "key": job.key,
            "kind": job.spec["kind"],
            "title": job.title,
            "status": status,
            "reason": outcome.get("reason", ""),
            "log": outcome.get("log", []),
            "attempt": attempt,
            "spec": job.spec,
            "labels": job.place.get("labels", {}),
            "ended": time.time(),
        }
        self.store.fail(job.key, record)
        self.summary.counts[status] += 1
        self.summary.failures.append(record)
        self.listen(FAILED, job, record)
        for key in self.dependants[job.key]:
            if dependant := self.waiting.pop(key, None):
                reason = f"needs {job.title!r}, which ended as {status}: {record['reason']}"
                self._fail(dependant, SKIPPED, {"reason": reason}, 0)

    def _watch(self) -> None:
        """Read the progress of running jobs, end those over their time, notice lost resources."""
        now = time.time()
        for key, running in self.running.items():
            running.progress = read_progress(self.store, key)
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
                self.listen("waiting", job, {"reason": str(error)})


def read_progress(store: Store, key: str) -> dict | None:
    """What a running job last said of itself, or None if it has not started."""
    try:
        return json.loads((store.path / "work" / key / "progress.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """SIGTERM ends a launch as Ctrl-C does. Enter after ray.init, which sets a handler of its own.

    Ray's calls, when they end in the moment of a signal, may drop the KeyboardInterrupt. So it is
    raised again at the next call of what this yields, and at the end.
    """
    asked = False

    def interrupt(*_: Any) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    previous = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield check
        check()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
