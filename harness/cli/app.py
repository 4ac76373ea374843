"""The command line: every command of `relief`, and what it does with errors."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Optional

import typer

from harness.cli.errors import debugging, plugged, tell
from harness.cli.terminal import quieted
from methods import plugins

# What `relief --help` shows under one heading, in this order: command, the function of this folder
# that it is; a group of commands has its name from its own Typer.
COMMANDS = {
    "Run": {
        "run": "runs.run",
        "plan": "plan.plan",
        "status": "status.status",
        "sweep": "sweep.sweep",
        "study": "studies.study",
        "studies": "studies.app",
    },
    "Read results": {
        "report": "reports.report",
        "compare": "reports.compare",
        "export": "reports.export",
        "models": "models.models",
        "predict": "models.predict",
        "import": "maps.import_maps",
    },
    "Data, methods, settings of your own": {
        "init": "init.init",
        "test": "kit.test",
        "list": "listing.list_",
        "data": "data.app",
        "weights": "weights.app",
        "new": "kit.new",
    },
    "Look after store and machines": {
        "verify": "verify.verify",
        "rescore": "rescore.rescore",
        "sync": "mlflow.sync",
        "ui": "mlflow.ui",
        "doctor": "doctor.doctor",
        "bench": "bench.bench",
        "store": "store.app",
    },
}


def built(arguments: Sequence[str] = ()) -> typer.Typer:
    """The program with all its commands, or with the one alone that the arguments ask for.

    The modules of the others are not imported then: that takes longer than most commands.
    """
    app = typer.Typer(
        name="relief",
        help="Benchmark RGB-D industrial anomaly detectors: run, compare, report.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    first = next((argument for argument in arguments if not argument.startswith("-")), None)
    known = {name for commands in COMMANDS.values() for name in commands}
    for panel, commands in COMMANDS.items():
        for name, place in commands.items():
            if first in known and name != first:
                continue
            module, _, part = place.partition(".")
            found = getattr(importlib.import_module(f"harness.cli.{module}"), part)
            if isinstance(found, typer.Typer):
                app.add_typer(found, rich_help_panel=panel)
            else:
                app.command(name, rich_help_panel=panel)(found)
    _flow(app)
    return app


def _flow(app: typer.Typer) -> None:
    """Docstrings of commands as paragraphs: Typer would break lines where the source does."""
    for command in app.registered_commands:
        said = command.help or inspect.getdoc(command.callback) or ""
        command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", said)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _flow(group.typer_instance)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from harness.cli.installation import version

        print(version())
        raise typer.Exit


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
        built(left)(args=left)
    except (Exception, SystemExit) as error:
        plugins.pass_exit(error)
        sys.exit(tell(error, debug))


if __name__ == "__main__":
    main()
