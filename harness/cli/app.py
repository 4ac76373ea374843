"""The command line: every command of `relief`, and what it does with errors."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Optional

import typer

from harness.cli import (
    data,
    doctor,
    kit,
    listing,
    maps,
    mlflow,
    models,
    plan,
    reports,
    rescore,
    runs,
    status,
    store,
    studies,
    sweep,
    verify,
    weights,
)
from harness.cli.errors import debugging, plugged, tell
from methods import plugins

app = typer.Typer(
    name="relief",
    help="Benchmark RGB-D industrial anomaly detectors: run, compare, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    runs.run,
    plan.plan,
    status.status,
    reports.report,
    reports.compare,
    reports.export,
    verify.verify,
    rescore.rescore,
    models.models,
    models.predict,
    sweep.sweep,
    studies.study,
    mlflow.sync,
    mlflow.ui,
    doctor.doctor,
    kit.test,
):
    app.command()(command)
app.command("import")(maps.import_maps)
app.command("list")(listing.list_)
for group in (studies.app, data.app, weights.app, store.app, kit.new):
    app.add_typer(group)


@app.callback()
def options(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where an error was raised; also RELIEF_DEBUG=1."),
    ] = False,
    plugin: Annotated[
        Optional[list[str]],
        typer.Option(
            "--plugin",
            metavar="FILE|FOLDER|MODULE",
            help="Methods, views, readers and metrics of your own; may be repeated; also "
            "RELIEF_PLUGINS, or `plugins:` of a configuration.",
        ),
    ] = None,
) -> None:
    """Benchmark RGB-D industrial anomaly detectors: run, compare, report."""


def main() -> None:
    """The `relief` command: an error becomes one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    arguments, debug = debugging(sys.argv[1:])
    try:
        left = plugged(arguments)
        if plugins.offers("metrics"):
            from harness.metrics import outside

            outside.join()
        app(args=left)
    except Exception as error:
        sys.exit(tell(error, debug))


if __name__ == "__main__":
    main()
