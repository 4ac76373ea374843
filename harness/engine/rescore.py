"""Score finished cells again from what they stored: any metric, limit or resolution, without a fit.

Cells that lack something are light tasks of the same executors as jobs are; what they find lies
beside the cell's record (harness/store/rescored.py). Done twice, the second time does nothing.
"""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from harness import metrics
from harness.data.cache import open_truth
from harness.data.truth import SensorTruth, read_truth
from harness.engine import scoring
from harness.engine.code import admit_plugins, fingerprint, refusal
from harness.engine.driver import Driver
from harness.engine.executors import CRASHED, Executor, InProcess
from harness.engine.outcomes import REFUSED, Outcome, one_line
from harness.metrics import Metric
from harness.metrics.outside import join as join_metrics
from harness.metrics.registry import CURVES, MAPS
from harness.planning.expand import again
from harness.planning.jobs import Job, Place, Resources
from harness.planning.plan import Plan
from harness.store import (
    COMMON,
    DAMAGED,
    DONE,
    FAILED,
    PAPER,
    SKIPPED,
    DamagedError,
    Record,
    Store,
    influences,
)
from harness.store.prepared import INDEX, MASK
from harness.store.rescored import keep, scores_of
from methods import plugins
from methods.errors import UserError

ATTEMPTS = 3  # of a cell whose worker goes away


@dataclass(frozen=True)
class Ended:
    """What came of a cell."""

    key: str
    title: str
    status: str
    reason: str = ""


def lacking(
    record: Record, protocol: str, wanted: Sequence[Metric], anew: bool = False
) -> list[Metric]:
    """The metrics that a finished cell lacks in a protocol, or has in another version.

    Also those of which no interval can be shown, where that can be mended from its maps.
    """
    missing = metrics.lacking(wanted, {} if anew else scores_of(record, protocol).signatures)
    if not _keeps_all(record):
        return missing
    known = influences.influences_of(record, protocol)
    bare = [m for m in wanted if m.weighted and not m.of_images and m.name not in known]
    return [m for m in wanted if m in missing or m in bare]


def _keeps_all(record: Record) -> bool:
    return record.maps_kept == record.counts.get("test")


def jobs_for(
    store: Store,
    launch: Mapping[str, Any],
    records: Sequence[Record],
    wanted: Sequence[Metric],
    protocols: Sequence[str],
    anew: bool = False,
) -> list[Job]:
    """One for every cell that lacks something, with what a worker needs to know.

    Raises UserError where the ground truth of a cell is neither in the store nor to be had.
    """
    described = plugins.described(plugins.offers("metrics"))
    truths = _Truths(store, launch)
    jobs = []
    for record in records:
        asked = {p: some for p in protocols if (some := lacking(record, p, wanted, anew))}
        if not asked:
            continue
        names = {protocol: [metric.name for metric in some] for protocol, some in asked.items()}
        at_sensor = [p for p in asked if p != PAPER or record.spec.imported]
        pixels = any(not metric.of_images for p in at_sensor for metric in asked[p])
        place = Place(truth=truths.key_of(record) if pixels else "", plugins=described)
        spec = {"kind": "rescore", "cell": record.key, "protocols": names}
        jobs.append(Job(spec, record.title, place, Resources()))
    return jobs


class _Truths:
    """The ground truths of a launch's cells, of their records or as its configuration has them."""

    def __init__(self, store: Store, launch: Mapping[str, Any]):
        self.store, self.launch = store, launch

    def key_of(self, record: Record) -> str:
        if record.truth and self.store.done(record.truth):
            return record.truth
        view = record.spec.needs.view
        seen = self.store.finished(view).spec.values if view else {}
        if (found := self.planned.get((seen.get("data", ""), record.spec.category))) is None:
            raise UserError(
                f"the ground truth of {record.title} is not in the store, and the data of its "
                "launch are not those that it was computed from any more"
            )
        return found

    @cached_property
    def planned(self) -> dict[tuple[str, str], str]:
        """(identity of the data, category) -> key of the ground truth"""
        jobs, found = self.plan.jobs, {}
        for cell in self.plan.cells:
            job = jobs[cell["key"]]
            for view in filter(None, [job.about.needs.view]):
                found[jobs[view].spec["data"], cell["category"]] = job.place.truth
        return found

    @cached_property
    def plan(self) -> Plan:
        try:
            return again(self.launch, self.store.filed_as)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(
                "the ground truth of finished cells is not in the store and cannot be read from "
                f"the data: {error}"
            ) from error


