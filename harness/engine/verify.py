"""Compute finished cells again, in a store beside, and compare the bits.

    STORE/verify/              that store, with links to the inputs; gone at the end

A key is to stand for one result. On one kind of machine with one number of threads it does, and
that is an error here if it does not; other threads sum in another order
(harness/engine/README.md, section 8).
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from filelock import Timeout

from harness.engine.job import run_job
from harness.planning.expand import again
from harness.planning.jobs import Job, Place, Protocol, Resources
from harness.store import DONE, Record, Store
from harness.store.curve import ASIDE
from harness.store.verified import Check, Machine, compared, keep
from methods.errors import UserError

SEED = 0
DEEP = ("view", "stage")  # what --deep computes again besides


@dataclass(frozen=True)
class Found:
    """What came of one job: a cell's check, or whether another job's files are the same.

    reason: why it could not be computed again
    """

    title: str
    kind: str
    check: Check | None = None
    identical: bool | None = None
    reason: str = ""

    @property
    def wrong(self) -> bool:
        """Whether a machine of the same kind computed other bits."""
        if self.check is not None:
            return not self.check.identical and self.check.alike
        return self.identical is False


def sample(keys: Sequence[str], count: int | None, seed: int = SEED) -> list[str]:
    """So many of the keys, drawn by seed, in their order; all where None or there are fewer."""
    if count is None or count >= len(keys):
        return list(keys)
    drawn = np.random.default_rng(seed).permutation(len(keys))[:count]
    return [keys[i] for i in sorted(drawn)]


def verify(
    store: Store,
    launch: Mapping[str, Any],
    keys: Sequence[str],
    cpus: int | None = None,
    deep: bool = False,
    listen: Callable[[Found], None] = lambda found: None,
) -> list[Found]:
    """Compute these finished cells of a launch again and keep what came of it.

    cpus: threads of each; None: as many as the result was computed with. deep: their views and
    stages again, too, instead of taking these from the store. listen: told of each as it ends.
    """
    planned, known = _planned(store, launch), set[str]()
    found = []
    with _beside(store) as scratch:
        for key in keys:
            for one in _again(store, scratch, key, launch, planned, cpus, deep, known):
                listen(one)
                found.append(one)
    return found


def _planned(store: Store, launch: Mapping[str, Any]) -> dict[str, Job]:
    """The launch's jobs as its configuration makes them now; empty where that cannot be had.

    They know where data and weights are, which no record says.
    """
    try:
        return again(launch, store.filed_as).jobs
    except (KeyError, TypeError, ValueError, OSError):
        return {}


@contextmanager
def _beside(store: Store) -> Generator[Store]:
    """An empty store on the same disk, for as long as it is used. Raises UserError if another
    process has it.
    """
    path = store.path / "verify"
    try:
        with store.lock("verify", timeout=0):
            shutil.rmtree(path, ignore_errors=True)  # of one that was killed
            (path / "jobs").mkdir(parents=True)
            try:
                yield Store(path)
            finally:
                shutil.rmtree(path, ignore_errors=True)
    except Timeout:
        raise UserError(
            f"another `relief verify` is at work in {store.path}: wait for it"
        ) from None


def _again(
    store: Store,
    scratch: Store,
    key: str,
    launch: Mapping[str, Any],
    planned: Mapping[str, Job],
    cpus: int | None,
    deep: bool,
    known: set[str],
) -> Iterator[Found]:
    """The checks of a cell, after those of its inputs where `deep`. known: jobs that were done."""
    try:
        record = store.verified(key)
        if not compared(record):
            raise UserError("its record is of an earlier version and holds no checksums")
        for need in record.spec.needs.keys:
            yield from _input(store, scratch, need, planned, cpus, deep, known)
        job = _job(record, launch, planned, cpus)
    except (OSError, ValueError) as error:  # damaged, or not to be made from the configuration
        yield Found(key, "cell", reason=str(error))
        return
    outcome = run_job(job.describe(), str(scratch.path))
    if outcome.status != DONE:
        yield Found(record.title, "cell", reason=f"{outcome.status}: {outcome.reason}")
        return
    check = compare(record, scratch.finished(key))
    keep(record, check)
    shutil.rmtree(scratch.folder(key))
    yield Found(record.title, "cell", check)


def _input(
    store: Store,
    scratch: Store,
    key: str,
    planned: Mapping[str, Job],
    cpus: int | None,
    deep: bool,
    known: set[str],
) -> Iterator[Found]:
    """Make a job that cells build on be in the store beside: a link, or computed again."""
    if key in known:
        return
    known.add(key)
    record = store.verified(key)
    if deep and record.kind in DEEP:
        needs = [*record.spec.needs.keys, *filter(None, [record.twin])]
        for need in needs:
            yield from _input(store, scratch, need, planned, cpus, deep, known)
        job = planned.get(key)
        if job is None:
            reason = "taken from the store: the launch's configuration does not lead to it any more"
            yield Found(record.title, record.kind, reason=reason)
        else:
            outcome = run_job(_with_cpus(job, record, cpus).describe(), str(scratch.path))
            if outcome.status == DONE:
                again = scratch.finished(key)
                same = _files(record) == _files(again)
                alike = Machine.of(record.environment).kind == Machine.of(again.environment).kind
                why = "" if same else "other bytes"
                yield Found(
                    record.title,
                    record.kind,
                    identical=True if same else (False if alike else None),
                    reason=why if same or alike else f"{why}, by another kind of machine",
                )
                return
            reason = f"taken from the store: {outcome.status}: {outcome.reason}"
            yield Found(record.title, record.kind, reason=reason)
    if not scratch.folder(key).exists():
        scratch.folder(key).symlink_to(store.folder(key), target_is_directory=True)


def _files(record: Record) -> dict[str, tuple[int, str]]:
    return {name: known for name, known in record.files.items() if name not in ASIDE}


def _job(
    record: Record, launch: Mapping[str, Any], planned: Mapping[str, Job], cpus: int | None
) -> Job:
    """The cell's job, without timing. ValueError where its inputs are not known any more."""
    job = planned.get(record.key)
    if job is None:
        if inputs := record.spec.values.get("inputs"):
            raise UserError(
                f"where {', '.join(inputs)} came from is not known: the launch's configuration "
                "does not lead to this cell any more"
            )
        config = launch.get("config") or {}
        names = {f: config["protocol"][f] for f in ("batch", "keep_maps") if "protocol" in config}
        place = Place(protocol=Protocol(**names))
        job = Job(dict(record.spec.values), record.title, place)
    protocol = replace(job.place.protocol, latency_samples=0, keep_models=False)
    place = replace(job.place, protocol=protocol, truth="")  # only what the cell itself computes
    return _with_cpus(replace(job, place=place), record, cpus)


