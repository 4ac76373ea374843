"""What came of computing a finished cell again, and what a report says of it.

    STORE/verified/KEY.json    the last check of a cell for each machine kind and thread count

A check counts only as long as the cell's files are those that it compared with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.store.files import write_json
from harness.store.records import MAPS, SCORES, Record

COMPARED = (SCORES, MAPS)  # files of a cell that must come out with the same bytes


@dataclass(frozen=True)
class Machine:
    """What bits may depend on beside the job's description."""

    device: str = ""  # "cpu", or the GPU's name
    processor: str = ""
    threads: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)  # of torch and numpy

    @classmethod
    def of(cls, environment: Mapping[str, Any]) -> Machine:
        """From the environment of a record."""
        versions = environment.get("versions") or {}
        return cls(
            device=environment.get("device") or "",
            processor=environment.get("processor") or "",
            threads=environment.get("threads") or 0,
            versions={name: versions[name] for name in ("torch", "numpy") if name in versions},
        )

    @property
    def kind(self) -> tuple[str, str, int]:
        """Machines of one kind must compute the same bits."""
        return self.device, self.processor, self.threads

    @property
    def text(self) -> str:
        """ "1 thread, <processor>"; of a GPU its name."""
        plural = "" if self.threads == 1 else "s"
        where = self.processor or "unknown processor" if self.device == "cpu" else self.device
        return f"{self.threads} thread{plural}, {where}"


@dataclass(frozen=True)
class Check:
    """One cell computed again. Differences are 0 where it is identical, None where unknown."""

    key: str
    identical: bool
    when: float  # seconds since 1970
    host: str
    machine: Machine  # that computed it again
    before: Machine  # that computed the result
    files: Mapping[str, str]  # checksums of the result's files that were compared
    maps: float | None = None  # largest difference of a pixel, as a share of the maps' range
    pixels: float | None = None  # share of pixels that differ
    metrics: float | None = None  # largest difference of a metric, in [0, 1]

    @property
    def alike(self) -> bool:
        """Whether both machines are of a kind, so that it should be identical."""
        return self.machine.kind == self.before.kind


def compared(record: Record) -> dict[str, str]:
    """Checksums of the files of a cell that a check compares."""
    return {name: record.files[name][1] for name in COMPARED if name in record.files}


def checks(record: Record) -> list[Check]:
    """Those of the files that the record has now; damaged ones are no checks."""
    path = _path(record)
    try:
        found = [_check(values) for values in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [check for check in found if dict(check.files) == compared(record)]


def keep(record: Record, check: Check) -> None:
    """Add a check of a cell, in place of the one before of that kind of machine."""
    others = [old for old in checks(record) if old.machine.kind != check.machine.kind]
    write_json(_path(record), [asdict(one) for one in [*others, check]])


def badge(records: Iterable[Record]) -> str:
    """A line on the cells that were computed again; empty if none was."""
    found: dict[str, list[Check]] = {}
    for record in records:
        if record.done:
            for check in checks(record):
                found.setdefault(check.machine.text, []).append(check)
    parts = []
    for machine, ones in sorted(found.items()):
        same = sum(check.identical for check in ones)
        parts.append(f"{same} of {len(ones)} sampled cells ({machine})")
    return f"bit-identical when computed again: {'; '.join(parts)}" if parts else ""


def _check(values: Mapping[str, Any]) -> Check:
    given: dict[str, Any] = {f.name: values[f.name] for f in fields(Check) if f.name in values}
    for name in ("machine", "before"):
        given[name] = Machine(**given[name])
    return Check(**given)


def _path(record: Record) -> Path:
    return record.folder.parents[1] / "verified" / f"{record.key}.json"
