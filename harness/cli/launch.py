"""What the commands that compute have in common: their options, and running a plan."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape

from harness.cli import installation
from harness.cli.terminal import console, errors, say
from harness.store import FAILED, Record, Store
from harness.store.at_work import at_work
from methods.errors import UserError

if TYPE_CHECKING:
    from harness.engine.executors import Executor, InProcess
    from harness.engine.on_ray import OnRay
    from harness.planning.jobs import Job
    from harness.planning.plan import Plan
    from harness.tracking import Kind, Mirror

ROOT = Path(__file__).parents[2]  # of this installation
EXIT_FAILED_JOBS = 1
SHOWN_FAILURES = 3  # whose files are named

StorePath = Annotated[
    Path,
    typer.Option(
        "--store",
        envvar="RELIEF_STORE",
        file_okay=False,
        help="Folder of results; made if missing.",
    ),
]
Data = Annotated[
    Optional[str],
    typer.Option(
        help="Folder of a dataset (MVTec 3D-AD, Eyecandies, your own) "
        "instead of the configuration's."
    ),
]
Background = Annotated[
    Optional[str],
    typer.Option(
        help="How the object is told from the rest: auto, plane (objects on any plane), published "
        "(as each paper's code does it), mask (your own, mask/NNN.png), none (all is object)."
    ),
]
Tracking = Annotated[
    Optional[str],
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow tracking URI (default: SQLite in the store); 'none' for no MLflow.",
    ),
]
DEFAULT_STORE = Path("relief-store")
Workers = Annotated[Optional[int], typer.Option(min=1, help="CPUs to use (default: all here).")]
Gpus = Annotated[Optional[int], typer.Option(min=0, help="GPUs to use (default: all here).")]
Address = Annotated[
    Optional[str], typer.Option(help="An existing Ray cluster, e.g. auto or HOST:PORT.")
]
Serial = Annotated[
    bool, typer.Option("--serial", help="One job after another in this process, without Ray.")
]


def split_arguments(
    what: list[str], kind: str, default: str | None = None
) -> tuple[str, list[str]]:
    """(name, overrides) of what a command was given: one NAME among KEY=VALUE."""
    names = [item for item in what if "=" not in item]
    if not names and default is not None:
        names = [default]
    if len(names) != 1:
        raise UserError(f"one {kind} at a time, not {', '.join(names) or 'none'}")
    return names[0], [item for item in what if "=" in item]


def execute(
    plan: Plan,
    store: Store,
    tracking: str | None,
    workers: int | None = None,
    gpus: int | None = None,
    address: str | None = None,
    serial: bool = False,
) -> tuple[dict[str, Any], list[Record]]:
    """Do what a plan still needs, with a display. -> its launch and the records of failed jobs."""
    one_place(address, serial)
    pending = plan.pending(store)
    if pending:
        installation.check_whole("computing jobs")
    store.check_writable()
    with (
        ExitStack() as last,
        at_work(store, plan.launch_id, warn) if pending else nullcontext(),
    ):
        launch = plan.record(store)
        console.print(
            f"[bold]{launch['id']}[/bold]: {len(plan.cells)} cells, {len(pending)} jobs to do"
            f"{_kinds(pending)}, store {escape(str(store.path))}",
            soft_wrap=True,
        )
        tell_left_out(plan)
        if not pending:
            return launch, []
        executor = _executor(plan, store, workers, gpus, address, serial)
        mirror = mirrored(store, "launch", launch["id"], tracking)
        last.callback(mirror.stop, plan.config.schedule.mlflow_wait_s)
        return launch, _drive(plan, store, executor, pending)


def one_place(address: str | None, serial: bool) -> None:
    """UserError for two places to compute at."""
    if address and serial:
        raise UserError(
            "--serial computes in this process, --address on a cluster: give one of them"
        )


def _executor(
    plan: Plan,
    store: Store,
    workers: int | None,
    gpus: int | None,
    address: str | None,
    serial: bool,
) -> Executor:
    """Where jobs run, started; without the nodes that cannot do them."""
    from harness.engine.executors import InProcess
    from harness.engine.on_ray import OnRay

    if serial:
        executor = InProcess()
    else:
        with step(f"joining Ray at {address}" if address else "starting Ray"):
            executor = OnRay(address, workers, gpus, plan.config.schedule.isolation)
    check_nodes(executor, plan, store)
    return executor


def _drive(plan: Plan, store: Store, executor: Executor, pending: list[Job]) -> list[Record]:
    """Do the pending jobs, with a display. -> records of those that failed"""
    from harness.cli.display import Display
    from harness.engine.driver import Driver, Running
    from harness.engine.executors import InProcess, LostError
    from harness.engine.interrupts import interruptible
    from harness.engine.live import Live

    try:
        with (
            Display(console, len(pending), plan.config.name) as display,
            Live(store, plan.launch_id, len(pending)) as live,
            interruptible() as check,
        ):
            driver = Driver(plan, store, executor, plan.config.schedule, display.listen, pending)

            def look() -> None:
                display.tick(driver.running)
                if (left := driver.remaining_s) is not None:
                    display.expect(left)
                live.tell(driver)

            def tick(running: Mapping[str, Running]) -> None:
                check()
                look()

            def meanwhile() -> None:
                driver.read_progress()
                look()

            if isinstance(executor, InProcess):  # there a job keeps the driver from its loop
                executor.meanwhile = meanwhile
            return driver.run(tick).failures
    except LostError as error:
        errors.print(
            f"[red]stopped[/red]: {escape(str(error))}; finished jobs and checkpoints are kept, "
            "the same command goes on",
            soft_wrap=True,
        )
        raise typer.Exit(error.exit_code) from None


def _kinds(jobs: Sequence[Job]) -> str:
    """ " (2 views, 4 cells)" """
    counts = Counter(job.about.kind for job in jobs)
    told = [f"{n} {kind}{'s' * (n > 1)}" for kind, n in counts.items()]
    return f" ({', '.join(told)})" if told else ""


def lone_name(what: Sequence[str] | None) -> str | None:
    """The one word that may name a launch or a sweep; None where a configuration is meant."""
    if not what or len(what) != 1 or "=" in what[0] or Path(what[0]).exists():
        return None
    return what[0]


def warn(line: str) -> None:
    errors.print(f"[yellow]{escape(line)}[/yellow]", soft_wrap=True)


@contextmanager
def step(what: str) -> Generator[None]:
    """Say what is being done before the first job, which may take a while."""
    if console.is_terminal:
        with console.status(f"{what} ..."):
            yield
    else:
        console.print(f"{what} ...")
        yield


def tell_left_out(plan: Plan) -> None:
    """A line about the settings that methods of the configuration do not have, if any."""
    if plan.left_out:
        lacking = (f"{entry} {', '.join(settings)}" for entry, settings in plan.left_out.items())
        say(f"left out, for there is no such setting: {escape('; '.join(lacking))}")


def check_nodes(executor: OnRay | InProcess, plan: Plan, store: Store) -> None:
    """Keep jobs off the nodes of a cluster that cannot do them, and name those."""
    from harness.engine.nodes import admit

    try:
        admit(executor, plan, store, warn)
    except BaseException:
        executor.close()
        raise


def exit_with(failures: list[Record], damaged: Sequence[str] = ()) -> None:
    """Exit code 1 and a line if any job failed, and one for each result that is damaged."""
    for reason in damaged:
        errors.print(f"[red]damaged[/red]: {escape(reason)}", soft_wrap=True)
    if failures:
        errors.print(
            f"[red]{len(failures)} jobs did not finish[/red]; the report lists the reasons, "
            "the same command tries them again"
        )
        raised = [record for record in failures if record.status == FAILED]
        for record in raised[:SHOWN_FAILURES]:
            where = escape(str(record.folder / f"{record.key}.json"))
            errors.print(f"log and traceback: {where}", soft_wrap=True)
    if failures or damaged:
        raise typer.Exit(EXIT_FAILED_JOBS)


def mirrored(store: Store, kind: Kind, name: str, tracking: str | None) -> Mirror:
    """What keeps MLflow current while a launch or a sweep of that name runs, started."""
    from harness.tracking import Mirror

    def say(line: str) -> None:
        errors.print(f"[yellow]MLflow is behind[/yellow]: {escape(line)}", soft_wrap=True)

    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.cli.mlflow import mirror"
    mirror = Mirror(store, kind, name, tracking, [sys.executable, "-c", f"{code}; mirror()"], say)
    mirror.start()
    return mirror
