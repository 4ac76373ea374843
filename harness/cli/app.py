"""The command line: relief run, plan, status, report, compare, export, sync, ui, data, weights."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cli import data as data_commands
from harness.cli import studies as study_commands
from harness.cli import weights as weight_commands
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
)
from harness.cli.reports import compare, conclude, export, report
from harness.cli.sweep import sweep
from harness.store import DONE, Store

app = typer.Typer(
    name="relief",
    help="Benchmark RGB-D industrial anomaly detectors: run, compare, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_commands.app)
app.add_typer(study_commands.app)
app.add_typer(weight_commands.app)
for command in (report, compare, export, sweep, study_commands.study):
    app.command()(command)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

EXIT_USAGE = 2

What = Annotated[
    Optional[list[str]],
    typer.Argument(
        metavar="[CONFIG] [KEY=VALUE]...",
        help="A YAML file or the name of a shipped one (default demo), then settings to change, "
        "e.g. das3d.train.steps=100 seeds=[0,1]",
    ),
]


@app.command()
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
    where, plan = _planned(what, store, data, background)
    engine = dict(workers=workers, gpus=gpus, address=address, serial=serial)
    launch, failures = execute(plan, where, tracking, **engine)
    conclude(where, launch, tracking)
    exit_with(failures)


@app.command()
def plan(
    what: What = None,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
) -> None:
    """Print what `run` would do: jobs, what is done already, and the expected time."""
    from harness.cli.display import duration
    from harness.planning.plan import estimate

    where, planned = _planned(what, store, data, background)
    pending = {job.key for job in planned.pending(where)}
    seconds = estimate(planned, where)
    groups: dict[tuple, list] = defaultdict(list)
    for job in planned.jobs.values():
        spec = job.spec
        if spec["kind"] == "cell":
            name = "/".join(filter(None, (spec["method"], job.place["labels"]["variant"])))
            groups["cell", f"{name} {spec['setting']}"].append(job)
        else:
            name = {
                "dataset": "synthetic data",
                "view": f"{spec.get('view', {}).get('name')} view",
                "stage": f"{spec.get('method')} {spec.get('stage')}",
            }[spec["kind"]]
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
        known = [seconds[job.key] for job in todo if seconds[job.key] is not None]
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


@app.command()
def status(
    what: What = None,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
) -> None:
    """Print how far each launch in the store is; with a CONFIG, its cells one by one."""
    from harness.cli.display import describe_progress, when
    from harness.engine.driver import read_progress

    if not what and data is None:
        where = Store(store)
        table = Table("launch", "started", "cells", "done", "failed", "running", "pending")
        for launch in _launches(where):
            states = Counter(_state(where, cell["key"]) for cell in launch["cells"])
            failed = sum(n for s, n in states.items() if s not in (DONE, "running", "pending"))
            table.add_row(
                launch["id"],
                when(launch["started"]),
                str(len(launch["cells"])),
                *map(str, (states[DONE], failed, states["running"], states["pending"])),
            )
        console.print(table)
        return
    where, planned = _planned(what, store, data, background)
    table = Table("job", "state", "", title=planned.launch_id)
    for key, job in planned.jobs.items():
        state = _state(where, key)
        progress, result = read_progress(where, key), where.result(key) or {}
        note = (
            describe_progress(progress)
            if state == "running" and progress
            else result.get("reason", "")
        )
        table.add_row(escape(job.title), state, escape(note))
    console.print(table)


@app.command()
def sync(
    launch: Annotated[Optional[str], typer.Argument(help="Launch id (default: all).")] = None,
    store: StorePath = DEFAULT_STORE,
    tracking: Tracking = None,
) -> None:
    """Bring MLflow up to date with the store, e.g. after its server was down."""
    from harness.tracking import sync as mlflow_view
    from reports.numbers.stores import launch_of

    where = Store(store)
    for found in _launches(where) if launch is None else [launch_of(where, launch)]:
        folder = where.path / "reports" / found["id"]
        done = mlflow_view.sync(where, found, tracking, folder if folder.is_dir() else None)
        console.print(f"{found['id']}: {done.written} runs written, {done.unchanged} unchanged")


@app.command()
def ui(
    store: StorePath = DEFAULT_STORE,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Serve the store's MLflow database on this machine, until Ctrl-C."""
    from harness.tracking import sync as mlflow_view

    where = Store(store)
    if not (where.path / "mlflow.db").exists():
        raise FileNotFoundError(
            f"{where.path} has no mlflow.db yet: run a benchmark or `relief sync`"
        )
    for name, addresses in mlflow_view.addresses(where, port).items():
        console.print(f"{escape(name)}: {' and '.join(addresses)}", soft_wrap=True)
    command = mlflow_view.server_command(where, port)
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, **mlflow_view.ENVIRONMENT})  # signals reach it


def _planned(what: list[str] | None, store: Path, data: str | None, background: str | None):
    from harness.planning import config
    from harness.planning.expand import build

    name, overrides = split_arguments(what or [], "configuration", default="demo")
    loaded = config.load(name, overrides, data, background)
    return Store(store), build(loaded)


def _launches(store: Store) -> list[dict]:
    launches = store.launches()
    if not launches:
        raise FileNotFoundError(f"no launch in {store.path}: start one with `relief run`")
    return launches


def _state(store: Store, key: str) -> str:
    from harness.engine.driver import read_progress

    if store.done(key):
        return DONE
    if store.locked(key):
        return "running"
    result = store.result(key)
    if result:
        return result["status"]
    return "interrupted" if read_progress(store, key) else "pending"


def main() -> None:
    """The `relief` command: user errors become one message and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("RELIEF_DEBUG"):
            raise
        errors.print(f"[red]error[/red]: {escape(str(error))}", soft_wrap=True)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            errors.print(
                "The disk is full. Finished jobs are kept: free some space and the same "
                "command goes on, or choose another disk with --store."
            )
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
