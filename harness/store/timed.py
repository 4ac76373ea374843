"""Speeds of finished cells that were measured after them (`relief bench --cells`).

    STORE/timed/KEY.json    the latest: speed as a record has it, when, on what machine, sealed

A record is never changed. What lies here counts only as long as the cell's files are those of the
model that was timed, and on the device of the cell: times of two devices do not compare.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.store.files import sealed, unsealed, write_json
from harness.store.records import Record
from harness.store.verified import compared

FOLDER = "timed"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """One measurement of a finished cell."""

    when: float  # seconds since 1970
    speed: Mapping[str, Any]  # as `Record.speed`; "valid": nobody else used the device meanwhile
    others: str  # who did, empty if nobody
    environment: Mapping[str, Any]  # as of a record: host, device, driver, threads, versions, code
    load_average: float | None  # of the minute before it ended

    @property
    def valid(self) -> bool:
        return self.speed.get("valid") is True


def speed_of(record: Record) -> dict[str, Any]:
    """The speed of a cell: as it was timed last, else as its job did."""
    found = timing_of(record)
    return dict(found.speed) if found else record.speed


def timing_of(record: Record) -> Timing | None:
    """Of a finished cell, what came after it; a damaged file is told, and counts as none."""
    if not record.done or record.kind != "cell":
        return None
    path = path_of(record)
    try:
        files, found = check(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is damaged (%s): `relief bench --cells` times it again", path, error)
        return None
    return found if files == compared(record) else None


def check(path: Path) -> tuple[dict[str, str], Timing]:
    """What a file of this folder holds: checksums of the cell's files, and the timing.

    Raises OSError, ValueError.
    """
    values = unsealed(path.read_bytes())
    try:
        files, given = values["files"], values["timing"]
        return files, Timing(**given)
    except (KeyError, TypeError) as error:
        raise ValueError("it has no files and timing") from error


def keep(record: Record, timing: Timing) -> None:
    """Add a timing to a cell, in place of the one before."""
    values = {"key": record.key, "files": compared(record), "timing": asdict(timing)}
    write_json(path_of(record), sealed(values))


def path_of(record: Record) -> Path:
    return record.folder.parents[1] / FOLDER / f"{record.key}.json"


def device_of(environment: Mapping[str, Any]) -> str | None:
    """The GPU's name; for a CPU its model and threads, since times depend on both."""
    device, threads = environment.get("device"), environment.get("threads")
    if device != "cpu":
        return device
    plural = "" if threads == 1 else "s"
    return environment.get("processor", "cpu") + (f", {threads} thread{plural}" if threads else "")
