"""The command line: every command of `relief`, and what it does with errors."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Optional

import typer

from harness.cli import (
    bench,
    data,
    doctor,
    init,
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
from harness.cli.terminal import quieted
from methods import plugins

app = typer.Typer(
    name="relief",
    help="Benchmark RGB-D industrial anomaly detectors: run, compare, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RUN, READ, OWN, KEEP = (  # what `relief --help` shows under one heading, in this order
    "Run",
    "Read results",
    "Data, methods, settings of your own",
    "Look after store and machines",
)
for panel, commands in (
    (RUN, (runs.run, plan.plan, status.status, sweep.sweep, studies.study)),
    (READ, (reports.report, reports.compare, reports.export, models.models, models.predict)),
    (OWN, (init.init, kit.test)),
    (KEEP, (verify.verify, rescore.rescore, mlflow.sync, mlflow.ui, doctor.doctor, bench.bench)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.command("import", rich_help_panel=READ)(maps.import_maps)
app.command("list", rich_help_panel=OWN)(listing.list_)
for panel, groups in (
    (RUN, (studies.app,)),
    (OWN, (data.app, weights.app, kit.new)),
    (KEEP, (store.app,)),
):
    for group in groups:
        app.add_typer(group, rich_help_panel=panel)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from harness.cli.installation import version

        print(version())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Version and commit, and end."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print what goes wrong and --json, and nothing else.")
    ] = False,
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
    """Benchmark RGB-D industrial anomaly detectors: run, compare, report.

    These options may stand before or after the command.
    """


def main() -> None:
    """The `relief` command: an error becomes one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    arguments, debug = debugging(quieted(sys.argv[1:]))
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
