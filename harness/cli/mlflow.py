"""The commands about MLflow: relief sync, relief ui."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape

from harness.cli.errors import describe
from harness.cli.launch import DEFAULT_STORE, StorePath, Tracking
from harness.cli.terminal import console
from harness.store import Store
from harness.store.sweeps import sweep_ids
from methods.errors import UserError

if TYPE_CHECKING:
    from harness.tracking import Synced


def sync(
    launch: Annotated[
        Optional[str], typer.Argument(metavar="[NAME]", help="Launch or sweep (default: all).")
    ] = None,
    store: StorePath = DEFAULT_STORE,
    tracking: Tracking = None,
) -> None:
    """Bring MLflow up to date with the store, e.g. after its server was down."""
    from harness import tracking as mlflow_view

    if tracking == "none":
        raise UserError(
            "sync writes to MLflow, and --tracking none is for no MLflow: leave it out (and unset "
            "MLFLOW_TRACKING_URI) for the store's own database, or give a URI"
        )
    where = Store(store)
    sweeps = [name for name in sweep_ids(where) if launch in (None, name)]
    if launch is None:
        launches = where.launches() if sweeps else where.known_launches()
    else:
        launches = [] if sweeps else [where.launch(launch)]
    for found in launches:
        folder = where.path / "reports" / found["id"]
        report = folder if folder.is_dir() else None
        _tell(found["id"], mlflow_view.sync(where, found, tracking, report))
    for name in sweeps:
        _tell(name, mlflow_view.sync_sweep(where, name, tracking))


def _tell(name: str, done: Synced) -> None:
    counts = f"{done.written} runs written, {done.unchanged} unchanged"
    console.print(f"{escape(name)}: {counts}", soft_wrap=True)


def mirror() -> None:
    """What the process beside a launch does; see `mirrored` in launch.py."""
    from harness import tracking as mlflow_view

    mlflow_view.run_mirror(lambda error: describe(error).text)


def ui(
    store: StorePath = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Serve the store's MLflow database on this machine, until Ctrl-C."""
    from harness import tracking as mlflow_view

    where = Store(store)
    if not (where.path / "mlflow.db").exists():
        raise FileNotFoundError(
            f"{where.path} has no mlflow.db yet: run a benchmark or `relief sync`"
        )
    mlflow_view.check_port(port)
    for name, addresses in mlflow_view.addresses(where, port).items():
        console.print(f"[bold]{escape(name)}[/bold]")
        for what, address in zip(("page", "table", "charts"), addresses):
            console.print(f"  {what:7} {escape(address)}", soft_wrap=True)
    command = mlflow_view.server_command(where, port)
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, **mlflow_view.ENVIRONMENT})  # signals reach it
