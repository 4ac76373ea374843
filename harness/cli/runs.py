"""relief run, and the plan that it and its kin start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape

from harness.cli import completion
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
    step,
)
from harness.cli.reports import cleared, conclude
from harness.cli.terminal import console, errors
from harness.store import Store

if TYPE_CHECKING:
    from harness.planning.plan import Plan

What = Annotated[
    Optional[list[str]],
    typer.Argument(
        metavar="[CONFIG] [KEY=VALUE]...",
        autocompletion=completion.shipped(),
        help="A YAML file or the name of a shipped one (default demo), then settings to change, "
        "e.g. das3d.train.steps=100 seeds=[0,1]",
    ),
]
Accepted = Annotated[
    Optional[list[str]],
    typer.Option(
        "--accept-old",
        metavar="CODE",
        help="Results by this earlier code of a module count as its own; `relief plan` lists the "
        "codes. May be repeated; `run` keeps it in the store.",
    ),
]


def run(
    what: What = None,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
    workers: Workers = None,
    gpus: Gpus = None,
    address: Address = None,
    serial: Serial = False,
    tracking: Tracking = None,
    accept_old: Accepted = None,
) -> None:
    """Run a benchmark; what is done already is not done again. Ends with the leaderboard."""
    with step("reading the configuration and listing the data"):
        where, plan = planned_of(what, store, data, background, accept_old)
    if accept_old:
        where.check_writable()
        plan.config.names.write(where.path)
    engine = dict(workers=workers, gpus=gpus, address=address, serial=serial)
    launch, failures = execute(plan, where, tracking, **engine)
    found = conclude(where, launch, tracking)
    exit_with(failures, cleared(where, found))


def planned_of(
    what: list[str] | None,
    store: Path,
    data: str | None,
    background: str | None,
    accepted: list[str] | None = None,
) -> tuple[Store, Plan]:
    """Of a configuration. accepted: codes whose results count as those of today's"""
    from harness.planning import config
    from harness.planning.codes import accepting
    from harness.planning.expand import build

    name, overrides = split_arguments(what or [], "configuration", default="demo")
    loaded = config.load(name, overrides, data, background)
    loaded.tell = lambda line: errors.print(escape(line), soft_wrap=True)
    where = Store(store)
    return where, build(loaded, accepting(where, accepted))


def planned_study(
    name: str,
    overrides: list[str],
    where: Store,
    data: str | None,
    background: str | None,
    demo: bool,
    accepted: list[str] | None = None,
) -> Plan:
    """demo: at the demo's sizes; accepted: as of `planned_of`"""
    from harness.planning import study as studies
    from harness.planning.codes import accepting

    base = studies.DEMO if demo else studies.FULL
    return studies.plan(name, overrides, data, background, base, accepting(where, accepted))


def tell_rows_left_out(plan: Plan) -> None:
    """A line for every reason why rows of a study are left out."""
    rows = (plan.study or {}).get("left_out", [])
    for why in dict.fromkeys(row["why"] for row in rows):
        names = (" ".join(filter(None, row["printed"])) for row in rows if row["why"] == why)
        console.print(escape(f"left out, {why}: {', '.join(names)}"), soft_wrap=True)
