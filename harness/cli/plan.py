"""relief plan: what `run` would do, what is done already, and how long the rest should take."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape

from harness.cli.launch import (
    DEFAULT_STORE,
    Background,
    Data,
    StorePath,
    split_arguments,
    tell_left_out,
)
from harness.cli.runs import Accepted, What, planned_of, planned_study, tell_rows_left_out
from harness.cli.terminal import console, say, show, table
from harness.cli.times import SOURCES, duration
from harness.store import Store
from harness.store.alike import Taken
from methods.errors import UserError
from methods.load import GPU_TFLOPS

if TYPE_CHECKING:  # every command imports this file
    from harness.planning.budget import Budget
    from harness.planning.costs import Durations
    from harness.planning.jobs import Job
    from harness.planning.plan import Plan
    from harness.planning.work import Speeds


def plan(
    what: What = None,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
    explained: Annotated[
        bool,
        typer.Option("--explain", help="Each job: order, shares, expected start and end."),
    ] = False,
    workers: Annotated[
        Optional[int], typer.Option(min=1, help="When it ends on so many CPUs (default: here).")
    ] = None,
    gpus: Annotated[
        Optional[int], typer.Option(min=0, help="When it ends on so many GPUs (default: here).")
    ] = None,
    memory: Annotated[
        Optional[float],
        typer.Option(
            min=0.1,
            help="GiB of each node (default: here; not counted where --workers or --gpus ask about "
            "another machine).",
        ),
    ] = None,
    tflops: Annotated[
        Optional[float],
        typer.Option(min=0.001, help="Expected work at a speed that a GPU keeps up, in TFLOP/s."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    accept_old: Accepted = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Of a study: as `relief study --demo` computes it.")
    ] = False,
) -> None:
    """Print what `run`, or `study` for a study, would do: jobs, what is done, expected time.

    With --tflops, what the methods compute at that speed: GPU-hours, and jobs beyond their limit.
    With --workers, --gpus or --memory, when it should end on such a machine or cluster.
    """
    from harness.cli.changed import tell_changes
    from harness.cli.explain import explain
    from harness.planning.budget import budget
    from harness.planning.work import Speeds
    from methods.load import Machine

    where, planned = _planned(what, store, data, background, accept_old, demo)
    speeds = Speeds(Machine.gpu(tflops)) if tflops else None
    found = Found.of(planned, where, speeds)
    order = None
    if explained or (workers, gpus, memory) != (None, None, None):
        there = workers, gpus, memory
        order = explain(planned, found.pending, found.taken, found.durations, *there)
    work = budget(found.pending, found.durations) if speeds else None
    if as_json:
        plain = found.plain() | ({"schedule": order.plain()} if order else {})
        plain |= {"work": _plain_work(work, tflops, gpus or 1)} if work else {}
        print(json.dumps(plain, indent=1, ensure_ascii=False))
    elif order and explained:
        order.tell()
    else:
        _tell(found, tflops or GPU_TFLOPS)
        if work:
            _tell_work(work, tflops, gpus or 1)
        if order:
            order.sum_up()
        tell_left_out(planned)
        tell_rows_left_out(planned)
        _tell_files(planned)
        tell_changes(found.changes())
        _tell_views(found.views())


def _planned(
    what: list[str] | None,
    store: Path,
    data: str | None,
    background: str | None,
    accept_old: list[str] | None,
    demo: bool,
) -> tuple[Store, Plan]:
    """The plan of a configuration or a study."""
    from harness.planning.study import is_study

    name, overrides = split_arguments(what or [], "configuration", default="demo")
    if is_study(name):
        where = Store(store)
        return where, planned_study(name, overrides, where, data, background, demo, accept_old)
    if demo:
        raise UserError(f"--demo is of studies; the configuration {name} is planned as it is")
    return planned_of(what, store, data, background, accept_old)


@dataclass(frozen=True)
class Found:
    """A plan, and what a store has of it."""

    plan: Plan
    store: Store
    pending: list[Job]
    taken: list[Taken]  # by finished jobs of the store
    durations: Durations

    @classmethod
    def of(cls, plan: Plan, store: Store, speeds: Speeds | None) -> Found:
        from harness.planning.costs import forecast

        pending, taken = plan.pending(store), list(store.taken())
        return cls(plan, store, pending, taken, forecast(plan, taken, speeds))

    def plain(self) -> dict[str, Any]:
        """For --json (harness/cli/README.md, section 4)."""
        from harness.planning.authors import not_given

        todo = {job.key for job in self.pending}
        return {
            "launch": self.plan.launch_id,
            "store": str(self.store.path),
            "cells": len(self.plan.cells),
            "pending": len(todo),
            "jobs": [self._job(job, job.key in todo) for job in self.plan.jobs.values()],
            "left_out": self.plan.left_out,
            "not_given": [file.setting for file in not_given(self.plan)],
            "views": self.views(),
            "code": self.changes(),
        } | ({"study": self.plan.study} if self.plan.study else {})

    def changes(self) -> dict[str, Any]:
        from harness.cli.changed import changes

        todo = {job.key for job in self.pending}
        return changes(self.plan, self.store, lambda job: _group(job) if job.key in todo else None)

    def _job(self, job: Job, pending: bool) -> dict[str, Any]:
        spec, r = job.about, job.resources
        seconds, source = self.durations.sourced(job)
        return {
            "key": job.key,
            "kind": spec.kind,
            "title": job.title,
            "method": spec.method,
            "variant": job.place.labels.get("variant", ""),
            "stage": spec.stage,
            "setting": spec.setting,
            "dataset": job.place.labels.get("dataset", ""),
            "category": spec.category,
            "seed": spec.values.get("seed"),
            "done": self.store.done(job.key),
            "pending": pending,
            "cpus": r.cpus,
            "gpus": r.gpus,
            "memory_gb": r.memory_gb,
            "hours": r.hours,
            "expected_s": seconds,
            "expected_by": source,
        }

    def views(self) -> list[dict[str, Any]]:
        """What is known of the quality of views that are done, and what `background: auto` took."""
        found = []
        for key, job in self.plan.jobs.items():
            if job.about.kind != "view" or not self.store.done(key):
                continue
            if (record := self.store.result(key)) is None:
                continue
            flags = record.summary.get("quality", {}).get("flags", {})
            chosen = record.summary.get("background")
            if flags or chosen:
                about = {"key": key, "title": job.title, "flags": flags}
                found.append(about | {"background": chosen or None})
        return found


def _tell(found: Found, tflops: float) -> None:
    """tflops: of a GPU, by which what was counted has become times"""
    from harness.planning.loads import kept

    groups: dict[str, list[Job]] = defaultdict(list)
    for job in found.plan.jobs.values():
        groups[_group(job)].append(job)
    numbers = ("jobs", "done", "to do", "CPUs", "GPUs", "expected")
    shown = table("work", *numbers, numbers=numbers, title=found.plan.launch_id)
    todo = {job.key for job in found.pending}
    for name, jobs in groups.items():
        left = [job for job in jobs if job.key in todo]
        done = sum(found.store.done(job.key) for job in jobs)
        r = jobs[0].resources
        counts = (str(n) for n in (len(jobs), done, len(left), r.cpus))
        shown.add_row(escape(name), *counts, f"{r.gpus:g}", _expected(found.durations, left))
    show(shown)
    sources = {found.durations.sourced(job)[1] for job in found.pending}
    how = "; ".join(" ".join(filter(None, by)) for name, by in SOURCES.items() if name in sources)
    if "model" in sources and any(job.resources.gpus for job in found.pending):
        how += f", on GPUs of {tflops:g} TFLOP/s (--tflops)"
    say(
        f"{len(found.plan.cells)} cells of {len(found.plan.jobs)} jobs, {len(todo)} to do."
        + (f" Expected is the sum of the jobs' own times: {how}." if how else "")
    )
    if kept() is None:
        console.print("What jobs compute is counted by torch, which is not installed here.")


def _group(job: Job) -> str:
    """The row of the table that a job counts in."""
    spec = job.about
    if spec.kind == "cell":
        name = "/".join(filter(None, (spec.method, job.place.labels.get("variant", ""))))
        return f"{name} {spec.setting}"
    return {
        "dataset": "synthetic data",
        "view": f"{spec.view.get('name')} view",
        "truth": "ground truth",
        "stage": f"{spec.method} {spec.stage}",
    }[spec.kind]


def _expected(durations: Durations, jobs: list[Job]) -> str:
    if not jobs:
        return "-"
    found = [durations.sourced(job) for job in jobs]
    known = [(seconds, source) for seconds, source in found if source != "unknown"]
    least = max((source for _, source in known), key=list(SOURCES).index, default="measured")
    told = f"{SOURCES[least].sign}{duration(sum(seconds for seconds, _ in known))}"
    if len(known) == len(found):
        return told
    return f"{told} + unknown" if known else "unknown"


def _tell_views(views: list[dict[str, Any]]) -> None:
    for view in views:
        told = [f"{flag} in {count} samples" for flag, count in view["flags"].items()]
        if chosen := view["background"]:
            told.insert(0, f"background=auto took {chosen['chosen']}, as {chosen['why']}")
        console.print(escape(f"{view['title']}: {'; '.join(told)}"), soft_wrap=True)


def _tell_files(plan: Plan) -> None:
    """What is trained in place of the authors' files."""
    from harness.planning.authors import not_given, told

    for file in not_given(plan):
        console.print(escape(told(file)), soft_wrap=True)