def _with_cpus(job: Job, record: Record, cpus: int | None) -> Job:
    """With the threads and GPUs that the result was computed with, or so many threads."""
    environment = record.environment
    gpus = environment.get("gpus") if environment.get("gpus") is not None else job.resources.gpus
    threads = cpus or environment.get("threads") or job.resources.cpus
    resources = Resources(threads, gpus, job.resources.memory_gb, job.resources.hours)
    return replace(job, resources=resources)


def compare(before: Record, again: Record) -> Check:
    """A cell's result and what came of computing it again."""
    maps, pixels = _maps_apart(before, again)
    metrics = _metrics_apart(before.metrics, again.metrics)
    same = bool(compared(before)) and compared(before) == compared(again)
    return Check(
        key=before.key,
        identical=same and metrics == 0,
        when=time.time(),
        host=socket.gethostname(),
        machine=Machine.of(again.environment),
        before=Machine.of(before.environment),
        files=compared(before),
        maps=maps,
        pixels=pixels,
        metrics=metrics,
    )


def _maps_apart(before: Record, again: Record) -> tuple[float | None, float | None]:
    """Largest difference as a share of the range of the first; share of pixels that differ."""
    a, b = before.maps(), again.maps()
    if a is None or b is None or a.ids != b.ids or a.values.shape != b.values.shape:
        return None, None
    largest, differ, low, high = 0.0, 0, np.inf, -np.inf
    for x, y in zip(a.values, b.values):
        largest = max(largest, float(np.abs(x.astype(float) - y).max()))
        differ += int((x != y).sum())
        low, high = min(low, float(x.min())), max(high, float(x.max()))
    span = high - low
    return (largest / span if span > 0 else float(largest > 0)), differ / max(1, a.values.size)


def _metrics_apart(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> float | None:
    """None where one has a metric that the other lacks."""
    if {k for k, v in a.items() if v is None} != {k for k, v in b.items() if v is None}:
        return None
    if set(a) != set(b):
        return None
    known = [(v, b[k]) for k, v in a.items() if v is not None]
    return max((abs(x - y) for x, y in known if x is not None and y is not None), default=0.0)
