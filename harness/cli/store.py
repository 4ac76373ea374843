"""The commands about the store itself: relief store check, relief store prune."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from harness.cli.launch import DEFAULT_STORE, StorePath
from harness.cli.terminal import console, errors
from harness.store import Store
from methods.errors import UserError

if TYPE_CHECKING:
    from harness.store.examine import Finding, Watch

app = typer.Typer(name="store", help="What lies in a store.", no_args_is_help=True)

EXIT_DAMAGED = 1
SHOWN = 20  # findings of a kind


@app.command()
def check(
    store: StorePath = DEFAULT_STORE,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte of every job, not only sizes.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Set aside what is damaged, for the next run to compute it again; remove "
            "half-written files; adopt checksums of results of earlier versions.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what is damaged, unfinished, not needed or not ours in a store, with its size.

    Exits with 1 if something is damaged and was not set aside.
    """
    from harness.store import examine

    where = _known(store)
    with _reading(deep and not as_json) as watch:
        found = examine.examine(where, deep, watch)
    found = [one for one in found if one.kind != examine.FREE]  # harmless; `prune` has them
    done = dict(examine.repair(where, found)) if repair else {}
    if as_json:
        told = [_plain(where, one) | {"done": done.get(one, "")} for one in found]
        typer.echo(json.dumps(told, indent=1))
    else:
        _show(where, found)
        for one, what in done.items():
            what = what or "left alone: somebody computes it now"
            console.print(f"{what}: {escape(_place(where, one))}", soft_wrap=True)
    left = [one for one in found if one.kind == examine.TORN and not done.get(one)]
    if left and not as_json:
        advice = "" if repair else "; --repair sets it aside for the next run to compute it again"
        errors.print(f"[red]{len(left)} damaged[/red]{advice}", soft_wrap=True)
    if left:
        raise typer.Exit(EXIT_DAMAGED)


@app.command()
def prune(
    store: StorePath = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; else it is only shown.")] = False,
) -> None:
    """Show, and with --yes remove, what no launch, sweep or study needs, and what was set aside."""
    from harness.store import examine

    where = _known(store)
    found = [one for one in examine.examine(where) if one.kind in examine.PRUNED]
    _show(where, found)
    if not found:
        return
    if not yes:
        console.print("Nothing is removed yet: `relief store prune --yes` does it.")
        return
    freed = [size for _, size in examine.prune(where, found)]
    console.print(f"removed {len(freed)} of {len(found)}, {_bytes(sum(freed))}")


def _known(path: Path) -> Store:
    store = Store(path)
    if not store.path.is_dir():
        raise UserError(f"no store in {store.path}: choose one with --store")
    return store


def _show(store: Store, found: Sequence[Finding]) -> None:
    """A table that folds what is long, and the totals."""
    kinds: dict[str, list[Finding]] = {}
    for one in found:
        kinds.setdefault(one.kind, []).append(one)
    if not found:
        console.print(f"{escape(str(store.path))}: nothing to say", soft_wrap=True)
        return
    table = Table("", "where, what, and what to do", "size", box=box.SIMPLE)
    table.columns[1].overflow = "fold"
    table.columns[2].justify = "right"
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    for kind, ones in kinds.items():
        for i, one in enumerate(ones[:SHOWN]):
            what = one.what.replace(f"{store.path}/", "")
            lines = [_place(store, one), what, *filter(None, [one.remedy])]
            table.add_row("" if i else kind, escape("\n".join(lines)), _bytes(one.size))
        if len(ones) > SHOWN:
            rest = ones[SHOWN:]
            size = _bytes(sum(one.size for one in rest))
            table.add_row("", f"and {len(rest)} more (check --json has all)", size)
        table.add_section()
    console.print(table)
    for kind, ones in kinds.items():
        console.print(f"{len(ones)} {kind}, {_bytes(sum(one.size for one in ones))}")


def _place(store: Store, one: Finding) -> str:
    return one.path.relative_to(store.path).as_posix()


def _plain(store: Store, one: Finding) -> dict:
    return {
        "kind": one.kind,
        "path": str(one.path),
        "what": one.what,
        "remedy": one.remedy,
        "bytes": one.size,
        "key": one.key,
        "held": one.held,
    }


@contextmanager
def _reading(shown: bool) -> Generator[Watch]:
    """How far a deep check is, on a terminal."""
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not shown) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