def lay_truths(
    store: Store, launch: Mapping[str, Any], jobs: Sequence[Job], executor: Executor | None
) -> None:
    """Compute the ground truths that are not in the store yet. executor: None for this process

    Raises UserError if one cannot be had.
    """
    missing = {job.place.truth for job in jobs if job.place.truth}
    missing = {key for key in missing if not store.done(key)}
    if not missing:
        return
    plan = _Truths(store, launch).plan
    wanted = plan.with_needs(sorted(missing))
    plan = replace(plan, jobs=wanted, cells=[], asked=frozenset(missing))
    summary = Driver(plan, store, executor or InProcess(), plan.config.schedule).run()
    if summary.failures:
        raise UserError("; ".join(f"{one.title}: {one.reason}" for one in summary.failures))


def rescore(
    store: Store,
    jobs: Iterable[Job],
    executor: Executor,
    listen: Callable[[Ended], None] = lambda ended: None,
) -> list[Ended]:
    """Do these jobs. listen: told of each as it ends. Raises as the executor does.

    executor: with `rescore_cell` as its task; it is left open
    """
    waiting, running = deque(jobs), dict[str, Job]()
    attempts, found = Counter[str](), []
    if waiting:
        executor.check(waiting[0].resources)
    while waiting or running:
        while waiting and len(running) < _at_once(executor):
            job = waiting.popleft()
            running[job.key], attempts[job.key] = job, attempts[job.key] + 1
            executor.submit(job, str(store.path), attempts[job.key])
        for outcome in executor.poll(0.5):
            job = running.pop(outcome.key)
            if outcome.status == REFUSED:
                executor.exclude(outcome)
                waiting.append(job)
            elif outcome.status == CRASHED and attempts[job.key] < ATTEMPTS:
                waiting.append(job)
            else:
                ended = Ended(job.spec["cell"], job.title, outcome.status, outcome.reason)
                listen(ended)
                found.append(ended)
    return found


def _at_once(executor: Executor) -> int:
    """Two for every CPU, so that none waits for the next."""
    return 2 * max(1, int(sum(min(offer.cpus, offer.jobs) for offer in executor.offers)))


def rescore_cell(description: dict[str, Any], store_path: str, attempt: int = 1) -> Outcome:
    """A worker's part: score one cell and keep what was found beside its record."""
    given = description["place"].get("plugins", {})
    if why := refusal(description, store_path) or admit_plugins(given, store_path):
        return Outcome(description["key"], REFUSED, why)
    join_metrics(tell=False)
    job, store = Job.of(description), Store(store_path)
    failures: dict[str, str] = {}
    try:
        with warnings.catch_warnings(), store.lock(job.spec["cell"]):
            warnings.simplefilter("ignore", UserWarning)  # failures are told, reports tell the rest
            record = store.finished(job.spec["cell"])
            for protocol, names in job.spec["protocols"].items():
                wanted = [metrics.get(name) for name in names]
                found = scored(store, record, protocol, wanted, job.place.truth)
                influences.keep(record, influences.taken_out({protocol: found}))
                keep(record, protocol, found, fingerprint())
                failures |= found.get("failures", {})
    except DamagedError as error:
        return Outcome(job.key, DAMAGED, error.advice)
    except NotKeptError as error:
        return Outcome(job.key, SKIPPED, str(error))
    except Exception as error:  # of this cell; the others go on
        return Outcome(job.key, FAILED, one_line(error))
    if failures:
        return Outcome(job.key, FAILED, "; ".join(f"{m}: {why}" for m, why in failures.items()))
    return Outcome(job.key, DONE)


