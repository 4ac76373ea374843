"""The commands about MLflow: relief sync, relief ui."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Optional

import typer
from rich.markup import escape

from harness.cli.launch import DEFAULT_STORE, StorePath, Tracking
from harness.cli.terminal import console
from harness.store import Store
from methods.errors import UserError


def sync(
    launch: Annotated[Optional[str], typer.Argument(help="Launch id (default: all).")] = None,
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
    for found in where.known_launches() if launch is None else [where.launch(launch)]:
        folder = where.path / "reports" / found["id"]
        try:
            done = mlflow_view.sync(where, found, tracking, folder if folder.is_dir() else None)
        except Exception as error:  # of MLflow or of what it stores in, each has its own
            raise RuntimeError(
                f"MLflow cannot be written: {str(error).splitlines()[0]}; if it is "
                f"{where.path / 'mlflow.db'} that is damaged, `relief store check --repair` sets "
                "it aside and `relief sync` writes it anew"
            ) from error
        console.print(f"{found['id']}: {done.written} runs written, {done.unchanged} unchanged")


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
        console.print(f"{escape(name)}: {' and '.join(addresses)}", soft_wrap=True)
    command = mlflow_view.server_command(where, port)
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, **mlflow_view.ENVIRONMENT})  # signals reach it
