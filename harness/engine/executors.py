"""Where jobs run: in this process, or as tasks of Ray.

Ray only starts processes and places them on CPUs and GPUs (harness/engine/README.md, section 5).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from tenacity import RetryCallState, Retrying, stop_after_attempt

from harness.engine.cluster import reach
from harness.engine.code import bring, lay_token, lift_token, signature
from harness.engine.job import run_job
from harness.engine.outcomes import REFUSED, Outcome
from harness.planning.jobs import Job, Resources
from harness.store import FAILED, OUT_OF_MEMORY, TIMEOUT
from methods.errors import UserError

CRASHED = "crashed"  # the worker process or its node went away: worth another attempt
GIB = 2**30


class InfeasibleError(UserError):
    """No node could ever run a job, or none is left; the message names what is missing."""


Task = Callable[[dict[str, Any], str, int], Outcome]  # (description, store path, attempt)


class Executor(Protocol):
    """Where jobs run."""

    @property
    def slots(self) -> int: ...
    def check(self, resources: Resources) -> None: ...
    def submit(self, job: Job, store_path: str, attempt: int) -> None: ...
    def poll(self, timeout: float) -> list[Outcome]: ...
    def exclude(self, refused: Outcome) -> None: ...
    def cancel(self, key: str) -> None: ...
    def close(self) -> None: ...


class InProcess:
    """Jobs one after another in this process: for debugging and tests."""

    slots = 1

    def __init__(self, task: Task = run_job):
        self.task = task
        self.queue: list[tuple[Job, str, int]] = []

    def check(self, resources: Resources) -> None:
        if resources.gpus > 0 and not torch.cuda.is_available():
            raise InfeasibleError(_too_much(resources, "this machine has no GPU"))

    def submit(self, job: Job, store_path: str, attempt: int) -> None:
        self.queue.append((job, store_path, attempt))

    def poll(self, timeout: float) -> list[Outcome]:
        job, store_path, attempt = self.queue.pop(0)
        return [self.task(job.describe(), store_path, attempt)]

    def exclude(self, refused: Outcome) -> None:
        """A job that this process refuses runs nowhere."""
        raise InfeasibleError(refused.reason)

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
        excluded: Iterable[str] = (),
    ):
        """joined: use the Ray that this process is connected to; it runs on at the end.

        excluded: ids of nodes that get no jobs.
        """
        if not joined:
            _prepare_environment(local=address is None)
            address = address and reach(address)
        import ray

        self.ray, self.joined = ray, joined
        if not joined:
            self._start(address, cpus, gpus)
        self.isolation = isolation
        self.excluded = set(excluded)
        self.tokens: dict[str, str] = {}  # store path -> its token
        self.refs: dict[Any, str] = {}
        # a worker kept for the next job saves seconds of imports; a fresh process a job gives
        # clean memory figures and frees the GPU in between
        carried = _carried(task)
        self.shared = ray.remote(max_calls=0, max_retries=0)(carried)
        self.single = ray.remote(max_calls=1, max_retries=0)(carried)

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
        assert state.outcome is not None  # an attempt came before
        error = state.outcome.exception()
        print(f"ray_start attempt={state.attempt_number} failed={str(error).splitlines()[0]!r}")
        self.ray.shutdown()

    @property
    def nodes(self) -> list[dict[str, float]]:
        """What each node offers, of those that get jobs."""
        return [n["Resources"] for n in self._alive() if n["NodeID"] not in self.excluded]

    def _alive(self) -> list[dict[str, Any]]:
        return [n for n in self.ray.nodes() if n["Alive"]]

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

    def submit(self, job: Job, store_path: str, attempt: int) -> None:
        r = job.resources
        alone = self.isolation == "process" or (self.isolation == "auto" and r.gpus > 0)
        task = (self.single if alone else self.shared).options(
            num_cpus=r.cpus,
            num_gpus=r.gpus,
            memory=int(r.memory_gb * GIB),
            name=job.title,
            scheduling_strategy="DEFAULT",  # not inside a sweep's trial
            label_selector=self.selector,
        )
        if store_path not in self.tokens:
            self.tokens[store_path] = lay_token(store_path)
        signed = job.describe() | signature(self.tokens[store_path])
        self.refs[task.remote(signed, store_path, attempt)] = job.key

    @property
    def selector(self) -> dict[str, str] | None:
        """What keeps tasks off the excluded nodes."""
        if not self.excluded:
            return None
        return {"ray.io/node-id": f"!in({', '.join(sorted(self.excluded))})"}

    def exclude(self, refused: Outcome) -> None:
        """No more jobs for the node that refused one. Raises InfeasibleError if none is left."""
        self.excluded.add(refused.node)
        if not self.nodes:
            raise InfeasibleError(f"no node is left that can run jobs: {refused.reason}")

    def poll(self, timeout: float) -> list[Outcome]:
        ready, others = self.ray.wait(list(self.refs), num_returns=1, timeout=timeout)
        if ready and others:
            ready += self.ray.wait(others, num_returns=len(others), timeout=0)[0]
        return [self._outcome(ref, self.refs.pop(ref)) for ref in ready]

    def _outcome(self, ref: Any, key: str) -> Outcome:
        from ray import exceptions as lost

        try:
            node, found = self.ray.get(ref)
            return Outcome(key, REFUSED, found, node=node) if isinstance(found, str) else found
        except lost.OutOfMemoryError as error:
            return Outcome(key, OUT_OF_MEMORY, _first_line(error))
        except lost.TaskCancelledError as error:
            return Outcome(key, TIMEOUT, _first_line(error))
        except lost.RayTaskError as error:  # outside run_job's own handling: the store, a lock
            trace = tuple(str(error).splitlines()[-30:])
            return Outcome(key, FAILED, _first_line(error.cause or error), trace)
        except lost.RayError as error:
            return Outcome(key, CRASHED, _first_line(error))

    def cancel(self, key: str) -> None:
        for ref, name in self.refs.items():
            if name == key:
                self.ray.cancel(ref, force=True)

    def close(self) -> None:
        for ref in self.refs:
            self.ray.cancel(ref, force=True)
        self.refs.clear()
        for store_path, token in self.tokens.items():
            lift_token(store_path, token)
        self.tokens.clear()
        if not self.joined:
            self.ray.shutdown()


def _carried(task: Task) -> Callable[..., tuple[str, Outcome | str]]:
    """`task` as it travels to workers; -> the node it came to, and its outcome or a refusal.

    By value, as what it calls, so that a worker with other code can refuse.
    """
    find, named = bring(task), f"{task.__module__}.{task.__qualname__}"

    def carry(description: Any, store_path: str, attempt: int) -> tuple[str, Any]:
        import platform

        import ray

        node = ray.get_runtime_context().get_node_id()
        try:
            found = find()
            from harness.engine.code import refusal
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            return node, (
                f"{platform.node()} cannot import {named} ({why}): install the driver's Relief "
                "on every node"
            )
        return node, refusal(description, store_path) or found(description, store_path, attempt)

    return carry


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
