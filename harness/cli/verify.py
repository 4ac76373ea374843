"""The command that computes results again: relief verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.launch import DEFAULT_STORE, StorePath
from harness.cli.terminal import console, errors
from harness.store import Store
from methods.errors import UserError

if TYPE_CHECKING:
    from harness.engine.verify import Found

EXIT_DIFFERS = 1


def verify(
    launch: Annotated[
        Optional[str],
        typer.Argument(help="Launch id or its beginning (default: the store's latest)."),
    ] = None,
    sample: Annotated[
        Optional[int], typer.Option(min=1, help="So many cells, drawn by --seed (default: all).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which cells are drawn.")] = 0,
    store: StorePath = DEFAULT_STORE,
    cpus: Annotated[
        Optional[int],
        typer.Option(min=1, help="Threads of each cell (default: as the result was computed)."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Compute their views and stages again, too.")
    ] = False,
) -> None:
    """Compute finished cells again and compare every bit; the results stay as they are."""
    from harness.engine import verify as engine
    from harness.engine.interrupts import interruptible
    from harness.store.verified import badge

    where = Store(store)
    chosen = where.launch(launch)
    done = [cell["key"] for cell in chosen["cells"] if where.done(cell["key"])]
    if not done:
        raise UserError(f"no cell of {chosen['id']} is done: `relief run` computes them")
    keys = engine.sample(list(dict.fromkeys(done)), sample, seed)
    where.check_writable()
    console.print(f"[bold]{escape(chosen['id'])}[/bold]: {len(keys)} of {len(done)} cells again")
    with interruptible():  # what was begun is taken away, also at SIGTERM
        found = engine.verify(
            where, chosen, keys, cpus, deep, lambda one: console.print(_line(one), soft_wrap=True)
        )
    console.print(_table(found))
    if line := badge(r for k in keys if (r := where.result(k)) is not None):
        console.print(line, soft_wrap=True)
    wrong, undone = sum(one.wrong for one in found), sum(_undone(one) for one in found)
    if wrong or undone:
        errors.print(
            f"[red]{wrong} differ on the same kind of machine, {undone} could not be computed "
            "again[/red]",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_DIFFERS)


def _undone(one: Found) -> bool:
    return one.kind == "cell" and one.check is None


def _line(one: Found) -> str:
    title = escape(one.title)
    if one.check is None:
        word = {True: "identical", False: "differs", None: "-"}[one.identical]
        return f"{word} {title}{': ' if one.reason else ''}{escape(one.reason)}"
    return f"{'identical' if one.check.identical else 'differs'} {title}"


def _table(found: list[Found]) -> Table:
    """A row a pair of machine kinds: how many cells are identical, and how far the others are."""
    table = Table("computed by", "again by", "cells", "identical", "maps apart", "metrics apart")
    groups: dict[tuple[str, str], list] = {}
    for one in found:
        if one.check is not None:
            pair = (_machine(one.check.before), _machine(one.check.machine))
            groups.setdefault(pair, []).append(one.check)
    for pair, checks in sorted(groups.items()):
        same = sum(check.identical for check in checks)
        table.add_row(
            *map(escape, pair),
            str(len(checks)),
            str(same),
            _largest([check.maps for check in checks], "of their range"),
            _largest([check.metrics for check in checks], ""),
        )
    return table


def _machine(machine) -> str:
    torch = machine.versions.get("torch")
    return machine.text + (f", torch {torch}" if torch else "")


def _largest(values: list[float | None], of: str) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "not comparable"
    largest = max(known, default=0.0)
    return f"{largest:.2g} {of}".strip() if largest else "0"
