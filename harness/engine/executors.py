"""Where jobs run: what the driver asks of it, and the executor of this process.

The other one is harness/engine/on_ray.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from harness.engine.job import run_job
from harness.engine.outcomes import BROKEN, Outcome
from harness.planning.jobs import Job, Resources
from harness.planning.room import Offer, too_much
from harness.store.processes import Process
from methods.errors import UserError

CRASHED = "crashed"  # the worker process or its node went away: worth another attempt


class InfeasibleError(UserError):
    """No node could ever run a job, or none is left; the message names what is missing."""


class LostError(UserError):
    """Ray, or the way to it, is gone; the message says what is known of it."""

    exit_code = 1  # of the command: its jobs did not finish, and the same command goes on


Task = Callable[[dict[str, Any], str, int], Outcome]  # (description, store path, attempt)


class Executor(Protocol):
    """Where jobs run."""

    name: str  # by which its workers' signs of life are known (harness/engine/heartbeat.py)

    @property
    def offers(self) -> list[Offer]:
        """What each node has; the driver submits no more than fits. Raises LostError."""
        ...

    def check(self, resources: Resources) -> None: ...
    def submit(self, job: Job, store_path: str, attempt: int) -> None: ...

    def poll(self, timeout: float) -> list[Outcome]:
        """What ended; waits up to `timeout` s. Raises LostError, as `check` and `submit` do."""
        ...

    def exclude(self, refused: Outcome) -> None:
        """No more jobs for the node that refused one. Raises InfeasibleError if none is left."""
        ...

    def cancel(self, key: str) -> None: ...

    def forget(self, key: str) -> None:
        """Whatever the job does, its outcome is not waited for."""
        ...

    def end(self, process: Process, node: str) -> bool:
        """Kill a worker that is silent; False if it cannot be reached."""
        ...

    def end_stopped(self, after_s: float) -> None:
        """Kill the workers that have stood stopped for so long, at a job or before it."""
        ...

    def avoid(self, key: str, node: str) -> None:
        """Run the job elsewhere, if it fits elsewhere."""
        ...

    def rejoin(self, minutes: float) -> None:
        """After a LostError: start again what is ours, or wait for it and join it again.

        All jobs are forgotten. Raises LostError when it is given up.
        """
        ...

    def close(self) -> None: ...


class InProcess:
    """Jobs one after another in this process: for debugging and tests."""

    name = ""

    def __init__(self, task: Task = run_job):
        self.task = task
        self.queue: list[tuple[Job, str, int]] = []
        self.meanwhile: Callable[[], None] | None = None  # called from a thread of its own, every
        #   half second of a job, for whoever shows what it does

    @property
    def offers(self) -> list[Offer]:
        return [Offer(gpus=self._gpus(), jobs=1)]

    @staticmethod
    def _gpus() -> int:
        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def check(self, resources: Resources) -> None:
        if resources.gpus > (there := self._gpus()):
            raise InfeasibleError(too_much(resources, f"this machine has {there or 'no'} GPU"))

    def submit(self, job: Job, store_path: str, attempt: int) -> None:
        self.queue.append((job, store_path, attempt))

    def poll(self, timeout: float) -> list[Outcome]:
        if not self.queue:
            return []
        job, store_path, attempt = self.queue.pop(0)
        with self._shown(timeout):
            outcome = self.task(job.describe(), store_path, attempt)
        if outcome.status == BROKEN:
            raise LostError(f"{outcome.reason}: it computes nothing more")
        return [outcome]

    @contextmanager
    def _shown(self, every_s: float) -> Generator[None]:
        """Call `meanwhile` while the block runs, and not after it."""
        if (meanwhile := self.meanwhile) is None:
            yield
            return
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(every_s):
                meanwhile()

        thread = threading.Thread(target=look, daemon=True, name="meanwhile")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def exclude(self, refused: Outcome) -> None:
        """A job that this process refuses runs nowhere."""
        raise InfeasibleError(refused.reason)

    def cancel(self, key: str) -> None:
        """A job of this process cannot be stopped from this process."""

    def forget(self, key: str) -> None:
        self.queue = [entry for entry in self.queue if entry[0].key != key]

    def end(self, process: Process, node: str) -> bool:
        return False

    def end_stopped(self, after_s: float) -> None:
        """There is no other process."""

    def avoid(self, key: str, node: str) -> None:
        """There is nowhere else."""

    def rejoin(self, minutes: float) -> None:
        """Only another process can go on after a CUDA error."""
        raise LostError("this process had a CUDA error and computes nothing more")

    def close(self) -> None:
        self.queue.clear()
