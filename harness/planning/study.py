"""Studies: a published table as a configuration of what computes its rows.

    paper: m3dm
    table: Table 6              # as in reports/published
    rows:
      - {methods: [m3dm], settings: [rgb+3d]}
      - {methods: [m3dm], settings: [rgb+3d], train_samples: 5, printed: shot_5}

Rows are cells like any others: what a benchmark or another study computed is not computed again.
A row has a protocol of its own: `train_samples`, options of the dataset (`data: {eyecandies.light:
4}`), settings of methods and their views (`set: {m3dm.prep.pad: false}`), and `weights`, settings
whose published file is part of the protocol: taken where it lies in RELIEF_WEIGHTS. The command
line goes before them, but for `train_samples`: a row is what it is printed as. `printed` is the
variant's name in reports/published where it is not that of ours. How a printed value compares with
ours is told by reports/published/comparison.csv.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from harness.planning import config as configs
from harness.planning.config import ConfigError
from harness.planning.entries import nested
from harness.planning.expand import build, missing_inputs
from harness.planning.plan import Plan
from harness.store import IDENTITY
from harness.store.names import Names
from methods import published
from methods.names import printed_name

DEMO, FULL = "demo", "benchmark"
NOT_ASKED = "not asked for"


@dataclass
class Rows:
    """Rows that are computed alike."""

    methods: list[str]
    settings: list[str]
    train_samples: Optional[int] = None  # few-shot
    data: dict[str, Any] = field(default_factory=dict)  # options of the dataset, dotted
    set: dict[str, Any] = field(default_factory=dict)  # settings of methods, dotted
    weights: list[str] = field(default_factory=list)  # settings that take the authors' file
    printed: Optional[str] = None

    def names(self, entry: str, setting: str) -> tuple[str, str, str]:
        """(method_key, variant, setting) of the published row that an entry computes."""
        method, _, variant = entry.partition("/")
        return (*printed_name(method, self.printed or variant, setting), setting)


@dataclass
class Unmet:
    """Values of the table that no row computes, and why."""

    reason: str
    variant: str = ""
    metrics: list[str] = field(default_factory=list)  # none: all


@dataclass
class Study:
    paper: str
    table: str
    rows: list[Rows]
    dataset: str = "mvtec3d"
    unmet: list[Unmet] = field(default_factory=list)

    def printed_names(self) -> set[tuple[str, str, str]]:
        """(method_key, variant, setting) of every published row that it computes."""
        return {
            rows.names(entry, setting)
            for rows in self.rows
            for entry in rows.methods
            for setting in rows.settings
        }


def read(name: str) -> Study:
    """The study of that name ("m3dm/table4") or YAML file."""
    path = configs.find(name, "studies")
    try:
        return configs.structured(Study, configs.plain_values(path))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def is_study(name: str) -> bool:
    """Whether a study is meant where a configuration could be, too."""
    if name in configs.shipped():
        return False
    try:
        return {"paper", "table"} <= set(configs.plain_values(configs.find(name, "studies")))
    except ConfigError:  # whoever reads it as a configuration says what is wrong
        return False


def plan(
    name: str,
    overrides: Sequence[str] = (),
    data: str | None = None,
    background: str | None = None,
    base: str = FULL,
    names: Names = Names(),
) -> Plan:
    """All rows of a study as one plan; its launch says which published row each cell stands for.

    overrides: as of a configuration; methods and settings choose among the rows. Rows of other
    methods than the paper's whose inputs are missing are left out, and said to be. names: of the
    store that it is for.
    """
    study = read(name)
    given = _Given(study, name, overrides, data, background, base)
    jobs: dict[str, Any] = {}
    cells: dict[tuple, dict] = {}
    config = None
    entries, settings = {}, {}  # of all rows
    for rows in study.rows:
        found: list[dict] = []
        for asked in given.asked(rows):
            part = build(given.configuration(asked), names)
            config = config or part.config
            entries |= dict.fromkeys(asked.methods)
            settings |= dict.fromkeys(asked.settings)
            jobs |= part.jobs
            found += part.cells
        for cell in sorted(found, key=_place(found, rows)):
            printed = list(rows.names(_entry(cell), cell["setting"])[:2])
            identity = tuple(cell[part] for part in IDENTITY)
            cells.setdefault(identity, cell | {"printed": printed})
    if config is None:
        raise ConfigError(given.nothing())
    config = copy.copy(config)
    config.methods, config.settings = list(entries), list(settings)
    about = {"name": name, "paper": study.paper, "table": study.table, "dataset": study.dataset}
    left_out = [{"printed": list(row), "why": why} for row, why in given.left_out.items()]
    about |= {"left_out": left_out, "sets": any(rows.set for rows in study.rows)}
    return Plan(config, jobs, list(cells.values()), about)


@dataclass
class _Given:
    """What a command asks of a study, and what of its rows that leaves out."""

    study: Study
    name: str
    overrides: Sequence[str]
    data: str | None
    background: str | None
    base: str

    def __post_init__(self):
        changes = configs.merge({}, {}, self.overrides)
        self.methods = self._choice(
            changes, "methods", {m for r in self.study.rows for m in r.methods}
        )
        self.settings = self._choice(
            changes, "settings", {s for r in self.study.rows for s in r.settings}
        )
        self.left_out: dict[tuple[str, str, str], str] = {}  # published row -> why

    def _choice(self, changes: dict[str, Any], key: str, known: set[str]) -> list[str] | None:
        """What was asked for by `key`; None: everything. Raises ConfigError."""
        if (wanted := changes.get(key)) is None:
            return None
        wanted = [str(item) for item in (wanted if isinstance(wanted, list) else [wanted])]
        names = known | {item.partition("/")[0] for item in known}
        if unknown := [item for item in wanted if item not in names]:
            raise ConfigError(
                f"{self.name} has no row of {', '.join(unknown)}; {key} of its rows: "
                f"{', '.join(sorted(known))}"
            )
        return wanted

    def asked(self, rows: Rows) -> list[Rows]:
        """What was asked for of the rows and can be computed, by the authors' files at hand."""
        parts: dict[tuple, list[str]] = {}  # settings, weights -> entries
        for entry in rows.methods:
            by_weights: dict[tuple, list[str]] = {}
            for setting in rows.settings:
                one = replace(rows, methods=[entry], settings=[setting])
                one.weights = [dotted for dotted in rows.weights if _lies(dotted, setting)]
                if why := self._why_not(one):
                    self.left_out[rows.names(entry, setting)] = why
                else:
                    by_weights.setdefault(tuple(one.weights), []).append(setting)
            for weights, settings in by_weights.items():
                parts.setdefault((tuple(settings), weights), []).append(entry)
        return [
            replace(rows, methods=entries, settings=list(settings), weights=list(weights))
            for (settings, weights), entries in parts.items()
        ]

    def _why_not(self, one: Rows) -> str:
        """Why a row of one entry and setting is left out; empty: it is computed.

        For want of inputs are rows of other methods than the paper's, not asked for by name.
        """
        (entry,), (setting,) = one.methods, one.settings
        method = entry.partition("/")[0]
        if self.settings is not None and setting not in self.settings:
            return NOT_ASKED
        if self.methods is not None:
            return "" if {entry, method} & set(self.methods) else NOT_ASKED
        lacking = [] if method == self.study.paper else missing_inputs(self.configuration(one))
        return f"{NOT_ASKED}: {lacking[0].split(':')[0]}" if lacking else ""

    def configuration(self, rows: Rows) -> configs.Config:
        given = configs.read(self.base, (), self.data, self.background)
        for dotted, value in rows.set.items():
            given = configs.merge(given, nested(dotted, value))
        for dotted in rows.weights if self.base == FULL else ():  # they fit no narrow networks
            given = configs.merge(given, nested(dotted, published.PUBLISHED))
        given = _of_data(given, rows.data)
        own = [o for o in self.overrides if o.partition("=")[0] not in ("methods", "settings")]
        given = configs.on_background(configs.merge(given, {}, own), self.background)
        given |= {"name": self.name, "methods": rows.methods, "settings": rows.settings}
        if (count := rows.train_samples) is not None:
            given = _of_data(given, {"train_samples": count})
            given["datasets"] = {f"{k} {count}-shot": d for k, d in given["datasets"].items()}
        return configs.typed(given, self.name)

    def nothing(self) -> str:
        why = "; ".join(dict.fromkeys(self.left_out.values()))
        return f"{self.name}: no row is left ({why}): see relief studies list for its rows"


def _of_data(given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """A configuration with options, dotted, of all its datasets."""
    datasets = given.get("datasets", {})
    for dotted, value in options.items():
        datasets = {k: configs.merge(d, nested(dotted, value)) for k, d in datasets.items()}
    return given | {"datasets": datasets}


def _entry(cell: dict) -> str:
    return "/".join(filter(None, (cell["method"], cell["variant"])))


def _place(cells: list[dict], rows: Rows) -> Callable[[dict], tuple[int, ...]]:
    """What to sort cells of rows by, in whatever parts they were expanded: as of one expansion."""
    data = list(dict.fromkeys((cell["dataset"], cell["category"]) for cell in cells))
    return lambda cell: (
        data.index((cell["dataset"], cell["category"])),
        rows.methods.index(_entry(cell)),
        rows.settings.index(cell["setting"]),
    )


def _lies(dotted: str, setting: str) -> bool:
    """Whether the authors' file of a setting of weights, for rgb, 3d or rgb+3d, is at hand."""
    files = [file for file in published.of(dotted) if file.cells in ("", setting)]
    return bool(files) and all(file.found for file in files)