class NotKeptError(ValueError):
    """A cell does not have what a metric needs."""


def scored(
    store: Store, record: Record, protocol: str, wanted: Sequence[Metric], truth: str
) -> dict[str, Any]:
    """Metrics and signatures of a finished cell, from its stored scores, maps and curves.

    truth: key of the ground truth at the sensor's pixels. Raises NotKeptError, DamagedError.
    """
    name = record.spec.category
    table = record.scores()
    if table is None:
        raise NotKeptError("its image scores are not in the store")
    ids, labels = table["id"].to_pylist(), table["label"].to_numpy()
    scores = table["score"].to_numpy()
    needs = {metric.needs for metric in wanted}
    resolution: Any = "none"
    given: dict[str, Any] = {}
    if protocol == PAPER and MAPS not in needs and not (CURVES in needs and _keeps_all(record)):
        if CURVES in needs:
            curves = record.curves()
            if curves is None:
                raise NotKeptError("its PRO curve is not in the store")
            given["curve"] = curves["fpr_100"], curves["pro_100"]
            resolution = _paper_size(record)
    elif needs & {CURVES, MAPS}:
        maps = record.maps()
        if maps is None or set(maps.ids) != set(ids):
            kept = 0 if maps is None else len(maps.ids)
            raise NotKeptError(
                f"{kept} of its {len(ids)} maps were kept: these metrics need all "
                "(protocol.keep_maps=true, another store or a new seed computes them)"
            )
        values = _ordered(maps, ids)
        if protocol != PAPER or record.spec.imported:
            ground = read_truth(store.verified(truth).folder)
            _check_size(protocol, ground)
            view, at = _view(store, record), COMMON if protocol == PAPER else protocol
            found = scoring.common(values, scores, ids, view, ground, name, at, wanted)
            # at the files' own pixels, which are the sensor's
            return scoring.resigned(found, values.shape[1:]) if protocol == PAPER else found
        given = {"maps": values, "masks": _masks(store, record, ids)}
        resolution = values.shape[1:]
    found = metrics.Scored(scores, labels, name=name, ids=ids, **given)
    found.check()
    return scoring.signed(found, wanted, resolution)


def _check_size(protocol: str, truth: SensorTruth) -> None:
    """Raise NotKeptError if a protocol asks for more pixels than the sensor has."""
    longest = scoring.longest_of(protocol) if protocol != PAPER else None
    there = min(max(size) for size in truth.sizes)
    if longest and longest > there:
        raise NotKeptError(
            f"its images have {there} px on the longer side, and {protocol} only shrinks: "
            f"{COMMON} scores at all their pixels"
        )


def _ordered(maps: Any, ids: Sequence[str]) -> np.ndarray:
    """Stored maps in the order of the scores."""
    if list(maps.ids) == list(ids):
        return maps.values
    return maps.values[[maps.at[id] for id in ids]]


def _view(store: Store, record: Record) -> Record | None:
    key = record.spec.needs.view
    return store.finished(key) if key else None


def _paper_size(record: Record) -> str:
    """The resolution that its own scores were computed at, as its signatures say."""
    for signature in record.signatures.values():
        for part in signature.split("|"):
            if part.startswith("res:") and not part.startswith("res:sensor"):
                return part.removeprefix("res:")
    return "native"


def _masks(store: Store, record: Record, ids: Sequence[str]) -> np.ndarray:
    """The masks of its view (n, H, W), in the order of the scores."""
    if (view := _view(store, record)) is None:
        raise NotKeptError("it has no view, so no protocol but the common one")
    view.check_contents(f"test/{INDEX}", f"test/{MASK}.npy")
    _, truth = open_truth(view.folder, "test")
    if list(truth.ids) == list(ids):
        return truth.masks
    at = {id: i for i, id in enumerate(truth.ids)}
    return truth.masks[[at[id] for id in ids]]
