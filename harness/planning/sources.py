"""Where the categories of a dataset come from, and what identifies their content."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.data import datasets, mvtec3d, synthetic
from harness.data.content import contents
from harness.data.datasets import count_warnings, open_dataset
from harness.data.samples import fingerprint
from harness.planning import codes
from harness.planning.config import Config, ConfigError, Dataset
from harness.planning.jobs import Job, Place
from harness.planning.values import plain
from methods.plugins import Offer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a category comes from: what identifies its content, and how to reach it."""

    identity: str  # that of its content, or the key of the job that makes it
    reading: dict[str, Any]  # how its files are read: the layout's Options
    place: Place  # kind of dataset; root, unless a job makes it
    train: int  # training samples
    job: Job | None = None
    offer: Offer | None = None  # the plug-in that reads it


def layout(name: str, dataset: Dataset) -> str:
    """How its files lie: "mvtec3d", "folder" or "eyecandies"."""
    if dataset.kind == "synthetic":
        return dataset.synthetic.layout
    return open_dataset(dataset.kind, dataset.folder(name)).kind


def sources(
    config: Config, name: str, dataset: Dataset, published: Mapping[str, Any] | None = None
) -> dict[str, Source]:
    """The wanted categories of a dataset. Reads its listing, and each file once (content.py).

    published: how a method's authors read it (methods/declaration.py: Preparation)
    """
    if dataset.kind == "synthetic":
        wanted = _wanted(name, dataset, tuple(synthetic.CATEGORIES))
        return {c: _synthetic(config, name, dataset, c, published or {}) for c in wanted}
    root = dataset.folder(name)
    opened = open_dataset(dataset.kind, root)
    offer = datasets.offered(opened.kind)
    reading = _reading(name, dataset, opened.kind, published or {})
    opened = open_dataset(opened.kind, root, **reading)
    for line in count_warnings(opened):
        log.warning(line)
    place = Place(kind=opened.kind, root=str(opened.root))
    found = {}
    wanted = [opened.category(c) for c in _wanted(name, dataset, opened.categories)]
    for category, content in zip(wanted, contents(wanted, config.tell)):
        c = category.name
        train, test = (len(category.examine(split)[0]) for split in ("train", "test"))
        _check_few(name, dataset, c, train)
        about = dict(samples=train, tested=test, listing=fingerprint(category), content=content)
        found[c] = Source(content, reading, replace(place, **about), train, None, offer)
    return found


def background(dataset: Dataset, kind: str) -> str:
    """The recipe's word for what a configuration wants (methods.declaration.BACKGROUNDS)."""
    asked = dataset.background
    if asked == "auto":
        return "plane" if kind in ("mvtec3d", "eyecandies") else "auto"  # as published
    return {"published": "plane", "plane": "support"}.get(asked, asked)


def validation_counts(config: Config, name: str, dataset: Dataset) -> dict[str, int]:
    """Category -> how many normal validation samples it has."""
    if dataset.kind == "synthetic":
        found = sources(config, name, dataset)
        return {c: synthetic_recipe(name, dataset, c).counts(c)["validation/good"] for c in found}
    opened = open_dataset(dataset.kind, dataset.folder(name))
    wanted = _wanted(name, dataset, opened.categories)
    return {c: len(opened.category(c).examine("validation")[0]) for c in wanted}


def _reading(
    name: str, dataset: Dataset, kind: str, published: Mapping[str, Any]
) -> dict[str, Any]:
    """What besides its files determines the samples of a category."""
    if kind not in datasets.KINDS:
        return datasets.reading(kind, dataset.options)
    if dataset.options:
        raise ConfigError(f"datasets.{name}.options are those of a plug-in's reader, not of {kind}")
    if kind != "eyecandies":
        options = mvtec3d.Options(
            dataset.nonfinite, dataset.scale, dataset.max_depth, dataset.colour_bits
        )
        later = {"max_depth": options.max_depth, "colour_bits": options.colour_bits}
        used = {name: value for name, value in later.items() if value}  # keys before them stay
        return {"nonfinite": options.nonfinite, "scale": options.scale} | used
    if dataset.eyecandies.geometry == "m3dm" and dataset.background != "none":
        raise ConfigError(
            f"datasets.{name}: eyecandies.geometry=m3dm has removed the conveyor already; "
            "set background=none"
        )
    return asdict(dataset.eyecandies.reading(published))


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


def synthetic_recipe(name: str, dataset: Dataset, category: str) -> synthetic.Spec:
    """What the generator is asked for: the preset with the given changes."""
    given: dict[str, Any] = {k: v for k, v in asdict(dataset.synthetic).items() if v is not None}
    preset = given.pop("preset")
    if preset not in synthetic.PRESETS:
        known = ", ".join(synthetic.PRESETS)
        raise ConfigError(f"datasets.{name}.synthetic.preset: no {preset!r}; known: {known}")
    try:
        return replace(synthetic.PRESETS[preset], **given, categories=(category,))
    except ValueError as error:
        raise ConfigError(f"datasets.{name}.synthetic: {error}") from error


def _synthetic(
    config: Config, name: str, dataset: Dataset, category: str, published: Mapping[str, Any]
) -> Source:
    recipe = synthetic_recipe(name, dataset, category)
    spec = {
        "kind": "dataset",
        "generator": synthetic.VERSION,
        "category": category,
        "recipe": plain(recipe),
    }
    if changed := codes.of_dataset(config.names.code):
        spec["code"] = changed
    job = Job(spec, f"make {name}/{category}", resources=config.resources_of("dataset"))
    counts = recipe.counts(category)
    train = counts["train/good"]
    test = sum(count for split, count in counts.items() if split.startswith("test/"))
    _check_few(name, dataset, category, train)
    reading = _reading(name, dataset, recipe.layout, published)
    return Source(
        job.key, reading, Place(kind=recipe.layout, samples=train, tested=test), train, job
    )
