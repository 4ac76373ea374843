"""What each kind of job does: make a dataset, prepare a view, fit a stage, fit and score a cell.

A runner fills the job's work folder and returns what its record says of it; `harness/engine/job.py`
adds what all records have.
"""

from __future__ import annotations

import copy
import functools
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import methods
from harness import metrics
from harness.data import synthetic
from harness.data.blind import blind
from harness.data.cache import open_split, open_truth
from harness.data.datasets import open_dataset
from harness.data.origin import origin
from harness.data.samples import Category, DataError
from harness.data.synthetic import generate
from harness.data.truth import build_truth
from harness.data.views import build, quality, registry
from harness.engine import early, kept, scoring
from harness.engine.evaluation import predict_all, validate
from harness.engine.imported import score_imported
from harness.engine.looks import Score, look_at, selected
from harness.engine.measure import Memory, macs, preprocessing, singles, speed_of
from harness.planning.bounds import untrained
from harness.planning.jobs import Job, Resources
from harness.planning.values import set_dotted
from harness.store import PAPER, Record, Spec, Store, influences
from harness.store.origin import DATA, data_of
from harness.store.records import write_curves, write_maps, write_scores
from methods.contract import Progress, Run, Samples, View, seed_for, settings_from
from methods.marks import NOTED, UNTRAINED, VIEW_SUSPECT


@dataclass(frozen=True)
class Task:
    """A job on this machine."""

    job: Job
    store: Store
    device: torch.device
    report: Callable[[Progress], None]
    memory: Memory

    @property
    def spec(self) -> Spec:
        return self.job.about

    @property
    def work(self) -> Path:
        """The folder it fills."""
        return self.store.work(self.job.key)

    def run(self) -> Run:
        """What a method or stage is given."""
        stages = self.spec.needs.stages
        folders = {name: self.store.verified(key).folder for name, key in stages.items()}
        return Run(
            category=self.spec.category or "all",
            seed=self.spec.seed,
            device=self.device,
            folder=self.work,
            report=self.report,
            checkpoint_every_s=self.job.place.checkpoint_every_s,
            stages=folders,
            feeders=feeders(self.device, self.job.resources.cpus),
        )

    def settings(self, cls: Any) -> Any:
        """The settings of a method or stage, with the paths of its inputs where they are here."""
        values = copy.deepcopy(dict(self.spec.settings))
        for dotted, path in self.job.place.inputs.items():
            set_dotted(values, dotted, path)
        return settings_from(cls.Settings, values)

    def notes(self, own: Mapping[str, str]) -> dict[str, str]:
        """Those of the stages it builds on, then its own."""
        found: dict[str, str] = {}
        for key in self.spec.needs.stages.values():
            found |= self.store.finished(key).notes
        return found | dict(own)


def feeders(device: torch.device, cpus: int) -> int:
    """Threads that draw steps ahead: a job's CPUs, but one where the steps need them themselves."""
    return 1 if device.type == "cpu" else max(1, cpus)


class Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.last = time.perf_counter()

    def restart(self) -> None:
        """What was before is in no lap."""
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self.last = now - self.last, now


def make_dataset(task: Task) -> dict[str, Any]:
    clock = Clock()
    # whole, and not published by an attempt that was killed: nothing proves its bytes any more
    shutil.rmtree(task.work / task.spec.category, ignore_errors=True)
    generate.write_category(
        task.work,
        task.spec.category,
        settings_from(synthetic.Spec, task.spec.recipe),
        report=_counted("render", task),
        workers=task.job.resources.cpus,
    )
    clock.lap("render_s")
    return {"timings": clock.laps}


def prepare_view(task: Task) -> dict[str, Any]:
    spec, place, clock = task.spec, task.job.place, Clock()
    if place.twin:
        twin = task.store.verified(place.twin)
        build.link_view(twin.folder, task.work)
        clock.lap("prepare_s")
        known = {"summary": twin.summary, "speed": twin.speed, "twin": twin.key}
        return known | {"timings": clock.laps}
    category, view = _category(task), recipe(spec)
    summary = build.build_view(
        category,
        view,
        task.work,
        report=_counted("prepare", task),
        workers=task.job.resources.cpus,
    )
    clock.lap("prepare_s")
    summary |= {DATA: origin(category)}
    return {"summary": summary, "timings": clock.laps, "speed": preprocessing(category, view)}


def keep_truth(task: Task) -> dict[str, Any]:
    clock, category = Clock(), _category(task)
    summary = build_truth(category, task.work, _counted("truth", task), task.job.resources.cpus)
    clock.lap("truth_s")
    return {"summary": summary | {DATA: origin(category)}, "timings": clock.laps}


def _category(task: Task) -> Category:
    """That of a view or truth, where its files are."""
    spec, place, made = task.spec, task.job.place, task.spec.needs.dataset
    root = task.store.verified(made).folder if made else place.root
    return open_dataset(place.kind, root, **spec.reading).category(spec.category)


