"""Run one job: make a dataset, prepare a view, fit a shared stage, or fit and evaluate a cell.

No Ray here: `run_job` is what a worker process calls, what tests call in-process, and what
`python -m harness.engine.job JOB.json STORE` runs by hand on a machine without the engine.
"""

from __future__ import annotations

import collections
import json
import logging
import os
import platform
import random
import sys
import time
import traceback
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from harness.engine import numerics
from harness.engine.allocation import bound, breaks_cuda, ran_out, remedy
from harness.engine.code import admit_plugins, refusal
from harness.engine.environment import environment
from harness.engine.heartbeat import COMPUTING, Heartbeat
from harness.engine.kept import SCRATCH
from harness.engine.measure import Memory, larger, load_average
from harness.engine.outcomes import BROKEN, REFUSED, Outcome, one_line
from harness.engine.runners import RUNNERS, Task
from harness.metrics.outside import join as join_metrics
from harness.planning.jobs import Job
from harness.store import (
    DAMAGED,
    DONE,
    FAILED,
    OUT_OF_MEMORY,
    DamagedError,
    Store,
    write_json,
)
from harness.store.curve import ASIDE, Curve
from methods import plugins
from methods.contract import Progress, seed_for

PROGRESS_EVERY_S = 0.5
LOG_LINES = 30  # of a job's own; the traceback of one that fails is kept whole

broken = ""  # why this process must compute nothing more; it is never used again


def run_job(description: dict[str, Any], store_path: str, attempt: int = 1) -> Outcome:
    """Compute a job unless its result is there.

    description: as `Job.describe` makes it, and the driver's `signature` where it has one. Whoever
    holds the job's lock computes; others wait and find the result. Exceptions of the job become an
    outcome.
    """
    wanted = description["place"].get("plugins", {})
    if why := refusal(description, store_path) or admit_plugins(wanted, store_path):
        return Outcome(description["key"], REFUSED, why)
    if broken:
        return Outcome(description["key"], BROKEN, broken)
    join_metrics(tell=False)  # the driver has told
    job, store = Job.of(description), Store(store_path)
    log: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
    beat = Heartbeat(store, job.key, {"title": job.title, **asdict(job.resources)})
    with _collected(log), beat, store.lock(job.key, waits=beat.wait):
        beat.state(COMPUTING)
        if store.done(job.key):
            return Outcome(job.key, DONE)
        before = _set_aside(store, job.key)
        _settle(job)
        try:
            store.publish(job.key, _computed(job, store, attempt, log), SCRATCH)
            return Outcome(job.key, DONE, changed=_changed(store, job.key, before))
        except DamagedError as error:  # of a job that this one builds on
            with store.lock(error.key):
                if store.damage(error.key, contents=True):
                    store.set_aside(error.key, error.why)
            return Outcome(job.key, DAMAGED, error.why, tuple(log))
        except (Exception, SystemExit) as error:  # any failure is a result; the others go on
            plugins.pass_exit(error)
            lines = (*log, *traceback.format_exc().splitlines())
            return _failed(job, error, lines)


def _failed(job: Job, error: BaseException, lines: tuple[str, ...]) -> Outcome:
    """The outcome of a job that raised; a process whose CUDA is lost computes nothing more."""
    global broken
    memory, reason = ran_out(error), one_line(error)
    if breaks_cuda(error):
        broken = f"process {os.getpid()} of {platform.node()} had {reason}"
    if not memory:
        return Outcome(job.key, FAILED, reason, lines)
    reason = f"{reason} [{remedy(memory, job, error)}]"
    return Outcome(job.key, OUT_OF_MEMORY, reason, lines, of_card=memory == "card")


def _set_aside(store: Store, key: str) -> dict[str, tuple[int, str]]:
    """Clear the place of a job that is there but not sound; -> the files it once had, if known."""
    if (why := store.damage(key)) is not None:
        return store.files_aside(store.set_aside(key, why))
    return store.files_aside(store.last_aside(key))  # by a job that found it damaged, or a check


def _changed(store: Store, key: str, before: dict[str, tuple[int, str]]) -> bool:
    """Whether a job that was done before has other bytes now; what was built on them goes aside."""
    after = store.finished(key).files
    for name in ASIDE:
        before.pop(name, None), after.pop(name, None)
    if not before or before == after:
        return False
    for other in store.built_on(key):
        store.set_aside(other, f"it was built on {key}, whose files have other bytes now")
    return True


def _computed(job: Job, store: Store, attempt: int, log: collections.deque[str]) -> dict[str, Any]:
    """What the job's record says; its files are in the work folder."""
    started = time.time()
    progress = ProgressFile(store, job.key, attempt)
    progress(Progress("starting", 0, 1))
    device = torch.device("cuda" if job.resources.gpus > 0 else "cpu")
    if device.type == "cuda":
        bound(job.resources.gpus)
    memory = Memory(device)
    result = RUNNERS[job.about.kind](Task(job, store, device, progress, memory))
    before = result.pop("before", {})  # the part of an earlier attempt, whose fit was kept
    result["timings"]["total_s"] = time.time() - started + before.get("fit_s", 0.0)
    result["timings"]["load_average"] = load_average()
    result |= {
        "key": job.key,
        "kind": job.about.kind,
        "title": job.title,
        "status": DONE,
        "spec": job.spec,
        "memory": larger(memory.peaks(), before.get("memory", {})),
        "environment": environment(device)
        | {"cpus": job.resources.cpus, "gpus": job.resources.gpus},
        "attempt": attempt,
        "started": started,
        "ended": time.time(),
        "log": list(log),
    }
    progress.close()
    return result


@contextmanager
def _collected(log: collections.deque[str]) -> Generator[None]:
    """Keep the job's log lines and warnings, for its record."""
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: log.append(f"{record.levelname} {record.getMessage()}")
    root = logging.getLogger()
    root.addHandler(handler)
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.removeHandler(handler)


def _settle(job: Job) -> None:
    """Put the process in the same state whatever ran in it before.

    torch reads OMP_NUM_THREADS only at import, so a reused worker would keep the thread count
    of its first job; and results must not depend on how many threads sum them.
    """
    torch.set_num_threads(job.resources.cpus)
    cv2.setNumThreads(0)
    numerics.settle(job.spec.get("numerics", {}))
    seed = seed_for("job", job.spec.get("category"), job.about.seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class ProgressFile:
    """A callback that keeps work/<key>/progress.json current, for the display and `status`.

    It keeps the losses, too.
    """

    def __init__(self, store: Store, key: str, attempt: int):
        self.path, self.curve = store.progress_file(key), Curve(store.work(key))
        self.attempt, self.started, self.written = attempt, time.time(), 0.0

    def __call__(self, progress: Progress) -> None:
        self.curve.add(progress)
        now = time.monotonic()
        if now - self.written < PROGRESS_EVERY_S and progress.step < progress.total:
            return
        self.written = now
        about = {"started": self.started, "attempt": self.attempt, "pid": os.getpid()}
        write_json(self.path, about | vars(progress))

    def close(self) -> None:
        """At the end of a job: its losses stay, its progress goes."""
        self.curve.write()
        self.path.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """python -m harness.engine.job JOB.json STORE: run one described job here, without Ray."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 2:
        print("usage: python -m harness.engine.job JOB.json STORE", file=sys.stderr)
        return 2
    outcome = run_job(json.loads(Path(arguments[0]).read_text()), arguments[1])
    print(json.dumps(asdict(outcome)))
    return 0 if outcome.status == DONE else 1


if __name__ == "__main__":
    sys.exit(main())
