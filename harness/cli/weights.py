"""The commands about published weights: relief weights list and import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape

from harness.cli.terminal import console
from methods.errors import UserError

app = typer.Typer(name="weights", help="Published weights of the methods.", no_args_is_help=True)

EXIT_MISFIT = 1


@app.command("list")
def list_files(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every published file: what for, where from, whether found, what a run does without."""
    import json

    from methods.published import PUBLISHED

    rows = files()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        found = row["found"] or "no"
        damaged = f" (damaged or no checkpoint, {row['damaged']})" if row["damaged"] else ""
        console.print(f"[bold]{row['file']}[/bold]  {row['setting']}", soft_wrap=True)
        checksum = f"SHA-256 {row['sha256']}" if row["sha256"] else "not known"
        checksum = f"git blob {row['git_blob']}" if row["git_blob"] else checksum
        if row["as_published"] is not None:
            checksum += ", as that of the file" if row["as_published"] else ", the file has another"
        for name, text in (
            ("for", row["purpose"]),
            ("from", row["source"]),
            ("licence", row["licence"]),
            ("checksum", checksum),
            ("found", f"{found}{damaged}"),
            ("without", row["without"]),
        ):
            console.print(f"  {name:8} {escape(text)}", soft_wrap=True)
    whole = sum(bool(row["found"]) and not row["damaged"] for row in rows)
    console.print(
        f"{whole} of {len(rows)} found in {escape(_folder())}. What a method cannot do without is "
        f"taken from there; the others where their setting is {PUBLISHED}, e.g. "
        f"m3dm.weights.uff={PUBLISHED}. Nothing is downloaded.",
        soft_wrap=True,
    )


def files() -> list[dict[str, Any]]:
    """Every published file: what the registry says of it, where it was found, what is wrong."""
    from dataclasses import asdict

    from methods.published import FILES

    return [
        asdict(file)
        | {
            "found": str(file.found or ""),
            "damaged": file.damaged,
            "as_published": file.as_published,
        }
        for file in FILES
    ]


def _folder() -> str:
    """Where they are looked for."""
    import os

    from methods.published import FOLDER

    if not (where := os.environ.get(FOLDER)):
        return f"{FOLDER}, which names no folder"
    return where if Path(where).expanduser().is_dir() else f"{where}, which is no folder ({FOLDER})"


@app.command(name="import")
def import_(
    name: Annotated[
        str,
        typer.Argument(metavar="SETTING", help="What takes the weights, e.g. 3dsr.dada.weights."),
    ],
    file: Annotated[Path, typer.Argument(help="The checkpoint as its authors publish it.")],
    out: Annotated[Path, typer.Argument(help="Where to write what that setting takes.")],
    changes: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the network it must fit."),
    ] = None,
    modality: Annotated[
        Optional[str],
        typer.Option("--setting", help="rgb, 3d or rgb+3d (default: the last that uses it)."),
    ] = None,
) -> None:
    """Check a published checkpoint key by key, and write it for use in place of training.

    Nothing in the file is executed. Unless every entry has its place, nothing is written and the
    exit code is 1.
    """
    from methods.blocks.weights import WeightsError
    from methods.contract import save_tensors

    setting, read = _reader(name, changes or [], modality)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is no file; give the checkpoint as it was published")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"{out} is a folder, or in none that exists: give the file to write")
    try:
        found = read(file)
    except WeightsError as error:
        console.print(escape(str(error)), soft_wrap=True)
        raise typer.Exit(EXIT_MISFIT) from None
    report = found.report
    title = f"{file} for {found.network} of {name}, setting {setting}:"
    console.print(escape(title), soft_wrap=True)
    console.print(f"  matched    {len(report.loaded)}")
    for kind in ("missing", "unexpected", "differing"):
        keys = getattr(report, kind)
        console.print(f"  {kind:10} {len(keys)}")
        for key in keys:
            console.print(f"    {escape(key)}", soft_wrap=True)
    if not report.fits:
        console.print(
            "does not fit, nothing is written: check that file, --setting and the "
            "widths in the settings belong together"
        )
        raise typer.Exit(EXIT_MISFIT)
    save_tensors(out, found.state)
    console.print(f"relief run settings=\\[{setting}] {name}={escape(str(out))}", soft_wrap=True)


def _reader(name: str, changes: list[str], modality: str | None) -> tuple[str, Any]:
    """The setting, and what reads the checkpoints that `name` takes in it."""
    import methods
    from harness.planning.config import settings_of
    from methods.contract import SETTINGS

    method, _, option = name.partition(".")
    cls, settings = methods.get(method), settings_of(method, changes)
    if modality is not None and modality not in SETTINGS:
        raise UserError(f"unknown setting {modality!r}; known: {', '.join(SETTINGS)}")
    wanted = [modality] if modality else list(reversed(SETTINGS))
    known = {setting: cls.published(settings, setting) for setting in wanted}
    for setting, readers in known.items():
        if option in readers:
            return setting, readers[option]
    names = sorted({f"{method}.{key}" for readers in known.values() for key in readers})
    where = f" in setting {modality}" if modality else ""
    raise UserError(
        f"{name} takes no published weights{where}; of {method} these do: "
        f"{', '.join(names) or 'none'}"
    )
