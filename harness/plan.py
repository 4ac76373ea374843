"""From a configuration to the jobs that compute it.

A cell is one row of results; the views and synthetic datasets it needs are jobs of their own,
shared by every cell that needs the same. A job's key is the hash of its `spec` alone; where
things are and how they are run (`place`, `resources`) do not enter it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import methods
from harness import metrics
from harness.config import Config, ConfigError, Dataset, Resources, split_entry, with_overrides
from harness.data import mvtec3d, synthetic, views
from harness.data.datasets import count_warnings, open_dataset
from harness.data.samples import fingerprint
from harness.store import Store, canonical, key_of, write_json

log = logging.getLogger(__name__)

IDENTITY = ("method", "variant", "setting", "dataset", "category", "seed")


@dataclass(frozen=True)
class Job:
    """A piece of work. Equal keys are the same work, on any machine and for any launch."""

    spec: dict                                  # determines the result; plain JSON
    title: str
    place: dict = field(default_factory=dict)   # paths and manners; never changes the result
    resources: Resources = field(default_factory=Resources)

    @property
    def key(self) -> str:
        return key_of(self.spec)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(self.spec.get("needs", {}).values())


@dataclass
class Plan:
    """Jobs in an order in which every job comes after those it needs, and the cells among them."""

    config: Config
    jobs: dict[str, Job]
    cells: list[dict]                           # IDENTITY and "key", in the leaderboard's order

    @property
    def launch_id(self) -> str:
        """The same work under the same name is the same launch, however often it is started."""
        text = ",".join(cell["key"] for cell in self.cells)
        return f"{self.config.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def pending(self, store: Store) -> list[Job]:
        """Jobs still to do: cells without a result and whatever they need that is not there."""
        wanted: set[str] = set()
        for key in reversed(self.jobs):         # a job comes after its needs, so walk backwards
            job = self.jobs[key]
            if (job.spec["kind"] == "cell" or key in wanted) and not store.done(key):
                wanted |= {key, *job.needs}
        return [job for key, job in self.jobs.items() if key in wanted and not store.done(key)]

    def launch(self) -> dict:
        """What the store keeps of this launch; reports and tracking start from it."""
        return {
            "id": self.launch_id,
            "name": self.config.name,
            "demo": self.config.demo,
            "started": time.time(),
            "cells": self.cells,
            "config": self.config.plain(),
        }

    def record(self, store: Store) -> dict:
        """Write the launch's description if it is new; returns the one in the store."""
        path = store.path / "launches" / f"{self.launch_id}.json"
        launch = self.launch()
        known = next((old for old in store.launches() if old["id"] == launch["id"]), None)
        if known:
            launch["started"] = known["started"]
        if known != launch:
            write_json(path, launch)
        return launch


def build(config: Config) -> Plan:
    """Expand a configuration. Reads the datasets' listings, never their content.

    Raises ConfigError or DataError (a ValueError) for anything that would fail later for sure.
    """
    jobs: dict[str, Job] = {}
    cells: list[dict] = []
    entries = [split_entry(entry) for entry in config.methods]
    for dataset_name, dataset in config.datasets.items():
        for category, source in _categories(config, dataset_name, dataset):
            for method, variant in entries:
                settings = _settings(config, method, variant)
                view = _view_job(config, dataset, category, source, methods.get(method), settings)
                for job in filter(None, (source.job, view)):
                    jobs.setdefault(job.key, job)
                for setting in config.settings:
                    for seed in config.seeds:
                        names = (method, variant, setting, dataset_name, category, seed)
                        identity = dict(zip(IDENTITY, names))
                        job = _cell_job(config, dataset, identity, settings, view)
                        jobs.setdefault(job.key, job)
                        cells.append({**identity, "key": job.key})
    return Plan(config, jobs, cells)


@dataclass(frozen=True)
class _Source:
    """Where a category comes from: what identifies its content, and how to reach it."""

    identity: str                               # fingerprint, or the key of the job that makes it
    reading: dict                               # how its files are read: the layout's Options
    place: dict                                 # kind of dataset; root, unless a job makes it
    job: Job | None = None


def _categories(config: Config, name: str, dataset: Dataset) -> list[tuple[str, _Source]]:
    if dataset.kind == "synthetic":
        wanted = _wanted(name, dataset, tuple(synthetic.CATEGORIES))
        return [(c, _synthetic(config, name, dataset, c)) for c in wanted]
    opened = open_dataset(dataset.kind, dataset.root)
    reading = _reading(name, dataset, opened.kind)
    opened = open_dataset(opened.kind, dataset.root, **reading)
    for line in count_warnings(opened):
        log.warning(line)
    place = {"kind": opened.kind, "root": str(opened.root)}
    found = [(c, opened.category(c)) for c in _wanted(name, dataset, opened.categories)]
    if dataset.train_samples:
        for c, category in found:
            _check_few(name, dataset, c, len(category.examine("train")[0]))
    return [(c, _Source(fingerprint(category), reading, place)) for c, category in found]


