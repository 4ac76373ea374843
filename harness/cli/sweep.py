"""The command that searches settings: relief sweep."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer
from rich.markup import escape

from harness.cli import completion
from harness.cli import reports as cli_reports
from harness.cli.launch import (
    DEFAULT_STORE,
    Address,
    Background,
    Data,
    Gpus,
    StorePath,
    Tracking,
    Workers,
    check_nodes,
    exit_with,
    mirrored,
    split_arguments,
    warn,
)
from harness.cli.terminal import console, show
from harness.cli.terminal import say as print_long
from harness.store import Store
from harness.store.at_work import at_work


def sweep(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP [KEY=VALUE]...",
            autocompletion=completion.shipped("sweeps"),
            help="A YAML file or the name of a shipped sweep, then changes of the sweep "
            "(search.trials=8, base=benchmark) or of its configuration (seeds=[0,1])",
        ),
    ],
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
    workers: Workers = None,
    gpus: Gpus = None,
    address: Address = None,
    tracking: Tracking = None,
) -> None:
    """Search a method's settings with Ray Tune; what was computed before is free."""
    from harness.cli.display import Display
    from harness.cli.searched import live, outcome
    from harness.engine import sweep as sweeps
    from harness.engine.interrupts import interruptible
    from harness.planning.space import load
    from reports.page.sweeps import outcome_text, write_sweep

    loaded = load(*split_arguments(what, "sweep"), data, background)
    where = Store(store)
    where.check_writable()
    loaded.names = where.filed_as
    console.print(
        f"[bold]{escape(loaded.name)}[/bold]: {loaded.search.kind} search over "
        f"{', '.join(loaded.space)}, store {escape(str(where.path))}"
    )

    def say(line: str) -> None:
        console.print(escape(line), soft_wrap=True)

    with interruptible() as check:
        first = loaded.plan({})
        display = Display(console, len(first.pending(where)), loaded.name)
        options = dict(address=address, cpus=workers, gpus=gpus)
        with ExitStack() as last, at_work(where, loaded.id(first), warn):
            mirror = mirrored(where, "sweep", loaded.id(first), tracking)
            last.callback(mirror.stop, first.config.schedule.mlflow_wait_s)
            with live(where, loaded.id(first)):
                folder = sweeps.run(
                    loaded, where, display.listen, say, check, check_nodes, **options
                )
    record, trials = folder.known_record, folder.trials()
    page = folder.path / "sweep.html"
    newest = max(path.stat().st_mtime for path in folder.path.glob("trials/*.json"))
    if not folder.pages_fit or page.stat().st_mtime < newest:  # charts take seconds
        write_sweep(record, trials, folder.path)
        folder.sign()
    show(outcome(record, trials))
    print_long(escape(outcome_text(record, trials)))
    found = conclude(loaded, record, trials, where, tracking)
    console.print(f"Trials      {escape(page.as_uri())}", soft_wrap=True)
    console.print(
        f"Best        relief run {escape(str(folder.path / 'best.yaml'))}", soft_wrap=True
    )
    exit_with([], cli_reports.cleared(where, found))


def conclude(loaded, record: dict, trials: list[dict], store: Store, tracking: str | None):
    """The test scores of the best settings beside those of the unchanged ones, and MLflow."""
    from harness.tracking import sync_sweep

    best = next(trial for trial in trials if trial["id"] == record["best"])
    launch = loaded.plan(best["values"], both=True).record(store)
    console.print("\nTest data, looked at only now:" if loaded.objective.on == "validation" else "")
    found = cli_reports.conclude(store, launch, tracking)
    if tracking != "none":
        try:
            sync_sweep(store, record["id"], tracking, cli_reports.wait_of(launch))
        except Exception as error:  # files are the truth; tracking may be down
            cli_reports.behind(error)
    return found
