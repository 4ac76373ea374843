"""The command that takes anomaly maps from elsewhere into the store: relief import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape

from harness.cli.launch import (
    DEFAULT_STORE,
    Address,
    Serial,
    StorePath,
    Tracking,
    Workers,
    execute,
    exit_with,
)
from harness.cli.reports import cleared, conclude
from harness.cli.terminal import console
from harness.store import Store


def import_maps(
    maps: Annotated[
        Path, typer.Argument(help="Folder of maps: <category>/test/<defect>/NNN.tiff, .npy or .png")
    ],
    name: Annotated[str, typer.Option(help="Of the method that made them, for tables.")],
    setting: Annotated[str, typer.Option(help="What it saw: rgb, 3d or rgb+3d.")],
    data: Annotated[str, typer.Option(help="Folder of the dataset that they are of.")],
    variant: Annotated[str, typer.Option(help="A variant of the method, e.g. authors.")] = "",
    dataset: Annotated[
        Optional[str],
        typer.Option(help="The dataset's name in tables (default: as `relief run --data` has it)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the training that they come from.")] = 0,
    scores: Annotated[
        Optional[Path],
        typer.Option(
            help="CSV of image scores: category,id,score (default: the maximum of each map)."
        ),
    ] = None,
    store: StorePath = DEFAULT_STORE,
    workers: Workers = None,
    address: Address = None,
    serial: Serial = False,
    tracking: Tracking = None,
) -> None:
    """Score a folder of anomaly maps, made by whatever code, as the store's own cells are.

    Each map has the size of the dataset's own files. Done twice, the second time changes nothing.
    """
    from harness.planning.imported import Imported, plan

    given = Imported(maps, name, setting, data, variant, dataset, seed, scores)
    where = Store(store)
    planned = plan(given, where.filed_as)
    known = where.recorded(planned.launch_id)
    launch, failures = execute(
        planned, where, tracking, workers=workers, address=address, serial=serial
    )
    if known is None and not _done(where, launch):  # nothing to report, nor to compare with
        where.forget_launch(launch["id"])
        exit_with(failures)
    found = conclude(where, launch, tracking)
    others = [
        other["id"]
        for other in where.launches()
        if other["id"] != launch["id"] and _tables(other) & _tables(launch) and _done(where, other)
    ]
    if others and not failures:
        both = f"relief report --launch {others[-1]} --launch {launch['id']}"
        console.print(f"Beside others: {escape(both)}", soft_wrap=True)
    exit_with(failures, cleared(where, found))


def _tables(launch: dict[str, Any]) -> set[tuple[str, str]]:
    """Datasets and settings: launches that share none have no table in common."""
    return {(cell["dataset"], cell["setting"]) for cell in launch["cells"]}


def _done(store: Store, launch: dict[str, Any]) -> bool:
    """Whether any of its cells is."""
    return any(store.done(cell["key"]) for cell in launch["cells"])
