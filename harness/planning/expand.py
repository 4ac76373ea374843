"""From a configuration to its plan: every job that it takes, each after those it needs."""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import methods
from harness.data import datasets, views
from harness.data.views import recipes
from harness.planning import codes
from harness.planning.config import Config, ConfigError, Dataset, check_supported, typed
from harness.planning.jobs import Job, Place
from harness.planning.plan import Plan
from harness.planning.sources import Source, background, layout, sources, validation_counts
from harness.planning.values import plain, set_dotted
from harness.store import IDENTITY, canonical, key_of, title_of
from harness.store.names import Names
from methods import marks, plugins
from methods.declaration import DeclaredMethod, DeclaredStage, Preparation, View
from methods.errors import UserError
from methods.fitness import check_view

log = logging.getLogger(__name__)


def build(config: Config, names: Names = Names()) -> Plan:
    """Expand a configuration. Reads the datasets' listings, and each file of theirs once.

    names: of the store that the plan is for
    Raises ConfigError or DataError (a ValueError) for anything that would fail later for sure.
    """
    config = copy.copy(config)
    config.names = names
    _check_folders(config)
    _check_inputs(config)
    _check_selection(config)
    _tell_of_names(config)
    jobs: dict[str, Job] = {}
    cells: list[dict] = []
    for name, dataset in config.datasets.items():
        expansion = _Expansion(config, name, dataset, jobs)
        for category in expansion.sources:
            for entry in config.methods:
                method, variant = config.split(entry)
                for setting in config.supported(entry):
                    for seed in config.seeds:
                        identity = (method, variant, setting, name, category, seed)
                        cells.append(expansion.cell(dict(zip(IDENTITY, identity))))
    if not cells:
        check_supported(config, config.methods[0])
    return Plan(config, jobs, cells, left_out=_left_out(config))


def _left_out(config: Config) -> dict[str, list[str]]:
    """Method or variant -> the settings asked for that it does not have."""
    lacking: dict[str, list[str]] = {
        entry: [s for s in config.settings if s not in config.supported(entry)]
        for entry in config.methods
    }
    return {entry: settings for entry, settings in lacking.items() if settings}


def again(launch: Mapping[str, Any], names: Names) -> Plan:
    """The plan that a launch's configuration makes now. Raises as `build`, and KeyError.

    names: of the launch's store
    """
    return build(typed(copy.deepcopy(dict(launch["config"])), launch["id"]), names)


def _check_folders(config: Config) -> None:
    """Refuse datasets that are not there before anything is said of weights."""
    for name, dataset in config.datasets.items():
        if dataset.kind != "synthetic" and not Path(dataset.folder(name)).is_dir():
            layout(name, dataset)  # says what was looked for


def missing_inputs(config: Config) -> list[str]:
    """What textures and weights are missing, and what would do."""
    missing: dict[str, None] = {}
    for entry in config.methods:
        method, variant = config.split(entry)
        cls, settings = methods.declared(method), config.settings_of(method, variant)
        for setting in config.supported(entry):
            try:
                cls.inputs(settings, setting)
                for name, options in cls.stage_settings(settings, setting).items():
                    cls.stages[name].inputs(options)
            except (ValueError, OSError) as error:
                if methods.offered(method) and not isinstance(error, UserError | OSError):
                    raise  # a bug of the plug-in's own
                missing[str(error)] = None
    return list(missing)


def _check_inputs(config: Config) -> None:
    """Name all textures and weights that are missing at once."""
    if missing := missing_inputs(config):
        lines = missing if len(missing) == 1 else [f"- {text}" for text in missing]
        if len(config.methods) > 1:
            lines.append("Or leave methods out: methods=[...]")
        raise ConfigError("\n".join(lines))