def recipe(spec: Spec) -> View:
    """The view that a spec describes."""
    fields = dict(spec.view)
    return settings_from(registry.view_named(fields.pop("name")).recipe, fields)


def run_stage(task: Task) -> dict[str, Any]:
    spec, clock, run = task.spec, Clock(), task.run()
    cls = methods.get(spec.method).stages[spec.stage]
    views_of = spec.needs.views
    prepared = {c: task.store.verified(key) for c, key in views_of.items()}
    if cls.reads == "category":
        ((category, view),) = prepared.items()
        parts = {split: open_split(view.folder, split)[0] for split in build.PARTS}
        data = {
            split: blind(samples, category, view.spec.data, draw=split in build.MASKED).samples
            for split, samples in parts.items()
        }
    else:
        data = {
            c: blind(
                training_samples(view.folder, spec, c)[0], c, view.spec.data, draw=False
            ).samples
            for c, view in prepared.items()
        }
    stage, name = cls(task.settings(cls), run), f"{spec.method} {spec.stage}"
    early.check_unfitted(name, stage)
    with run.checkpoints:
        stage.fit(data)
    clock.lap("fit_s")
    stage.save(task.work)
    return {
        "timings": clock.laps,
        "sizes": early.checked_sizes(name, stage.sizes()),
        "notes": task.notes(early.checked_notes(name, stage.notes())),
    }


def run_cell(task: Task) -> dict[str, Any]:
    spec, place, protocol = task.spec, task.job.place, task.job.place.protocol
    view = task.store.verified(spec.needs.named["view"])
    train, available = training_samples(view.folder, spec, spec.category)
    validation, _ = open_split(view.folder, "validation")
    test, truth = open_truth(view.folder, "test")

    if spec.setting != "rgb":
        check_learnable(view, spec.category)
    early.check_samples({"train": train, "validation": validation, "test": test}, truth)
    kept_maps = list(range(len(test))) if protocol.keep_maps else _examples(truth.defects)
    unknown = blind(test, spec.category, view.spec.data)

    clock = Clock()
    score = functools.partial(
        validate,
        view=view,
        normal=validation,
        size=protocol.batch,
        device=task.device,
    )
    watched = score if len(validation) else None
    normal = [
        blind(samples, spec.category, view.spec.data, draw=False).samples
        for samples in (train, validation)
    ]
    method, before = _fitted(task, clock, normal, truth.masks, len(kept_maps), watched)
    found = predict_all(
        method, unknown, protocol.batch, task.device, task.report, truth.masks.shape[1:]
    )
    clock.lap("predict_s")
    maps, scores = found.maps.numpy(), found.scores.numpy()
    scored = metrics.Scored(scores, truth.labels, maps, truth.masks, spec.category, test.ids)
    scored.check()
    values = scoring.signed(scored, metrics.known_metrics(), maps.shape[1:])
    curves = metrics.curves_of(scored)
    chosen_by = score(method)
    clock.lap("metrics_s")
    at_sensor = scoring.beside(task.store, place.truth, maps, scores, test.ids, view, spec.category)
    clock.lap("common_s")

    sizes: dict[str, int | None] = {**early.checked_sizes(spec.method, method.sizes())}
    notes = task.notes(early.checked_notes(spec.method, method.notes()))
    if without := ", ".join(untrained(method.settings, type(method.settings)())):
        notes |= {"training": f"{UNTRAINED}: {without} of 0"}
    suspect = suspected(view)
    if suspect:
        notes |= {"view": suspect}
    speed: dict[str, Any] | None = None
    if protocol.latency_samples:
        alone = singles(unknown.samples, task.device)
        speed = speed_of(method, alone, view, protocol, task.memory)
        speed["valid"] = _had_all(task.job.resources)
        sizes["macs"] = macs(method.predict, alone[0])

    write_scores(task.work, test.ids, truth.defects, truth.labels, scores)
    influences.write(
        task.work, influences.taken_out({PAPER: values, **at_sensor.get("protocols", {})})
    )
    write_curves(task.work, curves)
    write_maps(task.work, [test.ids[i] for i in kept_maps], maps[kept_maps])
    if protocol.keep_models:
        kept.hand_over(method, task.work)
    return {
        "labels": place.labels,
        **values,
        "validation": chosen_by,
        "selected": selected(task.work, spec.selection),
        **at_sensor,
        "counts": {
            "train": len(train),
            "train_available": available,
            "test": len(test),
            "anomalous": int(truth.labels.sum()),
        },
        DATA: data_of(view),
        "timings": clock.laps,
        "speed": speed,
        "sizes": sizes,
        "notes": notes,
        "marks": _marks(place.marks, notes) + [VIEW_SUSPECT] * bool(suspect),
        "before": before,
    }


