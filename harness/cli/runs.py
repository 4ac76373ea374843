"""The commands about launches: relief run, plan, status."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.launch import (
    DEFAULT_STORE,
    Address,
    Background,
    Data,
    Gpus,
    Serial,
    StorePath,
    Tracking,
    Workers,
    execute,
    exit_with,
    split_arguments,
    tell_left_out,
)
from harness.cli.reports import cleared, conclude
from harness.cli.terminal import console
from harness.store import Store

if TYPE_CHECKING:
    from harness.planning.plan import Plan

What = Annotated[
    Optional[list[str]],
    typer.Argument(
        metavar="[CONFIG] [KEY=VALUE]...",
        help="A YAML file or the name of a shipped one (default demo), then settings to change, "
        "e.g. das3d.train.steps=100 seeds=[0,1]",
    ),
]


def run(
    what: What = None,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
    workers: Workers = None,
    gpus: Gpus = None,
    address: Address = None,
    serial: Serial = False,
    tracking: Tracking = None,
) -> None:
    """Run a benchmark; what is done already is not done again. Ends with the leaderboard."""
    where, plan = planned_of(what, store, data, background)
    engine = dict(workers=workers, gpus=gpus, address=address, serial=serial)
    launch, failures = execute(plan, where, tracking, **engine)
    found = conclude(where, launch, tracking)
    exit_with(failures, cleared(where, found))


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
        Optional[int], typer.Option(min=1, help="With --explain: CPUs in all (default: here).")
    ] = None,
    gpus: Annotated[
        Optional[int], typer.Option(min=0, help="With --explain or --tflops: GPUs in all.")
    ] = None,
    tflops: Annotated[
        Optional[float],
        typer.Option(min=0.001, help="Expected work at a speed that a GPU keeps up, in TFLOP/s."),
    ] = None,
) -> None:
    """Print what `run` would do: jobs, what is done already, and the expected time.

    With --tflops, what the methods compute at that speed: GPU-hours, and jobs beyond their limit.
    """
    from harness.cli.display import duration
    from harness.planning.costs import estimate

    where, planned = planned_of(what, store, data, background)
    if explained:
        from harness.cli.explain import explain

        explain(planned, where, workers, gpus)
        return
    pending = {job.key for job in planned.pending(where)}
    seconds = estimate(planned, where)
    groups: dict[tuple, list] = defaultdict(list)
    for job in planned.jobs.values():
        spec = job.about
        if spec.kind == "cell":
            name = "/".join(filter(None, (spec.method, job.place.labels["variant"])))
            groups["cell", f"{name} {spec.setting}"].append(job)
        else:
            name = {
                "dataset": "synthetic data",
                "view": f"{spec.view.get('name')} view",
                "truth": "ground truth",
                "stage": f"{spec.method} {spec.stage}",
            }[spec.kind]
            groups["shared", name].append(job)
    table = Table(
        "",
        "work",
        "jobs",
        "done",
        "to do",
        "CPUs",
        "GPUs",
        "expected CPU time",
        title=planned.launch_id,
    )
    for (kind, name), jobs in groups.items():
        todo = [job for job in jobs if job.key in pending]
        known = [s for job in todo if (s := seconds[job.key]) is not None]
        cost = (
            "-"
            if not todo
            else duration(sum(known) * len(todo) / len(known))
            if known
            else "unknown"
        )
        done = sum(where.done(job.key) for job in jobs)
        r = jobs[0].resources
        table.add_row(
            kind, name, *map(str, (len(jobs), done, len(todo), r.cpus, f"{r.gpus:g}")), cost
        )
    console.print(table)
    console.print(
        f"{len(planned.cells)} cells of {len(planned.jobs)} jobs, {len(pending)} to do. "
        "Times are means of finished jobs alike in this store."
    )
    if tflops:
        _tell_work(planned, where, tflops, gpus or 1)
    tell_left_out(planned)
    _tell_views(planned, where)


def _tell_views(planned: Plan, store: Store) -> None:
    """What is known of the quality of views that are done, and what `background: auto` took."""
    for key, job in planned.jobs.items():
        if job.about.kind != "view" or not store.done(key) or not (found := store.result(key)):
            continue
        flags = found.summary.get("quality", {}).get("flags", {})
        told = [f"{flag} in {count} samples" for flag, count in flags.items()]
        if chosen := found.summary.get("background"):
            told.insert(0, f"background=auto took {chosen['chosen']}, as {chosen['why']}")
        if told:
            console.print(escape(f"{job.title}: {'; '.join(told)}"), soft_wrap=True)


def _tell_work(planned: Plan, where: Store, tflops: float, gpus: int) -> None:
    from harness.cli.display import duration
    from harness.planning.budget import budget
    from harness.planning.work import Speeds
    from methods.load import Machine

    found = budget(planned, where, Speeds(Machine.gpu(tflops)))
    table = Table("method", "work", "GPU-hours", title=f"at {tflops:g} TFLOP/s, kept up")
    for (method, part), seconds in found.gpu_s.items():
        table.add_row(method, part, f"{seconds / 3600:.3g}")
    for method in dict.fromkeys(method for method, _ in found.gpu_s):
        hours = sum(s for (name, _), s in found.gpu_s.items() if name == method) / 3600
        table.add_row(f"[bold]{method}[/bold]", "all", f"[bold]{hours:.3g}[/bold]")
    console.print(table)
    console.print(
        f"{found.total_s / 3600:.3g} GPU-hours; with {gpus} GPU{'s' * (gpus > 1)} "
        f"{duration(found.wall_s(gpus))} at least, the longest chain {duration(found.longest_s)}."
    )
    for title, hours, limit in found.too_long:
        console.print(
            f"[yellow]{escape(title)}: about {hours:.0f} h, and its limit is {limit:g} h: raise "
            "resources.METHOD.hours, or give it a whole GPU[/yellow]",
            soft_wrap=True,
        )


def planned_of(what: list[str] | None, store: Path, data: str | None, background: str | None):
    from harness.planning import config
    from harness.planning.expand import build

    name, overrides = split_arguments(what or [], "configuration", default="demo")
    loaded = config.load(name, overrides, data, background)
    return Store(store), build(loaded)
