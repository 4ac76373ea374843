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
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.store.files import write_json

DONE, FAILED, TIMEOUT, OUT_OF_MEMORY, SKIPPED = (
    "done",
    "failed",
    "timeout",
    "out_of_memory",
    "skipped",
)


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

    def done(self, key: str) -> bool:
        return (self.folder(key) / "result.json").exists()

    def result(self, key: str) -> dict | None:
        """The result of a finished job, else its last failure, else None."""
        for path in (self.folder(key) / "result.json", self.failure(key)):
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} is damaged ({error}); delete {path.parent}") from error
        return None

    def results(self, keys: Iterable[str] | None = None) -> Iterator[dict]:
        """Results of these keys (default: every job known), those that have one."""
        if keys is None:
            done = (self.path / "jobs").glob("*/result.json")
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
        """Complete a job: result.json into its work folder, then one rename into place."""
        work, folder = self.work(key), self.folder(key)
        write_json(work / "result.json", result)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work, folder)
        self.failure(key).unlink(missing_ok=True)

    def fail(self, key: str, record: dict) -> None:
        """Record why a job did not finish; its work folder stays for the next attempt."""
        write_json(self.failure(key), record)

    def launches(self) -> list[dict]:
        """Descriptions of all launches, the latest last."""
        found = [json.loads(p.read_text()) for p in (self.path / "launches").glob("*.json")]
        return sorted(found, key=lambda launch: (launch["started"], launch["id"]))

    def forget(self, key: str) -> None:
        """Remove a job's result, failure and scratch files."""
        for folder in (self.folder(key), self.path / "work" / key):
            shutil.rmtree(folder, ignore_errors=True)
        self.failure(key).unlink(missing_ok=True)
