"""The command that scores finished cells again, without a fit: relief rescore."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.cli.launch import (
    DEFAULT_STORE,
    EXIT_FAILED_JOBS,
    Address,
    Serial,
    StorePath,
    Workers,
    one_place,
)
from harness.cli.terminal import console, errors
from harness.store import COMMON, DONE, PAPER, Store
from methods.errors import UserError

if TYPE_CHECKING:
    from harness.engine.rescore import Ended
    from harness.metrics import Metric

SHOWN = 5  # cells that are named with what stands against scoring them


def rescore(
    launch: Annotated[
        Optional[str],
        typer.Argument(help="Launch id or its beginning (default: the store's latest)."),
    ] = None,
    metric: Annotated[
        Optional[list[str]],
        typer.Option(help="Default: all that a cell lacks; AUPRO at any limit, e.g. aupro_0.15."),
    ] = None,
    protocol: Annotated[
        Optional[list[str]],
        typer.Option(help="common, paper (default: both), or common@PIXELS of the longer side."),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Also what a cell has in the present version.")
    ] = False,
    store: StorePath = DEFAULT_STORE,
    workers: Workers = None,
    address: Address = None,
    serial: Serial = False,
) -> None:
    """Score finished cells again from their stored scores and maps; nothing is trained.

    Writes the launch's report anew.
    """
    from harness.cli.reports import exit_if_damaged, write
    from harness.engine.scoring import longest_of
    from harness.metrics import get, known_metrics
    from harness.metrics.outside import join_of
    from reports.numbers.stores import Checked

    one_place(address, serial)
    where = Store(store)
    chosen = where.launch(launch)
    join_of(chosen, where.path)
    try:
        wanted = [get(name) for name in metric] if metric else known_metrics()
    except ValueError as error:
        raise UserError(str(error)) from error
    protocols = list(dict.fromkeys(protocol or (COMMON, PAPER)))
    for name in protocols:
        if name != PAPER:
            longest_of(name)
    where.check_writable()
    ended = _scored(where, chosen, wanted, protocols, anew, workers, address, serial)
    found = Checked(where)
    write(found, chosen, where.path / "reports" / chosen["id"])
    if any(one.status != DONE for one in ended):
        raise typer.Exit(EXIT_FAILED_JOBS)
    exit_if_damaged(found)


def _scored(
    store: Store,
    launch: dict[str, Any],
    wanted: Sequence[Metric],
    protocols: Sequence[str],
    anew: bool,
    workers: int | None,
    address: str | None,
    serial: bool,
) -> list[Ended]:
    from harness.engine import rescore as engine
    from harness.engine.executors import InProcess, LostError
    from harness.engine.interrupts import interruptible
    from harness.engine.on_ray import OnRay

    records = [r for key in _keys(launch) if (r := store.result(key)) is not None and r.done]
    jobs = engine.jobs_for(store, launch, records, wanted, protocols, anew)
    told = f"{len(jobs)} of {len(records)} finished cells lack something"
    console.print(f"[bold]{escape(launch['id'])}[/bold]: {told if not anew else len(jobs)}")
    if not jobs:
        return []
    since = time.perf_counter()
    task = engine.rescore_cell
    executor = InProcess(task) if serial else OnRay(address, workers, 0, "worker", task)
    try:
        with interruptible() as check, _shown(len(jobs)) as advance:

            def listen(ended: Ended) -> None:
                check()
                advance()

            beside = None if serial else OnRay(isolation="worker", joined=True)
            engine.lay_truths(store, launch, jobs, beside)
            ended = engine.rescore(store, jobs, executor, listen)
    except LostError as error:
        raise UserError(f"{error}; what was scored is kept, the same command goes on") from error
    finally:
        executor.close()
    counts = Counter(one.status for one in ended)
    seconds = time.perf_counter() - since
    listed = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    console.print(f"rescored in {seconds:.1f} s: {listed}")
    for one in [one for one in ended if one.status != DONE][:SHOWN]:
        errors.print(f"{one.status} {escape(one.title)}: {escape(one.reason)}", soft_wrap=True)
    return ended


def _keys(launch: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(cell["key"] for cell in launch["cells"]))


@contextmanager
def _shown(total: int) -> Generator[Any]:
    """How far it is, on a terminal."""
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("cells", total=total)
        yield lambda: bar.advance(task)
