"""The command line: relief run, plan, status, report, compare, export, sync, ui, data, weights."""

from __future__ import annotations

import errno
import logging
import os
import sys

import typer
from rich.markup import escape

from harness.cli import data, mlflow, reports, runs, studies, sweep, weights
from harness.cli.terminal import errors

app = typer.Typer(
    name="relief",
    help="Benchmark RGB-D industrial anomaly detectors: run, compare, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    runs.run,
    runs.plan,
    runs.status,
    reports.report,
    reports.compare,
    reports.export,
    sweep.sweep,
    studies.study,
    mlflow.sync,
    mlflow.ui,
):
    app.command()(command)
for group in (studies.app, data.app, weights.app):
    app.add_typer(group)

EXIT_USAGE = 2


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
        sys.exit(getattr(error, "exit_code", EXIT_USAGE))


if __name__ == "__main__":
    main()