def suspected(view: Record) -> str:
    """What the quality of a view makes suspect of what is computed from it; "" if nothing."""
    flags = view.summary.get("quality", {}).get("suspect", ())
    return "; ".join(f"{flag}: {quality.MEANING[flag]}" for flag in flags)


def check_learnable(view: Record, category: str) -> None:
    """Refuses views in whose training samples mostly nothing of an object is left."""
    empty = view.summary.get("quality", {}).get("train_empty", 0)
    count = view.summary["samples"]["train"]
    if 2 * empty > count:
        raise DataError(
            f"in {empty} of {count} training samples of {category} nothing of an object is left in "
            f"the {view.spec.view.get('name')} view, so there is no depth to learn from",
            "set background=auto or plane, or none if the scene is all object; `relief data show "
            "ROOT --view` shows what each makes",
        )


def _fitted(
    task: Task,
    clock: Clock,
    normal: Sequence[Samples],
    masks: np.ndarray,
    maps: int,
    score: Score | None,
) -> tuple[Any, dict[str, Any]]:
    """The cell's method, fitted here or by an attempt that came no further.

    normal: to train on, and to validate with; maps: how many anomaly maps will be stored; score:
    of a method on validation samples, if there are any. -> with it, what that attempt took:
    "fit_s" and "memory", empty if there was none
    """
    spec = task.spec
    cls = methods.get(spec.method)

    def make() -> Any:
        return cls(task.settings(cls), spec.setting, task.run())

    if found := kept.take_up(make, task.store, task.job.key, task.work):
        method, about = found
        clock.lap("load_s")
        clock.laps["fit_s"] = about["fit_s"]
        return method, about
    method = make()
    early.check_unfitted(spec.method, method)
    early.check_space(task.work, masks, maps, method)
    looking = look_at(method, score, task.work, spec.selection, task.job.place.validate_every)
    clock.restart()
    with method.run.checkpoints:
        method.fit(*normal)
    clock.lap("fit_s")
    if looking.looks:
        clock.laps["validate_s"] = looking.seconds
        clock.laps["fit_s"] -= looking.seconds
    if clock.laps["fit_s"] >= kept.KEEP_FROM_S:
        about = {"fit_s": clock.laps["fit_s"], "memory": task.memory.peaks()}
        kept.keep(method, task.work, about)
        clock.lap("keep_s")
    return method, {}


def score_or_run(task: Task) -> dict[str, Any]:
    """A cell: of a method of ours, or maps from elsewhere."""
    if task.spec.imported:
        return score_imported(task.spec, task.job.place, task.store, task.work)
    return run_cell(task)


RUNNERS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "dataset": make_dataset,
    "view": prepare_view,
    "truth": keep_truth,
    "stage": run_stage,
    "cell": score_or_run,
}


def training_samples(folder: Path, spec: Spec, category: str) -> tuple[Samples, int]:
    """The samples to train on, and how many there were to choose from."""
    train, _ = open_split(folder, "train")
    if spec.train_samples is None:
        return train, len(train)
    return few_shot(train, spec.train_samples, category, spec.seed), len(train)


def few_shot(train: Samples, count: int, category: str, seed: int) -> Samples:
    """The first `count` of a permutation of the sorted ids, so 5 samples are among the 10.

    They keep the order they had, so that all of them are the whole split.
    """
    if not 1 <= count <= len(train):
        raise ValueError(f"train_samples is {count}, and {category} has {len(train)} to train on")
    order = np.argsort(np.array(train.ids), kind="stable")
    drawn = np.random.default_rng(seed_for("few_shot", category, seed)).permutation(len(train))
    chosen = np.sort(order[drawn[:count]])
    arrays = {name: array[chosen] for name, array in train.arrays.items()}
    return Samples(arrays, tuple(train.ids[i] for i in chosen))


def _counted(phase: str, task: Task) -> Callable[[int, int], None]:
    return lambda done, total: task.report(Progress(phase, done, total))


def _had_all(resources: Resources) -> bool:
    """Whether the job had the machine's CPUs, and its GPU if any, for itself."""
    whole_gpu = resources.gpus == 0 or resources.gpus >= 1
    return whole_gpu and resources.cpus >= (os.cpu_count() or 1)


def _marks(given: tuple[str, ...], notes: dict[str, str]) -> list[str]:
    """The marks of the configuration, and those that a note names."""
    noted = [mark for mark in NOTED if any(mark in note for note in notes.values())]
    return list(dict.fromkeys([*given, *noted]))


def _examples(defects: tuple[str, ...]) -> list[int]:
    """The middle sample of every defect folder."""
    where: dict[str, list[int]] = {}
    for i, defect in enumerate(defects):
        where.setdefault(defect, []).append(i)
    return sorted(indices[len(indices) // 2] for indices in where.values())