def _check_selection(config: Config) -> None:
    """Refuse the choice of a step where no method has any; tell of those that have none."""
    if config.training.selection != "best_validation":
        return
    asked = dict.fromkeys(config.split(entry)[0] for entry in config.methods)
    without = [method for method in asked if not methods.declared(method).validates]
    if len(without) == len(asked):
        able = (name for name in methods.METHODS if methods.declared(name).validates)
        raise ConfigError(
            f"training.selection=best_validation: {', '.join(without)} "
            f"{'is' if len(without) == 1 else 'are'} not trained in steps within a cell, so there "
            f"is nothing to choose: leave it out, or add a method that is ({', '.join(able)})"
        )
    for method in without:
        _tell(
            f"training.selection=best_validation: {method} is not trained in steps within a cell, "
            "so its last state is all there is"
        )


def _tell_of_names(config: Config) -> None:
    asked = {config.split(entry)[0] for entry in config.methods}
    for one in methods.shadowed():
        if one.part in asked:
            _tell(str(one))


@functools.cache  # once
def _tell(warning: str) -> None:
    log.warning("%s", warning)


def _check_validation(config: Config, name: str, dataset: Dataset) -> None:
    lacking = [c for c, count in validation_counts(config, name, dataset).items() if not count]
    if lacking:
        raise ConfigError(
            f"{name}/{lacking[0]} has no validation samples to choose a step by: put normal ones "
            "into validation/good, or take training.selection=last"
        )


GIVEN = ("plane", "mask", "none")  # backgrounds that are not the published ones


