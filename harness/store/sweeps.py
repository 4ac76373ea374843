"""The files of a sweep.

STORE/sweeps/<id>/sweep.json        what was asked for and, at the end, what came of it
STORE/sweeps/<id>/trials/<id>.json  one trial: its settings and the scores of its cells
STORE/sweeps/<id>/tune/             Tune's own state, from which a killed sweep continues
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.store.files import checksum, sealed, unsealed, write_json
from harness.store.records import FAILED
from harness.store.store import Store

RUNNING, STOPPED = "running", "stopped"  # stopped: ended early, as unpromising
DEFAULT = "default"  # the trial of the unchanged settings
RECORD = "sweep.json"
PAGES = "pages.json"  # checksums of the page and what lies beside it
OWN = (RECORD, PAGES, "best.yaml")  # not among them
STATE = "tune"  # folder of Tune's own state
KINDS = {  # what a record needs to be of use, and of which type
    RECORD: {"id": str, "name": str, "started": int | float},
    "trial": {"id": str, "status": str, "started": int | float},
}


def drawn(trials: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the search drew: all but trial 0, of the unchanged settings."""
    return [trial for trial in trials if trial["id"] != DEFAULT]


def brief(value: Any) -> str:
    """The value of a setting as tables print it: numbers to four digits. Files have all of them."""
    if isinstance(value, float):
        return f"{float(f'{value:.4g}'):g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(brief, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)}: {brief(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def goal(record: Mapping[str, Any]) -> tuple[str, int]:
    """The metric that a sweep goes by; 1 if higher is better, else -1. record: of the sweep"""
    metric = record["sweep"]["objective"]["metrics"][0]
    return metric, -1 if record["sweep"]["modes"][metric] == "min" else 1


def sweep_ids(store: Store) -> list[str]:
    """Of all sweeps that were started."""
    return sorted(path.parent.name for path in (store.path / "sweeps").glob(f"*/{RECORD}"))


class SweepFolder:
    """The files of one sweep."""

    def __init__(self, store: Store, sweep_id: str):
        self.store, self.id, self.path = store, sweep_id, store.path / "sweeps" / sweep_id

    @property
    def record(self) -> dict[str, Any] | None:
        """What was asked for and, once it has ended, what came of it; None before it starts.

        None also where it is damaged, which is set aside.
        """
        return self._read(self.path / RECORD)

    @property
    def known_record(self) -> dict[str, Any]:
        """As `record`. Raises FileNotFoundError where there is none."""
        if (found := self.record) is None:
            raise FileNotFoundError(f"no sweep in {self.path}: start it with `relief sweep`")
        return found

    def write(self, record: dict[str, Any]) -> None:
        write_json(self.path / RECORD, sealed(record))

    def trial(self, trial_id: str) -> Path:
        return self.path / "trials" / f"{trial_id}.json"

    def trial_files(self) -> list[Path]:
        """Of all trials but that of the unchanged settings."""
        return [p for p in sorted((self.path / "trials").glob("*.json")) if p.stem != DEFAULT]

    def read_trial(self, trial_id: str) -> dict[str, Any] | None:
        """None as for `record`."""
        return self._read(self.trial(trial_id))

    def write_trial(self, trial: dict[str, Any]) -> None:
        write_json(self.trial(trial["id"]), sealed(trial))

    def peek(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None, bool]:
        """Trials and record as far as they can be read, changing nothing; whether some cannot."""
        torn = self.damaged()
        paths = [p for p in (self.path / "trials").glob("*.json") if p not in torn]
        own = self.path / RECORD
        record = read_record(own) if own.exists() and own not in torn else None
        return numbered([read_record(path) for path in paths], record), record, bool(torn)

    def damaged(self) -> dict[Path, str]:
        """Records that cannot be read, and why."""
        found = {}
        for path in (self.path / RECORD, *sorted((self.path / "trials").glob("*.json"))):
            try:
                read_record(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                found[path] = str(error)
        return found

    def sign(self) -> None:
        """Remember the content of the page, the charts and the table as they were written."""
        files = [p for p in sorted(self.path.iterdir()) if p.is_file() and p.name not in OWN]
        write_json(self.path / PAGES, sealed({path.name: checksum(path) for path in files}))

    @property
    def pages_fit(self) -> bool:
        """Whether the page and what lies beside it are there as they were written."""
        try:
            signed = unsealed((self.path / PAGES).read_bytes())
            return all(checksum(self.path / name) == known for name, known in signed.items())
        except (OSError, ValueError):
            return False

    def set_aside(self, path: Path, why: str) -> None:
        """A file or folder of the sweep, or what is in its place."""
        self.store.set_file_aside(path, why)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return read_record(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.set_aside(path, f"{path} is damaged: {error}")
            return None

    def forget_failed(self) -> None:
        """Give failed trials another chance, that of the unchanged settings too."""
        for trial in self.trials():
            if trial["status"] == FAILED:
                self.trial(trial["id"]).unlink()

    def trials(self) -> list[dict[str, Any]]:
        """All trials in the order of their numbers."""
        paths = sorted((self.path / "trials").glob("*.json"))
        found = [trial for path in paths if (trial := self._read(path)) is not None]
        return numbered(found, self.record)


def numbered(
    trials: Iterable[dict[str, Any]], record: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Trials with their "number", in that order: 0 has the unchanged settings, the others are
    counted as the search drew them; in a record without that order, as they started.
    """
    order = {trial: n for n, trial in enumerate((record or {}).get("order", ()), 1)}
    others = itertools.count(len(order) + 1)

    def place(trial: Mapping[str, Any]) -> tuple[bool, float, float, str]:
        number = order.get(trial["id"], math.inf)
        return trial["id"] != DEFAULT, number, trial["started"], trial["id"]

    found = sorted(trials, key=place)
    for trial in found:
        trial["number"] = 0 if trial["id"] == DEFAULT else order.get(trial["id"]) or next(others)
    return found


def read_record(path: Path) -> dict[str, Any]:
    """A sweep.json or a trial. Raises OSError, ValueError."""
    record = unsealed(path.read_bytes())
    kinds = KINDS.get(path.name, KINDS["trial"])
    if lacking := [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]:
        raise ValueError(f"it has no {' and no '.join(lacking)}")
    return record
