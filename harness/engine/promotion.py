"""Asynchronous successive halving as published (Li et al., 2020, algorithm 2), a searcher of Tune.

A point climbs rungs, counted in trainings. Every climb is a trial of Tune's that goes on from what
the store has of the point and ends at its rung; of `reduction` points that came to a rung, the best
one may climb on. Nothing is paused, so Tune needs no state of it: what is known of the rungs stands
in the records of the points, whatever was killed in between.

Tune's own ASHA is a rule of stopping: a trial whose value is not among the best of those before it
ends, so the first ones, which have nothing before them, come to their end whatever they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.search import Searcher
from ray.tune.search.variant_generator import generate_variants

from harness.engine.trial import NEAR, OBJECTIVE, POINT, THOUSANDTHS, TRAINED, UNTIL


def points_of(space: Mapping[str, Any], times: int, seed: int) -> list[dict[str, Any]]:
    """The points that Tune's own search at random or over a grid would draw. space: of Tune"""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(times):
        found += [
            spec["config"]
            for _, spec in generate_variants({"config": dict(space)}, random_state=rng)
        ]
    return found


def rungs(first: float, reduction: int, whole: int) -> list[float]:
    """Trainings of a point, each rung `reduction` times the one before it, the last all of them."""
    powers = (first * reduction**n for n in itertools.count())
    return [*itertools.takewhile(lambda rung: rung < whole - NEAR, powers), float(whole)]


class Promotion(Searcher):
    """Which point climbs next: the best of a high rung that may, else a new one."""

    def __init__(
        self, points: Sequence[dict[str, Any]], rungs: Sequence[float], reduction: int, sign: int
    ):
        """sign: 1 if higher is better, else -1"""
        super().__init__()
        self.points = {str(n): point for n, point in enumerate(points, 1)}
        self.rungs, self.reduction, self.sign = list(rungs), reduction, sign
        self.seen: list[dict[str, float]] = [{} for _ in rungs]  # of each: point -> value there
        self.sent: dict[str, int] = {}  # the highest rung that each point was sent to
        self.under_way: dict[str, str] = {}  # trial of Tune's -> point

    def known(self, reports: Mapping[str, Sequence[Sequence[float]]]) -> None:
        """Take what points reported before: (trainings, value) of each, in their order."""
        for point, told in reports.items():
            for trained, value in told:
                self._told(point, trained, value)
            if (came := self._came(point)) is not None:
                self.sent[point] = came

    def _told(self, point: str, trained: float, value: float) -> None:
        for rung, values in zip(self.rungs, self.seen):
            if trained >= rung - NEAR:
                values.setdefault(point, value)  # the first report from there on

    def _came(self, point: str) -> int | None:
        return max((k for k, values in enumerate(self.seen) if point in values), default=None)

    def suggest(self, trial_id: str) -> Any:
        """What a trial is given; None to wait, FINISHED if nothing is left."""
        found = self._next()
        if found is None:
            return None if self.under_way else Searcher.FINISHED
        point, rung = found
        self.sent[point] = rung
        self.under_way[trial_id] = point
        return {**self.points[point], POINT: point, UNTIL: self.rungs[rung]}

    def _next(self) -> tuple[str, int] | None:
        last = len(self.rungs) - 1
        for rung in reversed(range(last)):
            for point in self._best(rung)[: len(self.seen[rung]) // self.reduction]:
                if self.sent[point] == rung:
                    return point, rung + 1
        for point in self.points:
            if point not in self.sent:
                return point, 0
        if self.seen[last] or self.under_way:
            return None
        for rung in reversed(range(last)):  # too few to choose one of so many: the best one goes on
            for point in self._best(rung):
                if self.sent[point] == rung:
                    return point, rung + 1
        return None

    def _best(self, rung: int) -> list[str]:
        values = self.seen[rung]
        return sorted(values, key=lambda point: (-self.sign * values[point], int(point)))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        point = result[f"config/{POINT}"]
        self._told(point, result[TRAINED] / THOUSANDTHS, result[OBJECTIVE])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.under_way.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a search that continues is told of the records."""

    def restore(self, checkpoint_path: str) -> None:
        """As `save`."""
