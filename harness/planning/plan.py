"""What a launch consists of: jobs, and the cells among them.

A cell is one row of results; the views, stages and synthetic datasets it needs are jobs of their
own, shared by every cell that needs the same. A job's key is the hash of its `spec` alone; where
things are and how they are run (`place`, `resources`) do not enter it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from harness.planning.config import Config
from harness.planning.differences import altered, differences
from harness.planning.jobs import Job
from harness.store import Store


@dataclass
class Plan:
    """Jobs in an order in which every job comes after those it needs, and the cells among them."""

    config: Config
    jobs: dict[str, Job]
    cells: list[dict]  # IDENTITY and "key", in the leaderboard's order
    study: dict | None = None  # the published table that the cells stand for
    asked: frozenset[str] = frozenset()  # jobs that are wanted for themselves, beside the cells
    left_out: dict[str, list[str]] = field(default_factory=dict)  # method -> settings it lacks

    @property
    def code(self) -> dict[str, str]:
        """Modules of ours that are not as declared and compute something of it: file -> meaning."""
        found: dict[str, str] = {}
        for job in self.jobs.values():
            found |= job.about.code
        return found

    @property
    def launch_id(self) -> str:
        """The same work under the same name is the same launch, however often it is started."""
        text = ",".join(cell["key"] for cell in self.cells)
        name = self.config.name.replace("/", "_")
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def pending(self, store: Store) -> list[Job]:
        """Jobs still to do: cells without a result, whatever they need that is not there, and what
        was there and is damaged: reports show views of finished cells, too.
        """
        wanted = set(self.asked)
        done: set[str] = set()
        traces = store.traces()
        for key in reversed(self.jobs):  # a job comes after its needs, so walk backwards
            job = self.jobs[key]
            if key in traces and store.done(key):
                done.add(key)
            elif job.about.kind == "cell" or key in wanted or key in traces:
                wanted.add(key)
                wanted.update(job.needs)
        store.index.flush()
        return [job for key, job in self.jobs.items() if key in wanted and key not in done]

    def only(self, *cells: dict) -> Plan:
        """The part of the plan that some of its cells take."""
        return Plan(self.config, self.with_needs(cell["key"] for cell in cells), list(cells))

    def with_needs(self, keys: Iterable[str]) -> dict[str, Job]:
        """These jobs and all that they need, each after its needs."""
        jobs: dict[str, Job] = {}
        ahead = list(keys)
        while ahead:  # a job goes in when all that it needs has
            key = ahead[-1]
            missing = [need for need in self.jobs[key].needs if need not in jobs]
            ahead += missing
            if not missing:
                jobs[key] = self.jobs[ahead.pop()]
        return jobs

    def launch(self) -> dict:
        """What the store keeps of this launch; reports and tracking start from it."""
        return {
            "id": self.launch_id,
            "name": self.config.name,
            "demo": self.config.demo,
            "marks": self.config.marks,  # also of results that another launch computed
            "started": time.time(),
            "cells": self.cells,
            "jobs": list(self.jobs),  # so that `relief store` knows what the launch needs
            "config": self.config.plain(),
            "parameters": differences(self.config),
            **({"code": self.code} if self.code else {}),
            # methods with other settings than the published ones
            "altered": altered(self.config, {cell["method"] for cell in self.cells}),
        } | ({"study": self.study} if self.study else {})

    def record(self, store: Store) -> dict:
        """Write the launch's description if it is new; returns the one in the store."""
        launch = self.launch()
        if known := store.recorded(launch["id"]):
            launch["started"] = known["started"]
        if known != launch:
            store.write_launch(launch)
        names = store.filed_as
        replace(names, data={**names.data, **self.config.names.data}).write(store.path)
        return launch