def _reading(name: str, dataset: Dataset, kind: str) -> dict:
    """What besides its files determines the samples of a category."""
    if kind != "eyecandies":
        return asdict(mvtec3d.Options(dataset.nonfinite, dataset.scale))
    if dataset.eyecandies.geometry == "m3dm" and dataset.background == "plane":
        raise ConfigError(
            f"datasets.{name}: eyecandies.geometry=m3dm has removed the conveyor already; "
            "set background=none"
        )
    return asdict(dataset.eyecandies)


def _check_few(name: str, dataset: Dataset, category: str, available: int) -> None:
    # Nothing to list is another fault, which the job that reads the category explains.
    if dataset.train_samples and 0 < available < dataset.train_samples:
        raise ConfigError(
            f"datasets.{name}.train_samples is {dataset.train_samples}, and {category} has "
            f"{available} samples to train on: give at most that, or leave it out to take all"
        )


def _wanted(name: str, dataset: Dataset, known: tuple[str, ...]) -> list[str]:
    if dataset.categories is None:
        return list(known)
    if missing := [c for c in dataset.categories if c not in known]:
        raise ConfigError(
            f"datasets.{name}.categories: no {', '.join(missing)}"
            f"{f' in {dataset.root}' if dataset.root else ''}; there are {', '.join(known)}"
        )
    if not dataset.categories:
        raise ConfigError(f"datasets.{name}.categories is empty: leave it out to take all")
    return list(dataset.categories)


def _synthetic(config: Config, name: str, dataset: Dataset, category: str) -> _Source:
    given = {k: v for k, v in asdict(dataset.synthetic).items() if v is not None}
    preset = given.pop("preset")
    if preset not in synthetic.PRESETS:
        known = ", ".join(synthetic.PRESETS)
        raise ConfigError(f"datasets.{name}.synthetic.preset: no {preset!r}; known: {known}")
    try:
        recipe = replace(synthetic.PRESETS[preset], **given, categories=(category,))
    except ValueError as error:
        raise ConfigError(f"datasets.{name}.synthetic: {error}") from error
    spec = {
        "kind": "dataset",
        "generator": synthetic.VERSION,
        "category": category,
        "recipe": _plain(recipe),
    }
    job = Job(spec, f"make {name}/{category}", resources=config.resources_of("dataset"))
    _check_few(name, dataset, category, recipe.counts(category)["train/good"])
    reading = _reading(name, dataset, recipe.layout)
    return _Source(job.key, reading, {"kind": recipe.layout}, job)


def _settings(config: Config, method: str, variant: str) -> Any:
    settings = config.options[method]
    if not variant:
        return settings
    return with_overrides(settings, methods.get(method).variants[variant], f"{method}/{variant}")


def _view_job(
    config: Config, dataset: Dataset, category: str, source: _Source, method: Any, settings: Any
) -> Job:
    recipe = replace(method.view(settings), background=dataset.background)
    spec = {
        "kind": "view",
        "version": views.VERSION,
        "data": source.identity,
        "reading": source.reading,
        "category": category,
        "view": {"name": recipe.name, **_plain(recipe)},
        "needs": {"dataset": source.job.key} if source.job else {},
    }
    title = f"prepare {category} for {recipe.name}"
    return Job(spec, title, source.place, config.resources_of("view"))


def _cell_job(
    config: Config, dataset: Dataset, identity: dict, settings: Any, view: Job
) -> Job:
    method = methods.get(identity["method"])
    spec = {
        "kind": "cell",
        "method": method.name,
        "version": method.version,
        "setting": identity["setting"],
        "category": identity["category"],
        "seed": identity["seed"],
        "settings": _plain(settings),
        "inputs": {name: tree_fingerprint(path) for name, path in method.inputs(settings).items()},
        "metrics": metrics.VERSION,
        "needs": {"view": view.key},
    }
    marks = ["demo"] if config.demo else []
    if dataset.train_samples is not None:
        spec["train_samples"] = dataset.train_samples
        marks.append(f"{dataset.train_samples}-shot")
    place = {
        "labels": {"dataset": identity["dataset"], "variant": identity["variant"]},
        "protocol": asdict(config.protocol),
        "checkpoint_every_s": config.schedule.checkpoint_every_s,
        "marks": marks,
    }
    title = " ".join(str(identity[k]) for k in IDENTITY if identity[k] != "")
    return Job(spec, title, place, config.resources_of(method.name))


def tree_fingerprint(path: Path) -> str:
    """Hash of a file's or folder's listing: relative names, sizes and times of change."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _plain(value: Any) -> dict:
    """A settings dataclass as plain JSON values: tuples become lists."""
    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(k): plain(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return [plain(v) for v in item]
        return item

    return plain(asdict(value))


def estimate(plan: Plan, store: Store) -> dict[str, float | None]:
    """Seconds each pending job may take, from finished jobs alike in this store; None: no idea."""
    seconds = defaultdict(list)
    for result in store.results():
        if result["status"] == "done":
            seconds[_alike(result["spec"])].append(result["timings"]["total_s"])
    means = {alike: sum(values) / len(values) for alike, values in seconds.items()}
    return {job.key: means.get(_alike(job.spec)) for job in plan.pending(store)}


def _alike(spec: dict) -> tuple:
    train = canonical(spec.get("settings", {}).get("train"))
    return (spec["kind"], spec.get("method"), spec.get("setting"), train)
