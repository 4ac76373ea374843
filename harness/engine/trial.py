"""A trial of a sweep: the cells of one point, computed as any launch would, and their scores.

    STORE/sweeps/ID/trials/TRIAL.json

Cells run side by side where there is room, a few at a time. Whichever comes first, what they score
is reported in their order: the looks at the first one's training, its result, the looks at the
second one's. So the same values make the same reports on any machine, and a poor point can end
after the first look.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from harness.engine.driver import Driver
from harness.engine.on_ray import OnRay
from harness.planning.plan import Plan
from harness.planning.space import Sweep, describe
from harness.store import DONE, FAILED, Record, Store
from harness.store.curve import read_looks
from harness.store.sweeps import RUNNING, SweepFolder
from methods.errors import UserError
from methods.validation import Look, chosen

COUNTED = ("cell", "stage")  # kinds of jobs that a trial's effort is counted of
NEAR = 1e-6  # of sums of shares of trainings
OBJECTIVE, TRAINED = "objective", "trained"  # as Tune is told; in thousandths of trainings, since
THOUSANDTHS = 1000  #   its rungs are products, which would miss sums of shares by a rounding
# what promotion.py gives beside the values of a point: whose record it is, trainings to come to
POINT, UNTIL = "relief_point", "relief_until"
Report = Callable[[Mapping[str, float], float], None]  # (means of the metrics, trainings)


def as_told(value: float, trained: float) -> dict[str, float]:
    """A report as Tune is told it. value: of the first metric"""
    return {OBJECTIVE: value, TRAINED: round(THOUSANDTHS * trained)}


def silent(means: Mapping[str, float], trained: float) -> None:
    """A report to nobody."""


class Reached(Exception):
    """A trial has come as far as it was asked to."""


@dataclass(frozen=True)
class Site:
    """What trials compute on: the Ray that is there.

    excluded: nodes that get no jobs; beside: how many cells of a trial run at a time
    """

    excluded: Collection[str] = ()
    beside: int = 1

    def executor(self, plan: Plan) -> OnRay:
        return OnRay(isolation=plan.config.schedule.isolation, joined=True, excluded=self.excluded)


def compute(
    sweep: Sweep,
    trial_id: str,
    values: dict[str, Any],
    store: Store,
    folder: SweepFolder,
    site: Site,
    report: Report = silent,
    since: float | None = None,
    until: float = math.inf,
) -> None:
    """The cells of a point; keeps the trial's record.

    until: trainings after which it ends, not done; a later call goes on from what the store has;
    since: when its jobs may have begun, if before now;
    report: told the means so far and the trainings that they are of; it may raise to end the trial
    """
    before = folder.read_trial(trial_id) or {}
    if before.get("status") == FAILED:  # Tune's next attempt, which is for lost processes
        raise UserError(before["reason"])
    record: dict[str, Any] = {
        "id": trial_id,
        "values": values,
        "settings": describe(values),
        "status": RUNNING,
        "reason": "",
        "started": before.get("started", since or time.time()),
        "ended": None,
        "cells": [],
        "of": 0,
        "trained": 0.0,
        "means": {},
        "reports": before.get("reports", []),  # trainings, mean of the first metric
        "jobs": [],
        "effort": {},
    }
    folder.write_trial(record)
    try:
        plan = sweep.plan(values)
        record["of"] = len(plan.cells)
        record["jobs"] = [
            [key, job.about.kind == "cell", job.resources.gpus]
            for key, job in plan.jobs.items()
            if job.about.kind in COUNTED
        ]
        teller = _Teller(sweep, plan, store, folder, record, report, until)
        wanted = plan.cells[: math.ceil(min(until, len(plan.cells)) - NEAR)]
        for first in range(0, len(wanted), site.beside):
            some = wanted[first : first + site.beside]
            driver = Driver(plan.only(*some), store, site.executor(plan), plan.config.schedule)
            driver.run(lambda running: teller.tell())
            teller.tell()
            teller.check(some)
    except Reached:
        return
    except (ValueError, OSError, RuntimeError) as error:  # settings that do not go together
        record |= {"status": FAILED, "reason": str(error), "ended": time.time()}
        folder.write_trial(record)
        raise


class _Teller:
    """Reports of a trial's cells what is new, in their order."""

    def __init__(
        self,
        sweep: Sweep,
        plan: Plan,
        store: Store,
        folder: SweepFolder,
        record: dict[str, Any],
        report: Report,
        until: float = math.inf,
    ):
        self.sweep, self.plan, self.store = sweep, plan, store
        self.folder, self.record, self.report, self.until = folder, record, report, until
        self.metrics = sweep.objective.metrics
        self.looked = 0  # looks that were told of the cell that is next

    def tell(self) -> None:
        for cell in self.plan.cells[len(self.record["cells"]) :]:
            result = self.store.result(cell["key"]) if self.store.done(cell["key"]) else None
            where = result.folder if result else self.store.progress_file(cell["key"]).parent
            looks = read_looks(where) if self.sweep.inside else []
            for place, look in enumerate(looks):
                # the whole is told by the result
                if place >= self.looked and self.sweep.early.settled <= look.share < 1:
                    self._look(looks[: place + 1])
            if result is None:
                return
            self._end(cell, result)

    def check(self, cells: Collection[Mapping[str, Any]]) -> None:
        """Raise UserError if one of these, which were computed, is not done."""
        for key in (cell["key"] for cell in cells):
            result = self.store.result(key)
            if result is None or not result.done:
                raise UserError(f"{result.title}: {result.reason}" if result else f"no {key}")

    def _look(self, looks: list[Look]) -> None:
        self.looked = len(looks)
        selection = self.plan.config.training
        best = selection.selection == "best_validation"
        seen = chosen(looks, selection.metric) if best else looks[-1]
        scores = {metric: seen.metrics[metric] for metric in self.metrics}
        self._say(len(self.record["cells"]) + looks[-1].share, scores)

    def _end(self, cell: Mapping[str, Any], result: Record) -> None:
        self.looked = 0
        scores = {metric: self.sweep.value(result, metric) for metric in self.metrics}
        done = {"key": cell["key"], "title": result.title, "scores": scores}
        self.record["cells"].append(done)
        if len(self.record["cells"]) == self.record["of"]:
            self.record["status"] = DONE
        self._say(len(self.record["cells"]))

    def _say(self, trained: float, running: Mapping[str, float] | None = None) -> None:
        """running: scores of the cell that is not done yet"""
        scored = [c["scores"] for c in self.record["cells"]] + ([running] if running else [])
        means = {m: sum(s[m] for s in scored) / len(scored) for m in self.metrics}
        self.record |= {"means": means, "trained": trained, "ended": time.time()}
        reports = self.record["reports"]
        if not reports or reports[-1][0] < trained - NEAR:  # of the last call are the same again
            reports.append([trained, means[self.metrics[0]]])
        self.folder.write_trial(self.record)
        self.report(means, trained)
        if self.until - NEAR <= trained < self.record["of"]:
            raise Reached
