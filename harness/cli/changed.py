"""What a plan computes anew because code was changed, and which results of other code are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.markup import escape

from harness.cli.terminal import console
from harness.planning.codes import earlier_codes, of_metrics
from harness.planning.jobs import Job
from harness.planning.plan import Plan
from harness.store import Store


def changes(plan: Plan, store: Store, group: Callable[[Job], str | None]) -> dict[str, Any]:
    """For --json (harness/cli/README.md, section 4). group: what a job to do counts as, else None

    modules: file, its meaning now, jobs to do by it; earlier: codes of these files by which more
    cells are done; metrics: files, whose code stands in signatures and in no key
    """
    modules = []
    for file, meaning in plan.code.items():
        jobs = [job for job in plan.jobs.values() if file in job.about.code]
        anew = Counter(name for job in jobs if (name := group(job)) is not None)
        modules.append({"file": file, "code": meaning, "anew": dict(anew)})
    earlier = [{"codes": dict(e.codes), "cells": e.cells} for e in earlier_codes(plan, store)]
    return {"modules": modules, "earlier": earlier, "metrics": list(of_metrics())}


def tell_changes(found: dict[str, Any]) -> None:
    """What `changes` found, if anything, a line each."""
    if found["metrics"]:
        _tell(
            f"code of the metrics was changed: {', '.join(found['metrics'])}; signatures say so, "
            "and `relief rescore` computes those of finished cells again"
        )
    for one in found["modules"]:
        anew = ", ".join(f"{name} {count}" for name, count in one["anew"].items())
        done = f"anew by it: {anew}" if anew else "all that it computes is done"
        _tell(f"code was changed: {one['file']} (now {one['code']}); {done}")
    for one in found["earlier"]:
        options = " ".join(f"--accept-old {old}" for old in one["codes"].values())
        _tell(
            f"{one['cells']} of these cells are done by {', '.join(one['codes'])} of before: if "
            f"the numbers are the same, {options} takes them"
        )


def _tell(line: str) -> None:
    console.print(escape(line), soft_wrap=True)
