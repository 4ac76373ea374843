"""relief plan --explain: in what order jobs start, what they reserve, when they should end."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from harness.cli.display import duration
from harness.cli.terminal import console
from harness.planning.costs import expected, forecast
from harness.planning.makespan import Slot, bounds, makespan, simulate
from harness.planning.packing import Packing
from harness.planning.plan import Plan
from harness.planning.room import Offer
from harness.store import Store

SHOWN = 60  # jobs, on a terminal; all of them where it is piped
NODE_GPUS = 8  # of a node, where more are asked for


def explain(plan: Plan, store: Store, workers: int | None, gpus: int | None) -> None:
    """Print the schedule of what is to do on so many CPUs and GPUs, by default this machine's."""
    pending, taken = plan.pending(store), list(store.taken())
    offers = machines(workers, gpus)
    packing = Packing(plan.config.schedule.packing_margin, lambda r: offers[0].memory_gb)
    packing.learn(taken)
    durations = forecast(plan, taken)
    seconds, rank = expected(pending, durations)
    slots = simulate(pending, seconds, offers, rank, packing.reserve)
    sources = Counter(durations.sourced(job)[1] for job in pending)
    _table(slots, rank)
    _summary(slots, offers, sources)


def machines(workers: int | None, gpus: int | None) -> list[Offer]:
    """Nodes with so many CPUs and GPUs in all; each has an equal part, and this machine's memory.

    This machine's own numbers where none is given.
    """
    there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    gpus = there if gpus is None else gpus
    nodes = max(1, -(-gpus // NODE_GPUS))
    cpus = workers or nodes * (os.cpu_count() or 1)
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        Offer(cpus // nodes, gpus // nodes + (i < gpus % nodes), memory_gb) for i in range(nodes)
    ]


def _table(slots: list[Slot], rank: dict[str, float]) -> None:
    table = Table("", "job", "CPUs", "GPUs", "GiB", "starts", "ends", "path after it")
    for column in table.columns[2:]:
        column.justify = "right"
    shown = slots[:SHOWN] if console.is_terminal else slots
    for i, slot in enumerate(shown, 1):
        r = slot.job.resources
        times = (slot.start, slot.end, rank[slot.job.key] - (slot.end - slot.start))
        amounts = (str(r.cpus), f"{r.gpus:g}", f"{r.memory_gb:g}")
        table.add_row(str(i), escape(slot.job.title), *amounts, *map(duration, times))
    console.print(table)
    if len(slots) > len(shown):
        console.print(f"and {len(slots) - len(shown)} more (piped, all are printed)")


def _summary(slots: list[Slot], offers: list[Offer], sources: Counter[str]) -> None:
    if not (pending := sources.total()):
        console.print("nothing to do")
        return
    least = bounds(slots, offers)
    spent = sum(slot.end - slot.start for slot in slots)
    expected = makespan(slots)
    console.print(
        f"{len(slots)} jobs, {duration(spent)} in all; longest path {duration(least.path)}; on "
        f"{sum(o.cpus for o in offers):g} CPUs and {sum(o.gpus for o in offers)} GPUs at least "
        f"{duration(least.least)}, expected [bold]{duration(expected)}[/bold] "
        f"({expected / least.least if least.least else 1:.2f} of that). "
        f"Durations: {sources['measured']} measured of jobs alike, {sources['model']} by "
        f"what they compute, {sources['guess']} guessed"
        f"{' (of which only the order means something)' if sources['guess'] else ''}.",
        soft_wrap=True,
    )
    if len(slots) < pending:
        console.print(
            f"[yellow]{pending - len(slots)} jobs fit on no such node[/yellow], or need one that "
            "does not: --gpus and --workers say what there is",
            soft_wrap=True,
        )
