"""Jobs as tasks of Ray.

Ray only starts processes and places them on CPUs and GPUs (harness/engine/README.md, section 5).
"""

from __future__ import annotations

import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from harness.engine.cluster import reach
from harness.engine.code import bring, lay_token, lift_token, signature
from harness.engine.executors import CRASHED, InfeasibleError, LostError, Task
from harness.engine.heartbeat import DRIVER, NODE, end_idle
from harness.engine.interrupts import kept_handlers
from harness.engine.job import run_job
from harness.engine.outcomes import BROKEN, REFUSED, Outcome
from harness.engine.own_ray import children, limited, prepare_environment, quiet, said
from harness.planning.jobs import Job, Resources
from harness.planning.room import Offer, too_much
from harness.store import FAILED, OUT_OF_MEMORY, TIMEOUT
from harness.store.processes import Process

GIB = 2**30
ALIVE = 0  # a node's state in Ray's table
ANSWER_S = 10.0  # a Ray that does not answer for so long is lost; its driver dies after 60 s
NODES_EVERY_S = 5.0  # how old what is known of the nodes may be
LOOK_EVERY_S = 1.0  # at the processes of a Ray of our own
LEAVE_S = 20.0  # for the end of a Ray that may be lost
REJOIN_EVERY_S = 5.0
LEAVE_BROKEN_S = 0.2  # until a process that computes nothing more has given its answer
RESTARTS = 3  # of a Ray of our own in one launch


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
            prepare_environment(local=address is None)
            address = address and reach(address)
        import ray
        import ray.exceptions

        self.ray, self.joined = ray, joined
        self.address, self.cpus, self.gpus = address, cpus, gpus
        self.isolation = isolation
        self.excluded = set(excluded)
        self.tokens: dict[str, str] = {}  # store path -> its token
        self.name = uuid.uuid4().hex[:12]
        self.refs: dict[Any, str] = {}
        self.avoided: defaultdict[str, set[str]] = defaultdict(set)
        self.restarts = 0
        self.servers: dict[str, Process] = {}  # of a Ray of our own
        self.still: dict[Process, float] = {}  # its stopped workers, since when
        self.known: tuple[float, list[dict[str, Any]]] = (0.0, [])  # (when, the living nodes)
        self.looked_at = 0.0
        if not joined:
            self._start()
        # a worker kept for the next job saves seconds of imports; a fresh process a job gives
        # clean memory figures and frees the GPU in between
        carried = _carried(task, self.name)
        self.shared = ray.remote(max_calls=0, max_retries=0)(carried)
        self.single = ray.remote(max_calls=1, max_retries=0)(carried)

    def _start(self) -> None:
        quiet(self.ray)
        options: dict[str, Any] = {
            "address": self.address or "local",
            "log_to_driver": False,
            "logging_level": "CRITICAL",
        }
        if self.address is None:
            # only descriptions and outcomes travel through the object store
            options |= {
                "num_cpus": self.cpus,
                "num_gpus": self.gpus,
                "include_dashboard": False,
                "object_store_memory": 100 * 2**20,
            }
        attempts = Retrying(
            stop=stop_after_attempt(3),
            retry=retry_if_exception(_may_pass),
            reraise=True,
            before_sleep=self._again,
        )
        where = "Ray" if self.address is None else f"the Ray cluster at {self.address}"
        with said(f"waiting for {where} to start"), kept_handlers():
            attempts(self.ray.init, **options)
        if self.address is None:
            self.servers = children(os.getpid(), ("raylet", "gcs_server"))

    def _again(self, state: RetryCallState) -> None:
        assert state.outcome is not None  # an attempt came before
        error = state.outcome.exception()
        print(f"ray_start attempt={state.attempt_number} failed={str(error).splitlines()[0]!r}")
        self.ray.shutdown()

    def living(self) -> list[dict[str, Any]]:
        """The living nodes as Ray knows them, at most 5 s old. Raises LostError."""
        now = time.monotonic()
        if dead := [name for name, process in self.servers.items() if process.gone]:
            raise LostError(f"{self._who} is gone: its {' and '.join(dead)} died")
        if not self.known[1] or now - self.known[0] > NODES_EVERY_S:
            nodes = self._asked(lambda: _living_nodes(self.ray))
            if not nodes:
                raise LostError(f"{self._who} has no living node")
            self.known = now, nodes
        return self.known[1]

    def _asked(self, call: Callable[[], Any]) -> Any:
        """A call to Ray that would wait for ever on a lost one."""
        try:
            return limited(call, ANSWER_S)
        except TimeoutError:
            raise LostError(f"{self._who} has not answered for {ANSWER_S:g} s") from None
        except (self.ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
            raise LostError(f"{self._who} is gone ({_first_line(error)})") from error

    @property
    def _who(self) -> str:
        return "the local Ray" if self.address is None else f"the Ray cluster at {self.address}"

    def _look(self) -> None:
        """Raise LostError if Ray is gone. A dead one does not always say so by itself."""
        now = time.monotonic()
        if self.joined or now - self.looked_at < LOOK_EVERY_S:
            return
        self.looked_at = now
        self.living()

    @property
    def nodes(self) -> list[dict[str, float]]:
        """What each node offers, of those that get jobs."""
        return [n["Resources"] for n in self.living() if n["NodeID"] not in self.excluded]

    @property
    def offers(self) -> list[Offer]:
        return [
            Offer(n.get("CPU", 0), int(n.get("GPU", 0)), n.get("memory", 0) / GIB)
            for n in self.nodes
        ]

    @property
    def slots(self) -> int:
        return max(1, int(sum(n.get("CPU", 0) for n in self.nodes)))

    def check(self, resources: Resources) -> None:
        nodes = self.nodes
        if any(_fits(resources, node) for node in nodes):
            return
        sizes = "; ".join(
            f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs, "
            f"{n.get('memory', 0) / GIB:.1f} GiB"
            for n in nodes
        )
        raise InfeasibleError(too_much(resources, f"the nodes have: {sizes}"))

    def submit(self, job: Job, store_path: str, attempt: int) -> None:
        self._look()
        r = job.resources
        alone = self.isolation == "process" or (self.isolation == "auto" and r.gpus > 0)
        task = (self.single if alone else self.shared).options(
            num_cpus=r.cpus,
            num_gpus=r.gpus,
            memory=int(r.memory_gb * GIB),
            name=job.title,
            scheduling_strategy="DEFAULT",  # not inside a sweep's trial
            label_selector=self._selector(job),
        )
        if store_path not in self.tokens:
            self.tokens[store_path] = lay_token(store_path)
        signed = job.describe() | signature(self.tokens[store_path])
        ref = self._asked(lambda: task.remote(signed, store_path, attempt))
        self.refs[ref] = job.key

    @property
    def selector(self) -> dict[str, str] | None:
        """What keeps tasks off the excluded nodes."""
        return _off(self.excluded)

    def _selector(self, job: Job) -> dict[str, str] | None:
        """What keeps a job off those and off the nodes it is to avoid, if it fits on another."""
        bad = self.excluded | self.avoided.get(job.key, set())
        fits = any(
            node["NodeID"] not in bad and _fits(job.resources, node["Resources"])
            for node in (self.living() if bad else ())
        )
        return _off(bad) if fits else self.selector

    def exclude(self, refused: Outcome) -> None:
        self.excluded.add(refused.node)
        if not self.nodes:
            raise InfeasibleError(f"no node is left that can run jobs: {refused.reason}")

    def poll(self, timeout: float) -> list[Outcome]:
        self._look()
        if not self.refs:
            time.sleep(timeout)
            return []
        try:
            ready, others = self.ray.wait(list(self.refs), num_returns=1, timeout=timeout)
            if ready and others:
                ready += self.ray.wait(others, num_returns=len(others), timeout=0)[0]
        except self.ray.exceptions.RaySystemError as error:
            raise LostError(f"{self._who} is gone ({_first_line(error)})") from error
        outcomes = []
        for ref in ready:
            with suppress(self.ray.exceptions.GetTimeoutError):  # its node is lost: asked again
                outcomes.append(self._outcome(ref, self.refs[ref]))
                del self.refs[ref]
        return outcomes

    def _outcome(self, ref: Any, key: str) -> Outcome:
        from ray import exceptions as lost

        try:
            node, found = self.ray.get(ref, timeout=ANSWER_S)
            return Outcome(key, REFUSED, found, node=node) if isinstance(found, str) else found
        except lost.GetTimeoutError:
            raise
        except lost.OutOfMemoryError as error:
            return Outcome(key, OUT_OF_MEMORY, _first_line(error))
        except lost.TaskCancelledError as error:
            return Outcome(key, TIMEOUT, _first_line(error))
        except lost.RayTaskError as error:  # outside run_job's own handling: the store, a lock
            trace = tuple(str(error).splitlines())
            return Outcome(key, FAILED, _first_line(error.cause or error), trace)
        except lost.RayError as error:
            return Outcome(key, CRASHED, _first_line(error))

    def cancel(self, key: str) -> None:
        for ref, name in self.refs.items():
            if name == key:
                self.ray.cancel(ref, force=True)

    def forget(self, key: str) -> None:
        self.refs = {ref: name for ref, name in self.refs.items() if name != key}

    def end(self, process: Process, node: str) -> bool:
        if process.here:
            return process.kill()
        if node not in {n["NodeID"] for n in self.living()}:
            return False
        find = bring(end_idle)
        ending = self.ray.remote(max_retries=0, num_cpus=0)(lambda plain: find()(plain))
        ending.options(label_selector={"ray.io/node-id": node}).remote(process.plain())
        return True

    def end_stopped(self, after_s: float) -> None:
        raylet, now = self.servers.get("raylet"), time.monotonic()
        if raylet is None:
            return
        stopped = [p for p in children(raylet.pid).values() if p.stopped]
        self.still = {process: self.still.get(process, now) for process in stopped}
        for process, since in self.still.items():
            if now - since > after_s:
                process.kill()

    def avoid(self, key: str, node: str) -> None:
        self.avoided[key].add(node)

    def rejoin(self, minutes: float) -> None:
        self.refs.clear()
        self.known = (0.0, [])
        if self.joined:
            raise LostError(f"{self._who} is gone")
        self._leave()
        if self.address is None:
            self.restarts += 1
            if self.restarts > RESTARTS:
                raise LostError(f"the local Ray died {self.restarts} times in this launch")
            self._start()
            return None
        until = time.monotonic() + 60 * minutes
        while True:
            try:
                return self._start()
            except (OSError, RuntimeError, self.ray.exceptions.RayError) as error:
                if time.monotonic() > until:
                    raise LostError(
                        f"{self._who} did not come back in {minutes:g} minutes "
                        f"(schedule.reconnect_minutes): {_first_line(error)}"
                    ) from error
            time.sleep(REJOIN_EVERY_S)

    def close(self) -> None:
        with suppress(TimeoutError, self.ray.exceptions.RayError, RuntimeError):
            limited(lambda: [self.ray.cancel(ref, force=True) for ref in self.refs], ANSWER_S)
        self.refs.clear()
        for store_path, token in self.tokens.items():
            lift_token(store_path, token)
        self.tokens.clear()
        if not self.joined:
            self._leave()

    def _leave(self) -> None:
        with suppress(TimeoutError):
            limited(self.ray.shutdown, LEAVE_S)


def _may_pass(error: BaseException) -> bool:
    """Whether Ray may start if asked again: not where its folders cannot be."""
    folders = (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)
    return not isinstance(error, folders) and "AF_UNIX" not in str(error)


def _living_nodes(ray: Any) -> list[dict[str, Any]]:
    """The living nodes as their head knows them: "NodeID" and "Resources" of each.

    Not by `ray.nodes`, which ends the whole process (SIGABRT) where its question is still open
    when a new head answers at the address.
    """
    client = ray._private.worker.global_worker.gcs_client
    found = client.get_all_node_info(timeout=ANSWER_S - 1)  # before we stop listening
    return [
        {"NodeID": name.hex(), "Resources": dict(node.resources_total)}
        for name, node in found.items()
        if node.state == ALIVE
    ]


def _off(nodes: Iterable[str]) -> dict[str, str] | None:
    """A label selector that keeps tasks off these nodes."""
    return {"ray.io/node-id": f"!in({', '.join(sorted(nodes))})"} if nodes else None


def _fits(resources: Resources, node: Mapping[str, float]) -> bool:
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory_gb * GIB}
    return all(node.get(name, 0) >= value for name, value in wanted.items())


def _carried(task: Task, driver: str) -> Callable[..., tuple[str, Outcome | str]]:
    """`task` as it travels to workers; -> the node it came to, and its outcome or a refusal.

    By value, as what it calls, so that a worker with other code can refuse. It tells its process
    first where it is and for whom it works.
    """
    find, named = bring(task), f"{task.__module__}.{task.__qualname__}"
    names = (NODE, DRIVER)

    def carry(description: Any, store_path: str, attempt: int) -> tuple[str, Any]:
        import os
        import platform
        import threading

        import ray

        node = ray.get_runtime_context().get_node_id()
        os.environ |= dict(zip(names, (node, driver)))
        try:
            found = find()
            from harness.engine.code import refusal
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            return node, (
                f"{platform.node()} cannot import {named} ({why}): install the driver's Relief "
                "on every node"
            )
        if why := refusal(description, store_path):
            return node, why
        outcome = found(description, store_path, attempt)
        if outcome.status == BROKEN:  # then Ray starts another process
            threading.Timer(LEAVE_BROKEN_S, os._exit, [1]).start()
        return node, outcome

    return carry


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:500]