def _tell_work(found: Budget, tflops: float | None, gpus: int) -> None:
    shown = table(
        "method",
        "work",
        "GPU-hours",
        numbers=("GPU-hours",),
        title=f"at {tflops:g} TFLOP/s, kept up",
    )
    for (method, part), seconds in found.gpu_s.items():
        shown.add_row(method, part, _hours(seconds / 3600))
    for method in dict.fromkeys(method for method, _ in found.gpu_s):
        hours = sum(s for (name, _), s in found.gpu_s.items() if name == method) / 3600
        shown.add_row(f"[bold]{method}[/bold]", "all", f"[bold]{_hours(hours)}[/bold]")
    show(shown)
    console.print(
        f"{_hours(found.total_s / 3600)} GPU-hours; with {gpus} GPU{'s' * (gpus > 1)} "
        f"{duration(found.wall_s(gpus))} at least, the longest chain {duration(found.longest_s)}."
    )
    for title, hours, limit in found.too_long:
        console.print(
            f"[yellow]{escape(title)}: about {hours:.0f} h, and its limit is {limit:g} h: raise "
            "resources.METHOD.hours, or give it a whole GPU[/yellow]",
            soft_wrap=True,
        )


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _plain_work(found: Budget, tflops: float | None, gpus: int) -> dict[str, Any]:
    return {
        "tflops": tflops,
        "gpus": gpus,
        "gpu_hours": [
            {"method": method, "part": part, "hours": seconds / 3600}
            for (method, part), seconds in found.gpu_s.items()
        ],
        "wall_s": found.wall_s(gpus),
        "longest_s": found.longest_s,
        "too_long": [
            {"title": title, "hours": hours, "limit_hours": limit}
            for title, hours, limit in found.too_long
        ],
    }