class _Expansion:
    """Adds the jobs of one dataset to `jobs`, and gives their keys."""

    def __init__(self, config: Config, name: str, dataset: Dataset, jobs: dict[str, Job]):
        self.config, self.name, self.dataset, self.jobs = config, name, dataset, jobs
        self.layout = layout(name, dataset)
        self.read: dict[str, dict[str, Source]] = {}  # reader's options -> the sources
        self.made: dict[str, str] = {}  # what a view consists of -> the first one's key
        self.edited: set[str] = set()  # keys of jobs of whose own code, or below, some was changed
        self.old: set[str] = set()  # ... some has results of earlier code counted as its own
        self.known: dict[tuple, Any] = {}  # what many cells have in common, made once
        self.sources = self._sources(Preparation())
        if config.training.selection == "best_validation":
            _check_validation(config, name, dataset)

    def _prepared(self, cls: type[DeclaredMethod]) -> Preparation:
        """How the method's authors prepared such data, unless something is given for all."""
        given = self.dataset.eyecandies.geometry or self.dataset.background in GIVEN
        return Preparation() if given else cls.prepared.get(self.layout, Preparation())

    def _sources(self, prepared: Preparation) -> dict[str, Source]:
        """The categories, read so."""
        how = canonical(dict(prepared.reading))
        if how not in self.read:
            found = sources(self.config, self.name, self.dataset, prepared.reading)
            named = {c: filed(s, self.config, self._keys_of(c)) for c, s in found.items()}
            self.read[how] = named
        return self.read[how]

    def cell(self, identity: dict) -> dict:
        """A row of results: its identity and its job's key."""
        category, setting, seed = (identity[name] for name in ("category", "setting", "seed"))
        cls = methods.declared(identity["method"])
        offer = methods.offered(identity["method"])
        asked = (identity["method"], identity["variant"], setting)
        shown, stages, version, (settings, inputs, paths) = self._once(self._asked, *asked)
        needs = {"view": self._view(cls, category, shown)}
        needs |= {
            f"stage:{name}": self._stage(cls, name, options, category, seed)
            for name, options in stages.items()
        }
        spec = (
            {
                "kind": "cell",
                "method": cls.name,
                "version": version,
                "setting": setting,
                "category": category,
                "seed": seed,
                "settings": settings,
                "inputs": inputs,
                "metrics": 1,  # of every key; the metrics' own versions are in their signatures
                "needs": needs,
            }
            | self._limit(self._train_samples(cls))
            | self.config.numerics.plain()
            | _code_of(self._changed(codes.of_method, cls.name, offer), plugin=offer)
        )
        training = self.config.training
        if selected := cls.validates and training.selection == "best_validation":
            spec["selection"] = {"metric": training.metric, "every": training.every}
        truth = self._once(self._truth, category)
        old = self._takes_old(codes.of_method, cls.name, offer) or self._on_old(spec, truth)
        place = Place(
            labels={"dataset": identity["dataset"], "variant": identity["variant"]},
            inputs=paths,
            plugins=_plugins(offer, recipes.offered(type(shown)), *plugins.offers("metrics")),
            truth=truth,
            protocol=self.config.protocol,
            checkpoint_every_s=self.config.schedule.checkpoint_every_s,
            validate_every=(training.validate_every or 0.0) if cls.validates else 0.0,
            marks=self._marks()
            + (marks.BEST_VALIDATION,) * selected
            + (marks.EDITED,) * self._edited(spec)
            + (marks.OLD_CODE,) * old,
        )
        key = self._add(spec, title_of(identity), place, cls.name)
        # also of results that were there before anybody said so
        return {**identity, "key": key} | ({"marks": [marks.OLD_CODE]} if old else {})

    def _once(self, make: Callable[..., Any], *of: Any) -> Any:
        """What `make` gives of this, made at the first call; settings are told apart as objects."""
        key = (make.__name__, *(one if isinstance(one, str | int) else id(one) for one in of))
        if key not in self.known:
            self.known[key] = of, make(*of)  # with `of`, so that no other object gets its id
        return self.known[key][1]

    def _asked(self, method: str, variant: str, setting: str) -> tuple[View, dict, int, tuple]:
        """A method's view, its stages' settings, its version, and its settings without paths."""
        cls, settings = methods.declared(method), self.config.settings_of(method, variant)
        plain_ones = _without_paths(settings, cls.inputs(settings, setting))
        stages = cls.stage_settings(settings, setting)
        return cls.view(settings, setting), stages, cls.version_of(settings), plain_ones

    def _stage(
        self, cls: type[DeclaredMethod], name: str, options: Any, category: str, seed: int
    ) -> str:
        """category: that of the cell that builds on it."""
        seed = seed if cls.stages[name].seeded else 0
        return self._once(self._new_stage, cls, name, options, category, seed)

    def _new_stage(
        self, cls: type[DeclaredMethod], name: str, options: Any, category: str, seed: int
    ) -> str:
        stage = cls.stages[name]
        read = {"nothing": [], "train": list(self.sources), "category": [category]}[stage.reads]
        needs: dict[str, str] = {}
        for c in read:
            if (recipe := stage.view(options)) is None:
                raise ConfigError(f"{cls.name} {name} reads {stage.reads} data but names no view")
            needs[f"view:{c}"] = self._view(cls, c, recipe)
        for under, below in stage.stage_settings(options).items():
            if stage.reads == "train" and cls.stages[under].reads == "category":
                for c in read:
                    needs[f"stage:{under}/{c}"] = self._stage(cls, under, below, c, seed)
            else:
                needs[f"stage:{under}"] = self._stage(cls, under, below, category, seed)
        limit = None
        if stage.reads == "train":
            limit = self._train_samples(cls, stage.few_shot)
            self._check_stage(stage, options, limit)
        settings, inputs, paths = _without_paths(options, stage.inputs(options))
        spec = {
            "kind": "stage",
            "method": cls.name,
            "stage": name,
            "version": stage.version_of(options),
            "seed": seed,
            "settings": settings,
            "inputs": inputs,
            "needs": needs,
        }
        spec |= self._limit(limit) | self.config.numerics.plain()
        offer = methods.offered(cls.name)
        by = codes.of_stage, cls.name, stage, offer
        spec |= _code_of(self._changed(*by), plugin=offer)
        every_s = self.config.schedule.checkpoint_every_s
        place = Place(inputs=paths, plugins=_plugins(offer), checkpoint_every_s=every_s)
        of = f" {category}" if stage.reads == "category" else ""
        title = f"{cls.name} {name}{of}{f' {seed}' if stage.seeded else ''}"
        return self._add(spec, title, place, cls.name, self._takes_old(*by))

    def _check_stage(self, stage: type[DeclaredStage], options: Any, limit: int | None) -> None:
        counts = [min(source.train, limit or source.train) for source in self.sources.values()]
        if not all(counts):  # another fault, told by the job that reads the category
            return
        if fault := stage.fault(options, sum(counts)):
            raise ConfigError(f"{self.name}: {fault}")

    def _keys_of(self, category: str) -> Callable[[Source], Iterator[str]]:
        """Keys of what is made of a category first: its ground truth, and views of the methods."""

        def keys(source: Source) -> Iterator[str]:
            yield truth_job(category, source, self.config).key
            for entry in self.config.methods:
                method, variant = self.config.split(entry)
                cls, settings = methods.declared(method), self.config.settings_of(method, variant)
                for setting in self.config.supported(entry):
                    _, spec = self._view_spec(cls, category, cls.view(settings, setting), source)
                    yield key_of(spec)

        return keys

    def _view(self, cls: type[DeclaredMethod], category: str, recipe: View) -> str:
        return self._once(self._new_view, cls, category, recipe)

    def _new_view(self, cls: type[DeclaredMethod], category: str, recipe: View) -> str:
        source = self._sources(self._prepared(cls))[category]
        if source.job:
            self.jobs.setdefault(source.job.key, source.job)
        recipe, spec = self._view_spec(cls, category, recipe, source)
        offer = recipes.offered(type(recipe))
        made = canonical([category, (recipe.same_as or type(recipe)).name, plain(recipe)])
        first = self.made.setdefault(made, key_of(spec))
        place = replace(source.place, plugins=_plugins(offer, source.offer))
        place = place if first == key_of(spec) else replace(place, twin=first)
        old = self._takes_old(codes.of_view, recipe, _reader(source), (offer, source.offer))
        old = old or (source.job is not None and self._takes_old(codes.of_dataset))
        return self._add(spec, f"prepare {category} for {recipe.name}", place, "view", old)

    def _view_spec(
        self, cls: type[DeclaredMethod], category: str, recipe: View, source: Source
    ) -> tuple[View, dict[str, Any]]:
        """The recipe for these data, and the description of the job that follows it."""
        check_view(cls, recipe)
        changes = dict(self._prepared(cls).view)
        behind = changes.pop("background", background(self.dataset, self.layout))
        recipe = replace(recipe.on(behind), **changes)
        spec = {
            "kind": "view",
            "version": views.VERSION,
            "data": source.identity,
            "reading": source.reading,
            "category": category,
            "view": {"name": recipe.name, **plain(recipe)},
            "needs": {"dataset": source.job.key} if source.job else {},
        }
        offers = (recipes.offered(type(recipe)), source.offer)
        changed = self._changed(codes.of_view, recipe, _reader(source), offers)
        return recipe, spec | _code_of(changed, plugin=offers[0], reader=offers[1])

    def _truth(self, category: str) -> str:
        source = self.sources[category]
        if source.job:
            self.jobs.setdefault(source.job.key, source.job)
        job = truth_job(category, source, self.config)
        self.jobs.setdefault(job.key, job)
        if self._takes_old(codes.of_truth, _reader(source), source.offer):
            self.old.add(job.key)
        return job.key

    def _train_samples(self, cls: type[DeclaredMethod], few_shot: bool = True) -> int | None:
        """How many of each category are trained on: asked for, or the most that was published.

        None: all. few_shot: False: not the few that were asked for
        """
        if few_shot and (count := self.dataset.train_samples) is not None:
            return count
        most = self._prepared(cls).train_samples
        fewest = min(source.train for source in self.sources.values())
        return most if most is not None and most < fewest else None

    def _edited(self, spec: Mapping[str, Any]) -> bool:
        """Whether a job, or one that it builds on, has code of ours that is not as declared."""
        below = spec.get("needs", {}).values()
        return "code" in spec or any(
            key in self.edited or "code" in self.jobs[key].spec for key in below
        )

    def _changed(self, of: Callable[..., dict[str, str]], *about: Any) -> dict[str, str]:
        """What was changed of the code of a job. of, about: of harness/planning/codes.py"""
        return of(*about, self.config.names.code)

    def _takes_old(self, of: Callable[..., dict[str, str]], *about: Any) -> bool:
        """Whether results of earlier code count as those of this (`--accept-old`)."""
        same = self.config.names.code
        return bool(same) and of(*about, same) != of(*about, {})

    def _on_old(self, spec: Mapping[str, Any], *more: str) -> bool:
        """Whether that is so of a job that it builds on. more: keys of others"""
        return not self.old.isdisjoint([*spec.get("needs", {}).values(), *more])

    @staticmethod
    def _limit(count: int | None) -> dict:
        return {} if count is None else {"train_samples": count}

    def _marks(self) -> tuple[str, ...]:
        count = self.dataset.train_samples
        few = () if count is None else (marks.few_shot(count),)
        return (marks.DEMO,) * self.config.demo + few

    def _add(self, spec: dict, title: str, place: Place, resources: str, old: bool = False) -> str:
        """old: whether results of earlier code count as its own"""
        job = Job(spec, title, place, self.config.resources_of(resources))
        key = job.key
        self.jobs.setdefault(key, job)
        if self._edited(spec):
            self.edited.add(key)
        if old or self._on_old(spec):
            self.old.add(key)
        return key


