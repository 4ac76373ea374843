"""Scores of finished cells that came after them, from their stored scores and maps.

    STORE/rescored/KEY.json    metrics and signatures by protocol, sealed

A record is never changed. What lies here counts only as long as the cell's files are those that it
was computed from; `scores_of` gives both as one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.store.files import sealed, unsealed, write_json
from harness.store.records import PAPER, Record
from harness.store.verified import compared

FOLDER = "rescored"
OF_IMAGES = "i_"  # metrics that begin so are the same in every protocol

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """Of a cell in a protocol, by metric.

    metrics: None where undefined; failures: why there is no value; outside: what metrics of
    plug-ins are (harness/metrics/registry.py: Metric.about)
    """

    metrics: dict[str, float | None] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    outside: dict[str, dict[str, Any]] = field(default_factory=dict)

    def with_(self, other: Mapping[str, Any], only: str = "") -> Scores:
        """With those of a record's or a file's set over its own, whose names begin with `only`."""

        def new(name: str) -> dict[str, Any]:
            return {k: v for k, v in (other.get(name) or {}).items() if k.startswith(only)}

        failures = {k: why for k, why in self.failures.items() if k not in new("metrics")}
        return Scores(
            self.metrics | new("metrics"),
            self.signatures | new("signatures"),
            failures | new("failures"),
            self.outside | new("outside"),
        )


def scores_of(record: Record, protocol: str) -> Scores:
    """All that is known of a finished cell in a protocol, the latest of each metric."""
    later = read(record)
    paper = [record.values, later.get(PAPER, {})]
    found, only = Scores(), "" if protocol == PAPER else OF_IMAGES
    for part in paper:
        found = found.with_(part, only)
    if protocol != PAPER:
        for part in (record.protocols.get(protocol, {}), later.get(protocol, {})):
            found = found.with_(part)
    return found


def read(record: Record) -> dict[str, dict[str, Any]]:
    """Protocol -> what was added to a cell; a damaged file is told, and counts as none."""
    path = path_of(record)
    try:
        values = check(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s is damaged (%s): `relief rescore` computes it again", path, error)
        return {}
    return values["protocols"] if values["files"] == compared(record) else {}


def check(path: Path) -> dict[str, Any]:
    """What a file of this folder holds. Raises OSError, ValueError."""
    values = unsealed(path.read_bytes())
    if not isinstance(values.get("protocols"), dict) or not isinstance(values.get("files"), dict):
        raise ValueError("it has no protocols and files")
    return values


def keep(record: Record, protocol: str, found: Mapping[str, Any], code: str) -> None:
    """Add metrics and signatures of a protocol to a cell. The cell's lock is held.

    code: fingerprint of what computed them
    """
    known = read(record)
    both = Scores().with_(known.get(protocol, {})).with_(found)
    known[protocol] = {name: part for name, part in vars(both).items() if part}
    known[protocol] |= {"when": time.time(), "code": code}
    values = {"key": record.key, "files": compared(record), "protocols": known}
    write_json(path_of(record), sealed(values))


def path_of(record: Record) -> Path:
    return record.folder.parents[1] / FOLDER / f"{record.key}.json"
