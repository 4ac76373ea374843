"""The command that examines machines: relief doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from harness.cli.launch import (
    DEFAULT_STORE,
    Address,
    Background,
    Data,
    StorePath,
    split_arguments,
)
from harness.cli.terminal import console
from harness.store import Store

EXIT_FAULTY_NODE = 1

What = Annotated[
    Optional[list[str]],
    typer.Argument(
        metavar="[CONFIG] [KEY=VALUE]...",
        help="As for `run`: its data, textures and weights are looked for, too.",
    ),
]


def doctor(
    what: What = None,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
    address: Address = None,
    json_file: Annotated[
        Optional[Path], typer.Option("--json", help="Write everything found to this file.")
    ] = None,
) -> None:
    """Examine this machine, or every node of a cluster: code, torch, store, data, disk, GPUs.

    Exits with 1 if a node cannot run jobs. Before its first job, `run` does the same on a
    cluster, and tries the GPUs of one machine, if it asks for some.
    """
    from harness.engine.nodes import examine_all, examine_here, wanted
    from harness.engine.on_ray import OnRay
    from harness.planning import config
    from harness.planning.config import Schedule
    from harness.planning.expand import build

    plan, schedule, where = None, Schedule(), Store(store)
    if what or data:
        name, overrides = split_arguments(what or [], "configuration", default="demo")
        plan = build(config.load(name, overrides, data, background), where.filed_as)
        schedule = plan.config.schedule
    where.check_writable()
    want = wanted(plan, where)
    if address is None:
        reports = [examine_here(want)]
    else:
        executor = OnRay(address)
        try:
            reports = examine_all(executor.ray, want, schedule.node_check_s)
        finally:
            executor.close()
    if json_file:
        found = [report.plain() for report in reports]
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(_table(reports))
    _print_lines(reports)
    faulty = sum(bool(report.faults) for report in reports)
    console.print(f"nodes: {len(reports)}, of which unfit for jobs: {faulty}")
    if faulty or not reports:
        raise typer.Exit(EXIT_FAULTY_NODE)


def _table(reports) -> Table:
    """A row a node; what is not well stands below the table."""
    from harness.engine.nodes import CHECKS, OK

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("node", *CHECKS):
        table.add_column(name, no_wrap=name in ("node", "torch"))
    for report in reports:
        cells = []
        for check in CHECKS:
            found = report.found(check)
            if found is None:
                cells.append("")
            elif found.state == OK:
                cells.append(escape(found.says))
            else:
                cells.append(f"[{_colour(found)}]{found.state.upper()}[/{_colour(found)}]")
        table.add_row(escape(report.name), *cells)
    return table


def _print_lines(reports) -> None:
    from harness.engine.nodes import OK, line

    for report in reports:
        for found in report.findings:
            if found.state != OK:
                text = f"[{_colour(found)}]{found.state}[/{_colour(found)}] {escape(report.name)}: "
                console.print(text + escape(line(found)), soft_wrap=True)


def _colour(found) -> str:
    from harness.engine.nodes import FAULT

    return "red" if found.state == FAULT else "yellow"
