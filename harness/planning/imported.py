"""The plan of maps that come from elsewhere: a cell for every category, scored and not trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.data import maps as files
from harness.data.datasets import open_dataset
from harness.planning import config as configs
from harness.planning.config import ConfigError
from harness.planning.expand import filed, truth_job
from harness.planning.jobs import Job, Place
from harness.planning.plan import Plan
from harness.planning.sources import sources
from harness.store import IDENTITY, title_of
from harness.store.names import Names
from methods.declaration import SETTINGS
from methods.marks import IMPORTED_MAPS
from methods.names import METHODS


@dataclass(frozen=True)
class Imported:
    """Where maps come from, and as what they stand in tables."""

    maps: Path
    name: str  # of the method
    setting: str
    data: str  # folder of the dataset
    variant: str = ""
    dataset: str | None = None  # its name in tables; None: as `--data` would call it
    seed: int = 0
    scores: Path | None = None  # CSV of image scores


def plan(given: Imported, names: Names = Names()) -> Plan:
    """names: of the store that it is for. Raises ConfigError or DataError for whatever cannot be
    scored, with the files named.
    """
    _check(given)
    config = configs.typed(
        configs.on_data({"name": f"import-{given.name}"}, given.data), "relief import"
    )
    config.names = names
    ((name, dataset),) = config.datasets.items()
    name = given.dataset or name
    config.datasets = {name: dataset}
    config.name = "-".join(filter(None, (config.name, given.variant, given.dataset)))
    opened = open_dataset(dataset.kind, dataset.folder(name))
    there = files.categories_of(given.maps)
    if unknown := sorted(set(there) - set(opened.categories)):
        raise ConfigError(
            f"{given.maps} has maps of {', '.join(unknown)}, which {opened.root} has not; it has "
            f"{', '.join(opened.categories)}"
        )
    if not there:
        raise ConfigError(
            f"{given.maps} has no maps: they are expected in <category>/test/<defect>/NNN.tiff"
        )
    scores = files.read_image_scores(given.scores) if given.scores else {}
    if unknown := sorted({str(category) for category, _ in scores} - set(opened.categories)):
        raise ConfigError(
            f"{given.scores} has scores of {', '.join(unknown)}, which {opened.root} has not; it "
            f"has {', '.join(opened.categories)}"
        )
    dataset.categories = there
    jobs: dict[str, Job] = {}
    cells = []
    for category, found in sources(config, name, dataset).items():
        source = filed(found, config, lambda s, c=category: [truth_job(c, s, config).key])
        truth = truth_job(category, source, config)
        ids = [ref.id for ref in opened.category(category).samples("test")]
        paths, faults = files.find_maps(given.maps / category, ids)
        if faults:
            raise ConfigError(f"maps of {category}: {faults}")
        if given.scores:
            files.scores_for(scores, category, ids, given.scores)
        spec = {
            "kind": "cell",
            "method": given.name,
            "setting": given.setting,
            "category": category,
            "seed": given.seed,
            "settings": {},
            "inputs": _fingerprints(given, [paths[id] for id in ids]),
            "maps": "imported",
            "metrics": 1,  # as of every cell
            "needs": {"truth": truth.key},
        }
        inputs = {"maps": str(given.maps)} | ({"scores": str(given.scores)} if given.scores else {})
        identity = (given.name, given.variant, given.setting, name, category, given.seed)
        cell = dict(zip(IDENTITY, identity))
        place = Place(
            labels={"dataset": name, "variant": given.variant},
            inputs=inputs,
            truth=truth.key,
            marks=(IMPORTED_MAPS,),
        )
        job = Job(spec, title_of(cell), place, config.resources_of(given.name))
        jobs |= {truth.key: truth, job.key: job}
        cells.append(cell | {"key": job.key})
    return Plan(config, jobs, cells)


def _check(given: Imported) -> None:
    if not given.maps.is_dir():
        raise ConfigError(f"{given.maps} is no folder: give the one with a folder a category")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", given.name):
        raise ConfigError(f"{given.name!r} is no name for a method: letters, digits, _ . - only")
    if given.name in METHODS and not given.variant:
        raise ConfigError(
            f"{given.name} is a method of this program: say whose maps these are with --variant, "
            "e.g. --variant authors"
        )
    if given.setting not in SETTINGS:
        raise ConfigError(f"unknown setting {given.setting!r}; known: {', '.join(SETTINGS)}")


def _fingerprints(given: Imported, paths: list[Path]) -> dict[str, str]:
    found = {"maps": files.fingerprint_of(paths)}
    if given.scores:
        found["scores"] = files.fingerprint_of([given.scores])
    return found
