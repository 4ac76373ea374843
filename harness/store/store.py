"""The store: one folder a job, files only, readable without any library of ours.

    STORE/jobs/<key>/result.json   a finished job; the folder appears whole, by one rename
    STORE/work/<key>/              a job under way or interrupted, with its checkpoint
    STORE/failures/<key>.json      the last failure of a job that has not finished
    STORE/locks/<key>.lock         held by whoever computes the job, freed when they die
    STORE/launches/<id>.json       what a launch asked for
    STORE/data/  STORE/reports/    synthetic datasets; generated reports

A key is the hash of everything that determines the job's result (`key_of`), so a job that is
done is done for every launch, sweep and study that shares the store.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from harness.store.files import write_json
from harness.store.records import RESULT, SCHEMA, Record, damaged


class Results(Protocol):
    """What reports ask of one store or of several (reports/numbers/stores.py)."""

    def result(self, key: str) -> Record | None: ...


class Store:
    """All that was ever computed under one folder. Makes the folder when first written to."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser().resolve()

    def check_writable(self) -> None:
        """Raise OSError with the remedy if jobs could not be written here."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as f:
                f.write(b"\0" * 4096)
                f.flush()
                os.fsync(f.fileno())
        except OSError as error:
            raise OSError(
                f"cannot write to the store {self.path}: {error.strerror or error}; "
                "free or make writable that folder, or choose another with --store"
            ) from error

    def folder(self, key: str) -> Path:
        """Where the files of a finished job are."""
        return self.path / "jobs" / key

    def work(self, key: str) -> Path:
        """The scratch folder of a job under way; kept over kills, until published."""
        path = self.path / "work" / key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def progress_file(self, key: str) -> Path:
        return self.path / "work" / key / "progress.json"

    def progress(self, key: str) -> dict[str, Any] | None:
        """What a running job last said of itself, or None if it has not started."""
        try:
            return json.loads(self.progress_file(key).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def done(self, key: str) -> bool:
        return (self.folder(key) / RESULT).exists()

    def result(self, key: str) -> Record | None:
        """The record of a finished job, else its last failure, else None."""
        for path in (self.folder(key) / RESULT, self.failure(key)):
            try:
                return Record.of(json.loads(path.read_text(encoding="utf-8")), path)
            except FileNotFoundError:
                continue
            except json.JSONDecodeError as error:
                raise damaged(path, str(error)) from error
        return None

    def finished(self, key: str) -> Record:
        """The record of a job that is done. Raises FileNotFoundError if it is not."""
        if not self.done(key) or (found := self.result(key)) is None:
            raise FileNotFoundError(f"{self.folder(key)} has no {RESULT}: the job is not done")
        return found

    def results(self, keys: Iterable[str] | None = None) -> Iterator[Record]:
        """Records of these keys (default: every job known), those that have one."""
        if keys is None:
            done = (self.path / "jobs").glob(f"*/{RESULT}")
            failed = (self.path / "failures").glob("*.json")
            keys = sorted({p.parent.name for p in done} | {p.stem for p in failed})
        for key in keys:
            if (result := self.result(key)) is not None:
                yield result

    def failure(self, key: str) -> Path:
        return self.path / "failures" / f"{key}.json"

    @contextmanager
    def lock(self, key: str, timeout: float = -1) -> Iterator[None]:
        """Hold the job's lock; filelock.Timeout after `timeout` s, the OS frees a dead holder's."""
        path = self.path / "locks" / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path, timeout=timeout):
            yield

    def locked(self, key: str) -> bool:
        """Whether some process is computing the job right now."""
        try:
            with self.lock(key, timeout=0):
                return False
        except Timeout:
            return True

    def publish(self, key: str, result: dict) -> None:
        """Complete a job: its record into its work folder, then one rename into place."""
        work, folder = self.work(key), self.folder(key)
        write_json(work / RESULT, {"schema": SCHEMA} | result)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work, folder)
        self.failure(key).unlink(missing_ok=True)

    def fail(self, key: str, record: dict[str, Any]) -> Record:
        """Record why a job did not finish; its work folder stays for the next attempt."""
        record = {"schema": SCHEMA} | record
        write_json(self.failure(key), record)
        return Record.of(record, self.failure(key))

    def launches(self) -> list[dict[str, Any]]:
        """Descriptions of all launches, the latest last."""
        found = [json.loads(p.read_text()) for p in (self.path / "launches").glob("*.json")]
        return sorted(found, key=lambda launch: (launch["started"], launch["id"]))

    def known_launches(self) -> list[dict[str, Any]]:
        """As `launches`. Raises FileNotFoundError where there is none."""
        if not (found := self.launches()):
            raise FileNotFoundError(f"no launch in {self.path}: start one with `relief run`")
        return found

    def launch(self, launch_id: str | None = None) -> dict[str, Any]:
        """The launch of that name, by default the latest."""
        launches = {launch["id"]: launch for launch in self.known_launches()}
        if launch_id is None:
            return list(launches.values())[-1]
        if launch_id not in launches:
            there = ", ".join(launches)
            raise ValueError(f"no launch {launch_id!r} in {self.path}; there are {there}")
        return launches[launch_id]
