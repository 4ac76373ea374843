"""The commands for authors of methods: relief test, relief new method."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from harness.cli.terminal import console
from methods.errors import UserError

new = typer.Typer(name="new", help="Start something of your own.", no_args_is_help=True)

EXIT_UNFIT = 1
COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}
TEMPLATE = Path(__file__).parents[1] / "template"  # of `new method`; my_method stands for the name
FILES = ("pyproject.toml", "README.md", "my_method/__init__.py", "my_method/method.py",
         "tests/test_my_method.py")  # fmt: skip


def test(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD [KEY=VALUE]...",
            help="A method, ours or a plug-in's, then settings to change, e.g. das3d.train.steps=4",
        ),
    ],
    modality: Annotated[
        Optional[str], typer.Option("--setting", help="Only rgb, 3d or rgb+3d (default: all).")
    ] = None,
    config: Annotated[
        str, typer.Option(help="Configuration whose settings of the method hold.")
    ] = "demo",
) -> None:
    """Check on a few made samples what every method must do; exits with 1 if it does not.

    Shapes, a batch of one as of many, the same bits again, save and load, a fit killed at random
    steps, devices, memory, time. Ours pass the same.
    """
    import tempfile

    import methods
    from harness.cli.launch import split_arguments
    from harness.engine.rehearsal import rehearsal
    from harness.planning import config as configs
    from methods.contract import SETTINGS
    from methods.contract_suite import CHECKS, Result, run

    name, overrides = split_arguments(what, "method")
    method, _, variant = name.partition("/")
    if modality not in (None, *SETTINGS):
        raise UserError(f"unknown setting {modality!r}; known: {', '.join(SETTINGS)}")
    methods.get(method)  # first: a name that is unknown has nothing to do with the configuration
    loaded = configs.load(config, [f"methods=[{name}]", *overrides])
    settings = loaded.settings_of(method, variant)

    width = max(map(len, CHECKS))

    def tell(result: Result) -> None:
        colour = COLOURS[result.state]
        says = f"[{colour}]{result.state:7}[/{colour}] {result.check:{width}} {escape(result.says)}"
        console.print(says, soft_wrap=True)
        if result.why:
            why = textwrap.indent(result.why, " " * (width + 9))
            console.print(escape(why), soft_wrap=True)

    failed = 0
    for setting in [modality] if modality else methods.get(method).supported(settings):
        with tempfile.TemporaryDirectory(prefix="relief-test-") as folder:
            console.print(f"[bold]{escape(name)} {setting}[/bold]")
            found = run(rehearsal(method, settings, setting, Path(folder)), tell)
        failed += sum(result.state == "failed" for result in found)
    if failed:
        console.print(f"[red]{failed} checks failed[/red]")
        raise typer.Exit(EXIT_UNFIT)
    console.print("keeps the contract")


@new.callback()
def group() -> None:
    """A group, though it has one command."""


@new.command()
def method(
    name: Annotated[str, typer.Argument(help="As it shall be called: a-z, 0-9 and _.")],
    folder: Annotated[
        Optional[Path], typer.Option("--in", help="Folder to write it in (default: NAME).")
    ] = None,
) -> None:
    """Write a package with a method that works at once: settings, test, entry point, README."""
    import methods

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(
            f"{name!r} is no name of a Python package: use a-z, 0-9 and _, e.g. patches"
        )
    if name in methods.METHODS:
        raise UserError(f"{name!r} is taken: give another name")
    folder = folder or Path(name)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: give another with --in")
    title = "".join(part.capitalize() for part in name.split("_"))
    for file in FILES:
        text = (TEMPLATE / f"{file}.txt").read_text(encoding="utf-8")
        target = folder / file.replace("my_method", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("my_method", name).replace("MyMethod", title)
        target.write_text(text.replace("my-method", name.replace("_", "-")), encoding="utf-8")
    there = escape(str(folder))
    console.print(f"{there}: {len(FILES)} files", soft_wrap=True)
    console.print(f"pip install -e {there}        # then it is known by its name", soft_wrap=True)
    console.print(f"relief test {name} && relief run methods=\\[{name},das3d]", soft_wrap=True)
