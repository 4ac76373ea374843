"""The commands about published tables: relief study, relief studies list and coverage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli import completion
from harness.cli import reports as cli_reports
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
from harness.cli.runs import planned_study, tell_rows_left_out
from harness.cli.terminal import console
from harness.store import Store, write_text

app = typer.Typer(name="studies", help="The published tables.", no_args_is_help=True)

EXIT_MISSING = 1


def study(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="PAPER/TABLE [KEY=VALUE]...",
            autocompletion=completion.shipped("studies"),
            help="A study, e.g. m3dm/table4 (relief studies list), then settings to change",
        ),
    ],
    demo: Annotated[
        bool, typer.Option("--demo", help="The demo's data and narrow networks, in minutes.")
    ] = False,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
    workers: Workers = None,
    gpus: Gpus = None,
    address: Address = None,
    serial: Serial = False,
    tracking: Tracking = None,
) -> None:
    """Compute a published table and print its values beside ours."""
    name, overrides = split_arguments(what, "study")
    where = Store(store)
    plan = planned_study(name, overrides, where, data, background, demo)
    tell_rows_left_out(plan)
    engine = dict(workers=workers, gpus=gpus, address=address, serial=serial)
    launch, failures = execute(plan, where, tracking, **engine)
    found = cli_reports.conclude(where, launch, tracking)
    exit_with(failures, cli_reports.cleared(where, found))


@app.command("list")
def list_studies() -> None:
    """Print every study: what the table is about, and the rows it computes."""
    from harness.cli.described import opening_comment
    from harness.planning import study as studies
    from harness.planning.config import find, shipped

    table = Table("study", "what it is about", "rows")
    for name in shipped("studies"):
        rows = [
            f"{', '.join(rows.methods)}: {', '.join(rows.settings)}"
            + (f", {rows.train_samples}-shot" if rows.train_samples else "")
            for rows in studies.read(name).rows
        ]
        about = opening_comment(find(name, "studies"))
        table.add_row(name, escape(about), escape("\n".join(rows)))
    console.print(table)
    console.print("relief study NAME --demo computes one with narrow networks, in minutes")


@app.command()
def coverage(
    csv: Annotated[
        Optional[Path], typer.Option(help="Write every value and its reason to this file.")
    ] = None,
) -> None:
    """Count the published values that a study computes, and how they compare; name the rest.

    same: quantity and protocol as published; inferred: a part is not published, or is not as in
    the published code; other: another quantity, not compared. Exits with 1 if a value is neither
    computed nor explained.
    """
    from harness.planning import study as studies
    from harness.planning.config import shipped
    from reports.page.coverage import coverage, coverage_table, reasons_table

    found = [studies.read(name) for name in shipped("studies")]
    computed, unmet = {}, {}
    for one in found:
        computed.setdefault((one.paper, one.table), set()).update(one.printed_names())
        unmet.setdefault((one.paper, one.table), []).extend(one.unmet)
    values = coverage(computed, unmet)
    console.print(coverage_table(values))
    console.print(reasons_table(values))
    if csv is not None:
        write_text(csv, values.to_csv(index=False, lineterminator="\n"))
    explained = {part.reason for parts in unmet.values() for part in parts}
    if not set(values.loc[values["reason"] != "", "reason"]) <= explained:
        raise typer.Exit(EXIT_MISSING)
