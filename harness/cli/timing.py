"""relief bench --cells: the finished cells of a launch timed again, alone on the device."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from harness.cli.reports import cleared, conclude, join_plugins
from harness.cli.status import launch_of
from harness.cli.terminal import console, errors, show, table
from harness.store import Record, Store
from methods.errors import UserError

if TYPE_CHECKING:
    import torch

    from harness.engine.timing import Ended

EXIT_UNDONE = 1
KEEPS = (
    "protocol.keep_models=true of `relief run` keeps them, of cells that are not done yet: "
    "another store or a new seed has such"
)


def time_cells(
    store: Path,
    cells: str,
    what: Sequence[str],
    data: str | None,
    background: str | None,
    device: torch.device,
    shared: bool,
    anew: bool,
    tracking: str | None,
    as_json: bool,
) -> None:
    """Time them, keep what is found, and write the launch's report anew.

    what: methods (or METHOD/VARIANT) whose cells are meant, and settings of a configuration
    """
    from harness.engine import timing
    from harness.engine.environment import environment
    from harness.engine.interrupts import interruptible

    where = Store(store)
    launch = launch_of(where, [cells, *(item for item in what if "=" in item)], data, background)
    records = _finished(where, launch, [item for item in what if "=" not in item])
    where.check_writable()

    def tell(ended: Ended) -> None:
        if not as_json and ended.state in (timing.TIMED, *timing.UNDONE):
            errors.print(escape(_line(ended)), soft_wrap=True)

    with interruptible():
        protocol = timing.protocol_of(launch)
        found = timing.time_again(where, records, protocol, device, shared, anew, tell)
    counts = Counter(one.state for one in found)
    join_plugins(launch, where)
    with _silent(as_json):  # also where nothing is new: one that was stopped wrote no report
        damaged = cleared(where, conclude(where, launch, tracking))
    if as_json:
        cells_told = [vars(one) for one in found]
        about = {"store": str(where.path), "launch": launch["id"], "machine": environment(device)}
        print(json.dumps(about | {"cells": cells_told, "damaged": damaged}, indent=1))
    else:
        _print(launch, found, counts)
    for reason in damaged:
        errors.print(f"[red]damaged[/red]: {escape(reason)}", soft_wrap=True)
    if damaged or any(counts[state] for state in timing.UNDONE):
        raise typer.Exit(EXIT_UNDONE)


def _finished(store: Store, launch: dict[str, Any], names: Sequence[str]) -> list[Record]:
    """Records of the launch's cells that are done, of these methods; maps from elsewhere have none.

    Raises UserError if there is none, or none of them can be timed for want of a model.
    """
    from harness.store.models import Stored

    entries = {
        cell["key"]: {cell["method"], "/".join(filter(None, (cell["method"], cell["variant"])))}
        for cell in launch["cells"]
    }
    known = sorted(set().union(*entries.values()))
    if unknown := [name for name in names if name not in known]:
        there = ", ".join(known)
        raise UserError(f"{', '.join(unknown)}: no method of {launch['id']}, which has {there}")
    keys = [key for key, own in entries.items() if not names or own & set(names)]
    records = [r for key in keys if (r := store.result(key)) is not None and r.done]
    records = [record for record in records if not record.spec.imported]
    if not records:
        raise UserError(f"no such cell of {launch['id']} is done: `relief run` computes them")
    if not any(Stored(record).files for record in records):
        raise UserError(f"no finished cell of {launch['id']} has its fitted model: {KEEPS}")
    return records


def _line(ended: Ended) -> str:
    before, after = (_ms(speed) for speed in (ended.before, ended.after))
    if ended.after:
        return f"{ended.title}: {before} -> {after} ms" + f" ({ended.reason})" * bool(ended.reason)
    return f"{ended.state} {ended.title}: {ended.reason}"


def _print(launch: dict[str, Any], found: Sequence[Ended], counts: Counter[str]) -> None:
    from harness.engine import timing

    shown = table("cell", "ms before", "ms now", "", numbers=("ms before", "ms now"))
    for one in found:
        note = one.state if one.state != timing.TIMED else "shared" * bool(one.reason)
        shown.add_row(escape(one.title), _ms(one.before), _ms(one.after), note)
    show(shown)
    listed = ", ".join(f"{n} {state}" for state, n in counts.items())
    console.print(f"[bold]{escape(launch['id'])}[/bold]: {listed}", soft_wrap=True)
    for state, remedy in (
        (timing.NO_MODEL, KEEPS),
        (timing.VALID, "--anew times them, too"),
        (timing.DISTURBED, "nothing was kept of them; the same command times them again"),
    ):
        if counts[state]:
            console.print(f"{state}: {remedy}", soft_wrap=True)
    for why in dict.fromkeys(one.reason for one in found if one.state == timing.ELSEWHERE):
        console.print(f"{timing.ELSEWHERE}: {escape(why)}", soft_wrap=True)


def _ms(speed: Any) -> str:
    """ "12.3", in brackets where others used the device."""
    if "latency_p50_s" not in speed:
        return "-"
    text = f"{1000 * speed['latency_p50_s']:.3g}"
    return text if speed.get("valid") is True else f"({text})"


@contextmanager
def _silent(wanted: bool) -> Generator[None]:
    """Print nothing in the block but errors."""
    before, console.quiet = console.quiet, console.quiet or wanted
    try:
        yield
    finally:
        console.quiet = before
