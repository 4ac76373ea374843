"""Studies: a published table as a configuration of what computes its rows.

    paper: m3dm
    table: Table 6              # as in reports/published
    rows:
      - {methods: [m3dm], settings: [rgb+3d]}
      - {methods: [m3dm], settings: [rgb+3d], train_samples: 5, printed: shot_5}

Rows are cells like any others: what a benchmark or another study computed is not computed again.
`printed` is the variant's name in reports/published where it is not that of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from harness.planning import config as configs
from harness.planning.config import ConfigError
from harness.planning.expand import build
from harness.planning.plan import Plan
from methods.names import printed_name

DEMO, FULL = "demo", "benchmark"


@dataclass
class Rows:
    """Rows that are computed alike."""

    methods: list[str]
    settings: list[str]
    train_samples: Optional[int] = None  # few-shot
    printed: Optional[str] = None


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
        found = set()
        for rows in self.rows:
            for entry in rows.methods:
                method, _, variant = entry.partition("/")
                for setting in rows.settings:
                    found.add((*printed_name(method, rows.printed or variant, setting), setting))
        return found


def read(name: str) -> Study:
    """The study of that name ("m3dm/table4") or YAML file."""
    path = configs.find(name, "studies")
    try:
        return configs.structured(Study, configs.plain_values(path))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def plan(
    name: str,
    overrides: Sequence[str] = (),
    data: str | None = None,
    background: str | None = None,
    base: str = FULL,
) -> Plan:
    """All rows of a study as one plan; its launch says which published row each cell stands for."""
    study = read(name)
    parts = [
        build(_configuration(study, rows, name, overrides, data, background, base))
        for rows in study.rows
    ]
    jobs: dict[str, Any] = {}
    cells: dict[tuple, dict] = {}
    for rows, part in zip(study.rows, parts):
        jobs |= part.jobs
        for cell in part.cells:
            key, variant = printed_name(
                cell["method"], rows.printed or cell["variant"], cell["setting"]
            )
            cell = cell | {"printed": [key, variant]}
            cells.setdefault(
                (
                    cell["dataset"],
                    cell["method"],
                    cell["variant"],
                    cell["setting"],
                    cell["category"],
                    cell["seed"],
                ),
                cell,
            )
    return Plan(
        parts[0].config,
        jobs,
        list(cells.values()),
        {"name": name, "paper": study.paper, "table": study.table, "dataset": study.dataset},
    )


def _configuration(
    study: Study,
    rows: Rows,
    name: str,
    overrides: Sequence[str],
    data: str | None,
    background: str | None,
    base: str,
) -> configs.Config:
    given = configs.read(base, overrides, data, background)
    given |= {"name": name, "methods": rows.methods, "settings": rows.settings}
    if rows.train_samples is not None:
        given["datasets"] = {
            f"{dataset} {rows.train_samples}-shot": {**options, "train_samples": rows.train_samples}
            for dataset, options in given.get("datasets", {}).items()
        }
    return configs.typed(given, name)