def _code_of(changed: Mapping[str, str], **offers: plugins.Offer | None) -> dict[str, Any]:
    """For a spec: our modules that are not as declared (harness/planning/codes.py), and the code
    of the plug-ins that have a part in it. Nothing where all is ours and as declared.
    """
    own = {"code": dict(changed)} if changed else {}
    return own | {name: offer.code for name, offer in offers.items() if offer}


def _reader(source: Source) -> str:
    """The module that reads a category's files."""
    layout = datasets.layout_of(source.place.kind)
    return getattr(layout, "__name__", "") or type(layout).__module__


def _plugins(*offers: plugins.Offer | None) -> dict[str, str]:
    return plugins.described([offer for offer in offers if offer])


def filed(source: Source, config: Config, keys: Callable[[Source], Iterable[str]]) -> Source:
    """A category under the name by which the store of `config.names` has it.

    That is its content, unless an earlier version filed it by its listing: then what was made of it
    is there under that name. keys: of what is made of a source first. Adds such a name to
    `config.names`.
    """
    names, content, listing = config.names, source.place.content, source.place.listing
    if source.job:
        return source
    name = names.data.get(content)
    if name is None and names.jobs and listing not in names.data.values():
        before = replace(source, identity=listing)
        name = listing if any(key in names.jobs for key in keys(before)) else None
    if name is None:
        return source
    config.names = replace(names, data={**names.data, content: name})
    return replace(source, identity=name)


def truth_job(category: str, source: Source, config: Config) -> Job:
    """The ground truth at the sensor's pixels, shared by all methods of a category."""
    changed = codes.of_truth(_reader(source), source.offer, config.names.code)
    spec = {
        "kind": "truth",
        "version": views.TRUTH_VERSION,
        "data": source.identity,
        "reading": source.reading,
        "category": category,
        "needs": {"dataset": source.job.key} if source.job else {},
    } | _code_of(changed, reader=source.offer)
    place = replace(source.place, plugins=_plugins(source.offer))
    return Job(spec, f"ground truth of {category}", place, config.resources_of("view"))


def _without_paths(settings: Any, inputs: Mapping[str, Path | None]) -> tuple[dict, dict, dict]:
    """-> plain settings without the paths in them, the paths' fingerprints, the paths."""
    values = plain(settings)
    for dotted in inputs:
        set_dotted(values, dotted, None)
    paths = {name: path for name, path in inputs.items() if path}
    fingerprints = {name: tree_fingerprint(path) for name, path in paths.items()}
    return values, fingerprints, {name: str(path) for name, path in paths.items()}


def tree_fingerprint(path: Path) -> str:
    """Hash of a file's content, or of a folder's listing: names, sizes, times of change."""
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
