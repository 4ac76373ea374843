"""The files of a sweep.

STORE/sweeps/<id>/sweep.json        what was asked for and, at the end, what came of it
STORE/sweeps/<id>/trials/<id>.json  one trial: its settings and the scores of its cells
STORE/sweeps/<id>/tune/             Tune's own state, from which a killed sweep continues
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.store.files import write_json
from harness.store.records import FAILED
from harness.store.store import Store

RUNNING, STOPPED = "running", "stopped"  # stopped: ended early, as unpromising
DEFAULT = "default"  # the trial of the unchanged settings


class SweepFolder:
    """The files of one sweep."""

    def __init__(self, store: Store, sweep_id: str):
        self.id, self.path = sweep_id, store.path / "sweeps" / sweep_id

    @property
    def record(self) -> dict[str, Any] | None:
        """What was asked for and, once it has ended, what came of it; None before it starts."""
        path = self.path / "sweep.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def known_record(self) -> dict[str, Any]:
        """As `record`. Raises FileNotFoundError where there is none."""
        if (found := self.record) is None:
            raise FileNotFoundError(f"no sweep in {self.path}: start it with `relief sweep`")
        return found

    def write(self, record: dict[str, Any]) -> None:
        write_json(self.path / "sweep.json", record)

    def trial(self, trial_id: str) -> Path:
        return self.path / "trials" / f"{trial_id}.json"

    def forget_failed(self) -> None:
        """Give failed trials another chance, that of the unchanged settings too."""
        for trial in self.trials():
            if trial["status"] == FAILED:
                self.trial(trial["id"]).unlink()

    def trials(self) -> list[dict[str, Any]]:
        """All trials, the unchanged settings first, then as they started."""
        found = [
            json.loads(p.read_text(encoding="utf-8")) for p in (self.path / "trials").glob("*.json")
        ]
        return sorted(found, key=lambda t: (t["id"] != DEFAULT, t["started"], t["id"]))
