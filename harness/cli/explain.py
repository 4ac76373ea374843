"""relief plan --explain: in what order jobs start, what they reserve, when they should end."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from harness.cli.terminal import console, say, show, table
from harness.cli.times import SOURCES, duration
from harness.planning.costs import Durations, expected
from harness.planning.jobs import Job
from harness.planning.makespan import Slot, bounds, makespan, simulate
from harness.planning.packing import Packing
from harness.planning.plan import Plan
from harness.planning.room import Offer, too_much
from harness.store.alike import Taken
from methods.errors import UserError

SHOWN = 60  # jobs, on a terminal; all of them where it is piped
NODE_GPUS = 8  # of a node, where more are asked for


def explain(
    plan: Plan,
    pending: Sequence[Job],
    taken: Sequence[Taken],
    durations: Durations,
    workers: int | None,
    gpus: int | None,
    memory_gb: float | None,
) -> Order:
    """The schedule of what is to do on such nodes. Raises UserError if a job fits on none.

    workers, gpus, memory_gb: as `machines` takes them
    """
    offers = machines(workers, gpus, memory_gb)
    most = max(offer.memory_gb for offer in offers)
    packing = Packing(plan.config.schedule.packing_margin, lambda r: most)
    packing.learn(taken)
    _check(pending, packing, offers)
    seconds, rank = expected(pending, durations)
    slots = simulate(pending, seconds, offers, rank, packing.reserve)
    sources = Counter(durations.sourced(job)[1] for job in pending)
    assumed = "" if workers or not gpus else " CPUs are as here: --workers says how many."
    return Order(slots, offers, rank, sources, assumed)


def machines(workers: int | None, gpus: int | None, memory_gb: float | None) -> list[Offer]:
    """Nodes with so many CPUs and GPUs in all, of which each has an equal part.

    This machine's own numbers where none is given; of another machine memory is not counted.
    """
    own = workers is None and gpus is None
    there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    gpus = there if gpus is None else gpus
    nodes = max(1, -(-gpus // NODE_GPUS))
    cpus = workers or nodes * (os.cpu_count() or 1)
    if memory_gb is None:
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        memory_gb = here if own else math.inf
    return [
        Offer(cpus // nodes, gpus // nodes + (i < gpus % nodes), memory_gb) for i in range(nodes)
    ]


def _check(pending: Sequence[Job], packing: Packing, offers: Sequence[Offer]) -> None:
    """As `run` does before it starts anything."""
    apart = [job for job in pending if not any(o.fits(packing.reserve(job)) for o in offers)]
    if not apart:
        return
    sizes = Counter(f"{o.cpus:g} CPUs, {o.gpus} GPUs, {o.memory_gb:.1f} GiB" for o in offers)
    there = "; ".join(f"{n} x {size}" if n > 1 else size for size, n in sizes.items())
    why = too_much(packing.reserve(apart[0]), f"the nodes have: {there}")
    raise UserError(
        f"{len(apart)} of {len(pending)} jobs fit on no node, first {apart[0].title!r}: {why}; "
        "--workers, --gpus and --memory ask about another machine"
    )


@dataclass(frozen=True)
class Order:
    """The jobs of a plan in time."""

    slots: Sequence[Slot]
    offers: Sequence[Offer]
    rank: dict[str, float]
    sources: Counter[str]  # of the durations
    assumed: str = ""  # what the user did not say of the nodes, a sentence

    def after(self, slot: Slot) -> float:
        """Seconds of the longest path from the end of a job."""
        return max(0.0, self.rank[slot.job.key] - (slot.end - slot.start))

    def plain(self) -> dict[str, Any]:
        """For --json (harness/cli/README.md, section 4)."""
        least = bounds(self.slots, self.offers)
        return {
            "jobs": [
                {
                    "key": slot.job.key,
                    "title": slot.job.title,
                    "cpus": slot.job.resources.cpus,
                    "gpus": slot.job.resources.gpus,
                    "memory_gb": slot.job.resources.memory_gb,
                    "starts_s": slot.start,
                    "ends_s": slot.end,
                    "path_after_s": self.after(slot),
                }
                for slot in self.slots
            ],
            "nodes": [
                {
                    "cpus": offer.cpus,
                    "gpus": offer.gpus,
                    "memory_gb": None if math.isinf(offer.memory_gb) else offer.memory_gb,
                }
                for offer in self.offers
            ],
            "ends_s": makespan(self.slots),
            "least_s": least.least,
            "longest_path_s": least.path,
            "expected_by": {name: self.sources[name] for name in SOURCES},
        }

    def tell(self) -> None:
        """A row a job, and the sum."""
        if not self.slots:
            console.print("nothing to do")
            return
        numbers = ("", "CPUs", "GPUs", "GiB", "starts", "ends", "after it")
        shown = table("", "job", *numbers[1:], numbers=numbers)
        slots = self.slots[:SHOWN] if console.is_terminal else self.slots
        for i, slot in enumerate(slots, 1):
            r = slot.job.resources
            times = (slot.start, slot.end, self.after(slot))
            amounts = (str(r.cpus), f"{r.gpus:g}", f"{r.memory_gb:g}")
            shown.add_row(str(i), escape(slot.job.title), *amounts, *map(duration, times))
        show(shown)
        if len(self.slots) > len(slots):
            console.print(f"and {len(self.slots) - len(slots)} more (piped, all are printed)")
        console.print("After it: the longest path from a job's end.")
        self.sum_up()

    def sum_up(self) -> None:
        """When it should end, beside what no order is below, and whence the durations are."""
        if not self.slots:
            return
        least = bounds(self.slots, self.offers)
        spent = sum(slot.end - slot.start for slot in self.slots)
        span, sources = makespan(self.slots), self.sources
        known = [f"{sources[name]} {by.told}" for name, by in SOURCES.items() if sources[name]]
        if sources["unknown"]:
            known[-1] += " (only their order means something)"
        say(
            f"{_count(len(self.slots), 'job')}, {duration(spent)} in all; longest path "
            f"{duration(least.path)}; on {_count(sum(o.cpus for o in self.offers), 'CPU')} and "
            f"{_count(sum(o.gpus for o in self.offers), 'GPU')} at least {duration(least.least)}, "
            f"expected [bold]{duration(span)}[/bold] "
            f"({span / least.least if least.least else 1:.2f} of that). Durations: "
            f"{', '.join(known)}.{self.assumed}"
        )


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'s' * (number != 1)}"
