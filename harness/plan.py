"""From a configuration to the jobs that compute it.

A cell is one row of results; the views, stages and synthetic datasets it needs are jobs of their
own, shared by every cell that needs the same. A job's key is the hash of its `spec` alone; where
things are and how they are run (`place`, `resources`) do not enter it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import methods
from harness import metrics
from harness.config import Config, ConfigError, Dataset, Resources, split_entry, with_overrides
from harness.data import synthetic, views
from harness.data.mvtec3d import count_warnings, fingerprint, open_dataset
from harness.store import Store, canonical, key_of, write_json
from methods.contract import Method, View

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
        sources = dict(_categories(config, dataset_name, dataset))
        for category, source in sources.items():
            for method, variant in entries:
                settings = _settings(config, method, variant)
                cls = methods.get(method)
                view = _view_job(config, dataset, category, source, cls.view(settings))
                for job in filter(None, (source.job, view)):
                    jobs.setdefault(job.key, job)
                for setting in config.settings:
                    for seed in config.seeds:
                        stages = _stage_jobs(config, dataset, sources, cls, settings, setting, seed)
                        for job in itertools.chain.from_iterable(stages.values()):
                            jobs.setdefault(job.key, job)
                        names = (method, variant, setting, dataset_name, category, seed)
                        identity = dict(zip(IDENTITY, names))
                        needs = {f"stage:{name}": chain[-1].key for name, chain in stages.items()}
                        job = _cell_job(config, identity, settings, {"view": view.key, **needs})
                        jobs.setdefault(job.key, job)
                        cells.append({**identity, "key": job.key})
    return Plan(config, jobs, cells)


@dataclass(frozen=True)
class _Source:
    """Where a category comes from: what identifies its content, and how to reach it."""

    identity: str                               # fingerprint, or the key of the job that makes it
    place: dict = field(default_factory=dict)
    job: Job | None = None


def _categories(config: Config, name: str, dataset: Dataset) -> list[tuple[str, _Source]]:
    if dataset.kind == "synthetic":
        wanted = _wanted(name, dataset, tuple(synthetic.CATEGORIES))
        return [(c, _synthetic(config, name, dataset, c)) for c in wanted]
    opened = open_dataset(dataset.root, dataset.nonfinite)
    for line in count_warnings(opened):
        log.warning(line)
    place = {"root": str(opened.root), "nonfinite": dataset.nonfinite}
    wanted = _wanted(name, dataset, opened.categories)
    return [(c, _Source(fingerprint(opened.category(c)), place)) for c in wanted]


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
    return _Source(job.key, job=job)


def _settings(config: Config, method: str, variant: str) -> Any:
    settings = config.options[method]
    for part in filter(None, variant.split("+")):
        overrides = methods.get(method).variants[part]
        settings = with_overrides(settings, overrides, f"{method}/{part}")
    return settings


def _view_job(
    config: Config, dataset: Dataset, category: str, source: _Source, recipe: View
) -> Job:
    recipe = replace(recipe, background=dataset.background)
    spec = {
        "kind": "view",
        "version": views.VERSION,
        "data": source.identity,
        "category": category,
        "view": {"name": recipe.name, **_plain(recipe)},
        "needs": {"dataset": source.job.key} if source.job else {},
    }
    title = f"prepare {category} for {recipe.name}"
    return Job(spec, title, source.place, config.resources_of("view"))


def _stage_jobs(
    config: Config, dataset: Dataset, sources: dict[str, _Source], cls: type[Method],
    settings: Any, setting: str, seed: int,
) -> dict[str, list[Job]]:  # fmt: skip
    """The stages a cell builds on: name -> the jobs each needs in order, the stage itself last."""
    chains = {}
    for name, options in cls.stage_settings(settings, setting).items():
        stage = cls.stages[name]
        chain, needs = [], {}
        if stage.reads == "train":
            for category, source in sources.items():
                view = _view_job(config, dataset, category, source, stage.view(options))
                chain += filter(None, (source.job, view))
                needs[f"view:{category}"] = view.key
        options, inputs, paths = _without_paths(options, stage.inputs(options))
        spec = {
            "kind": "stage",
            "method": cls.name,
            "stage": name,
            "version": stage.version,
            "seed": seed,
            "settings": options,
            "inputs": inputs,
            "needs": needs,
        }
        place = {"inputs": paths, "checkpoint_every_s": config.schedule.checkpoint_every_s}
        resources = config.resources_of(cls.name)
        chains[name] = [*chain, Job(spec, f"{cls.name} stage {name} {seed}", place, resources)]
    return chains


def _without_paths(settings: Any, inputs: Mapping[str, Path | None]) -> tuple[dict, dict, dict]:
    """-> plain settings without the paths in them, the paths' fingerprints, the paths."""
    plain = _plain(settings)
    for dotted in inputs:
        *groups, name = dotted.split(".")
        functools.reduce(dict.__getitem__, groups, plain)[name] = None
    paths = {name: path for name, path in inputs.items() if path}
    fingerprints = {name: tree_fingerprint(path) for name, path in paths.items()}
    return plain, fingerprints, {name: str(path) for name, path in paths.items()}


def _cell_job(config: Config, identity: dict, settings: Any, needs: dict[str, str]) -> Job:
    method = methods.get(identity["method"])
    settings, inputs, paths = _without_paths(settings, method.inputs(settings, identity["setting"]))
    spec = {
        "kind": "cell",
        "method": method.name,
        "version": method.version,
        "setting": identity["setting"],
        "category": identity["category"],
        "seed": identity["seed"],
        "settings": settings,
        "inputs": inputs,
        "metrics": metrics.VERSION,
        "needs": needs,
    }
    place = {
        "labels": {"dataset": identity["dataset"], "variant": identity["variant"]},
        "inputs": paths,
        "protocol": asdict(config.protocol),
        "checkpoint_every_s": config.schedule.checkpoint_every_s,
        "marks": ["demo"] if config.demo else [],
    }
    title = " ".join(str(identity[k]) for k in IDENTITY if identity[k] != "")
    return Job(spec, title, place, config.resources_of(method.name))


def tree_fingerprint(path: Path) -> str:
    """Hash of a file's content, or of a folder's listing: relative names, sizes, times of change."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    if path.is_file():
        return _checksum(path, path.stat().st_mtime_ns)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        stat = file.stat()
        digest.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@functools.cache
def _checksum(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    names = (spec.get(name) for name in ("method", "stage", "setting"))
    return (spec["kind"], *names, train)
