"""What a launch consists of: jobs, and the cells among them.

A cell is one row of results; the views, stages and synthetic datasets it needs are jobs of their
own, shared by every cell that needs the same. A job's key is the hash of its `spec` alone; where
things are and how they are run (`place`, `resources`) do not enter it.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.planning.config import Config, Resources
from harness.store import Store, canonical, key_of, write_json


@dataclass(frozen=True)
class Job:
    """A piece of work. Equal keys are the same work, on any machine and for any launch."""

    spec: dict  # determines the result; plain JSON
    title: str
    place: dict = field(default_factory=dict)  # paths and manners; never changes the result
    resources: Resources = field(default_factory=Resources)
    after: tuple[str, ...] = ()  # jobs whose work it takes over; their results change nothing

    @property
    def key(self) -> str:
        return key_of(self.spec)

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the jobs that come before it."""
        return (*self.spec.get("needs", {}).values(), *self.after)


@dataclass
class Plan:
    """Jobs in an order in which every job comes after those it needs, and the cells among them."""

    config: Config
    jobs: dict[str, Job]
    cells: list[dict]  # IDENTITY and "key", in the leaderboard's order
    study: dict | None = None  # the published table that the cells stand for

    @property
    def launch_id(self) -> str:
        """The same work under the same name is the same launch, however often it is started."""
        text = ",".join(cell["key"] for cell in self.cells)
        name = self.config.name.replace("/", "_")
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def pending(self, store: Store) -> list[Job]:
        """Jobs still to do: cells without a result and whatever they need that is not there."""
        wanted: set[str] = set()
        for key in reversed(self.jobs):  # a job comes after its needs, so walk backwards
            job = self.jobs[key]
            if (job.spec["kind"] == "cell" or key in wanted) and not store.done(key):
                wanted |= {key, *job.needs}
        return [job for key, job in self.jobs.items() if key in wanted and not store.done(key)]

    def only(self, cell: dict) -> Plan:
        """The part of the plan that one of its cells takes."""
        wanted = {cell["key"]}
        for key in reversed(self.jobs):
            if key in wanted:
                wanted.update(self.jobs[key].needs)
        jobs = {key: job for key, job in self.jobs.items() if key in wanted}
        return Plan(self.config, jobs, [cell])

    def launch(self) -> dict:
        """What the store keeps of this launch; reports and tracking start from it."""
        return {
            "id": self.launch_id,
            "name": self.config.name,
            "demo": self.config.demo,
            "marks": self.config.marks,  # also of results that another launch computed
            "started": time.time(),
            "cells": self.cells,
            "config": self.config.plain(),
        } | ({"study": self.study} if self.study else {})

    def record(self, store: Store) -> dict:
        """Write the launch's description if it is new; returns the one in the store."""
        path = store.path / "launches" / f"{self.launch_id}.json"
        launch = self.launch()
        known = next((old for old in store.launches() if old["id"] == launch["id"]), None)
        if known:
            launch["started"] = known["started"]
        if known != launch:
            write_json(path, launch)
        return launch


def plain(value: Any) -> dict:
    """A settings dataclass as plain JSON values: tuples become lists."""

    def convert(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(k): convert(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return [convert(v) for v in item]
        return item

    return convert(asdict(value))


def estimate(plan: Plan, store: Store) -> dict[str, float | None]:
    """Seconds each pending job may take, from finished jobs alike in this store; None: no idea."""
    seconds = defaultdict(list)
    for result in store.results():
        if result["status"] == "done":
            seconds[_alike(result["spec"])].append(result["timings"]["total_s"])
    means = {alike: sum(values) / len(values) for alike, values in seconds.items()}
    return {job.key: means.get(_alike(job.spec)) for job in plan.pending(store)}


def _alike(spec: dict) -> tuple:
    train = canonical(spec.get("settings", {}).get("train"))
    names = (spec.get(name) for name in ("method", "stage", "setting"))
    return (spec["kind"], *names, train)
