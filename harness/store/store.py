"""The store: one folder a job, files only, readable without any library of ours.

    STORE/jobs/<key>/result.json   a finished job; the folder appears whole, by one rename
    STORE/work/<key>/              a job under way or interrupted, with its checkpoint
    STORE/failures/<key>.json      the last failure of a job that has not finished
    STORE/locks/<key>.lock         held by whoever computes the job, freed when they die
    STORE/nodes/<token>            of a driver that runs; workers know the store by it
    STORE/locks/<key>.holder       who that is, since when
    STORE/alive/<key>-*.json       written again every 2 s by each process at the job
    STORE/launches/<id>.json       what a launch asked for
    STORE/damaged/<key>-<time>-*/  what was found damaged, set aside and computed again
    STORE/data/  STORE/reports/    synthetic datasets; generated reports
    STORE/names.json               what is filed as what (harness/store/names.py)
    STORE/index.txt                what is done, for who need not read it (harness/store/index.py)

A key is the hash of everything that determines the job's result (`key_of`), so a job that is
done is done for every launch, sweep and study that shares the store.
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from harness.store.alike import Taken
from harness.store.files import (
    checksum,
    sealed,
    sync_tree,
    unsealed,
    write_json,
    write_text,
)
from harness.store.index import Index, Stamp, folders_of
from harness.store.locks import Lock
from harness.store.names import Names
from harness.store.processes import Holder
from harness.store.records import RESULT, SCHEMA, DamagedError, Record
from methods.errors import UserError
from methods.files import PART, sync_folder

log = logging.getLogger(__name__)

FOLDERS = ("jobs", "work", "failures", "locks", "launches", "damaged", "sweeps")
RECORDS = 8192  # that a store object keeps, those last asked for: about 20 kB each
Waits = Callable[[str, Holder | None], None]  # (key, who holds its lock, if known)


class Results(Protocol):
    """What reports ask of one store or of several (reports/numbers/stores.py)."""

    def result(self, key: str) -> Record | None: ...


class Store:
    """All that was ever computed under one folder. Makes the folder when first written to."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser().resolve()
        self.index = Index(self.path)
        self._done: dict[str, Stamp] = {}  # of records that were sound, when looked at
        self._records: OrderedDict[str, tuple[Stamp, Record | DamagedError]] = OrderedDict()
        self._verified: set[str] = set()

    def check_writable(self) -> None:
        """Raise OSError with the remedy if jobs could not be written here."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.path / name for name in FOLDERS):
                if folder.exists() and not folder.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file: move it away")
            with tempfile.TemporaryFile(dir=self.path) as f:
                f.write(b"\0" * 4096)
                f.flush()
                os.fsync(f.fileno())
        except OSError as error:
            raise OSError(
                f"cannot write to the store {self.path}: {error.strerror or error}; "
                "free or make writable that folder, or choose another with --store"
            ) from error

    @property
    def filed_as(self) -> Names:
        """Under which names code and data are filed here. Raises ValueError if that is damaged."""
        return Names.read(self.path)

    def folder(self, key: str) -> Path:
        """Where the files of a finished job are."""
        return self.path / "jobs" / key

    def work(self, key: str) -> Path:
        """The scratch folder of a job under way; kept over kills, until published."""
        path = self.path / "work" / key
        if path.exists() and not path.is_dir():
            self._aside(path, key, f"{path} is a file and should be a folder")
        path.mkdir(parents=True, exist_ok=True)
        return path

    def progress_file(self, key: str) -> Path:
        return self.path / "work" / key / "progress.json"

    def progress(self, key: str) -> dict[str, Any] | None:
        """What a running job last said of itself, or None if it has not started."""
        try:
            return json.loads(self.progress_file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def forget_progress(self, key: str) -> None:
        """Before a job starts: what an earlier attempt said of itself is no news."""
        with suppress(NotADirectoryError):  # `work` mends that
            self.progress_file(key).unlink(missing_ok=True)

    def done(self, key: str) -> bool:
        """Whether the job is finished and all its files are there.

        The record is read, and the sizes of its files are looked at, only if the index does not
        know the job's folder as it is.
        """
        known = self._done.get(key)
        if known is not None and known == Stamp.of(f"{self.index.jobs}{key}{os.sep}{RESULT}"):
            return True
        if (stamp := self.index.sound(key)) is not None:
            self._done[key] = stamp
            return True
        return self._sound(key) is not None

    def result(self, key: str) -> Record | None:
        """The record of a finished job, else its last failure, else None.

        A job with damaged files has the status "damaged" and says which; a damaged failure is
        none. Raises RecordError for a record of a newer version.
        """
        try:
            if (found := self._sound(key, told=True)) is not None:
                return found
        except DamagedError as error:
            return Record.damaged(error, self.folder(key))
        try:
            return Record.read(self.failure(key))
        except FileNotFoundError:
            return None
        except (OSError, DamagedError) as error:
            log.warning("%s: it counts as no failure", error)
            return None

    def finished(self, key: str) -> Record:
        """The record of a job that is done. Raises FileNotFoundError, DamagedError if it is not."""
        if (found := self._sound(key, told=True)) is None:
            raise FileNotFoundError(f"{self.folder(key)} has no {RESULT}: the job is not done")
        return found

    def verified(self, key: str) -> Record:
        """As `finished`, with every byte of its files read, once for each store object.

        What is computed from a damaged file would be another number, so whoever builds on a job's
        files asks for them here.
        """
        record = self.finished(key)
        if key not in self._verified:
            record.check(contents=True)
            self._verified.add(key)
        return record

    def _sound(self, key: str, told: bool = False) -> Record | None:
        """The record of a finished job whose files fit; None if there is none.

        told: raise DamagedError if it is damaged, else that is None, too
        """
        path = self.folder(key) / RESULT
        if (stamp := Stamp.of(path)) is None:
            return None
        known = self._records.get(key)
        if known is None or known[0] != stamp:
            found: Record | DamagedError
            try:
                found = Record.read(path)
                folders = folders_of(found)
                found.check()
                self._learn(key, found, stamp, folders)
            except FileNotFoundError:
                return None
            except DamagedError as error:
                found = error
            except OSError as error:
                why = f"{error.filename or path} cannot be read: {error.strerror or error}"
                found = DamagedError(key, why, "make it readable, or move the job's folder away")
            known = self._records[key] = (stamp, found)
            if len(self._records) > RECORDS:
                self._records.popitem(last=False)
        self._records.move_to_end(key)
        if isinstance(known[1], DamagedError):
            if told:
                raise known[1]
            return None
        return known[1]

    def _learn(self, key: str, record: Record, stamp: Stamp, folders: dict[str, Stamp]) -> None:
        self._done[key] = stamp
        if self.index.sound(key) != stamp:
            self.index.learn(key, record, stamp, folders)

    def _forget(self, key: str) -> None:
        self._records.pop(key, None)
        self._done.pop(key, None)
        self._verified.discard(key)

    def stamps(self, keys: Iterable[str]) -> dict[str, Stamp]:
        """The state of each job's record, or of its failure; keys without either are left out.

        A record has changed since if its stamp is another; nothing is read. Sizes of the job's
        other files are not looked at.
        """
        found = {}
        for key in keys:
            done = Stamp.of(f"{self.index.jobs}{key}{os.sep}{RESULT}")
            if (stamp := done or Stamp.of(self.failure(key))) is not None:
                found[key] = stamp
        return found

    def names(self, folder: str) -> set[str]:
        """What lies in one of the store's folders; empty if it is not there."""
        try:
            return set(os.listdir(self.path / folder))
        except OSError:
            return set()

    def traces(self) -> set[str]:
        """Keys of jobs that are done or once were: they have a folder, or were set aside."""
        return self.names("jobs") | {name.partition("-")[0] for name in self.names("damaged")}

    def taken(self) -> Iterator[Taken]:
        """What finished jobs took, for estimates; of jobs that the index knows nothing is read."""
        for key in self.names("jobs"):
            try:
                found = self.index.taken(key)
            except KeyError:
                record = self._sound(key)
                found = Taken.of(record) if record else None
            if found is not None:
                yield found
        self.index.flush()

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

    def lock(
        self, key: str, timeout: float = -1, waits: Waits | None = None
    ) -> AbstractContextManager[None]:
        """Hold the job's lock; filelock.Timeout after `timeout` s, the OS frees a dead holder's.

        waits: called once if it takes more than 2 s (default: a warning says who holds it)
        """
        return self._lock(key).hold(timeout, functools.partial(waits, key) if waits else None)

    def holder(self, key: str) -> Holder | None:
        """Who last took the lock and has not given it back; None if that is not known."""
        return self._lock(key).holder

    def locked(self, key: str) -> bool:
        """Whether some process is computing the job right now."""
        return self._lock(key).held

    def _lock(self, key: str) -> Lock:
        return Lock(self.path / "locks" / f"{key}.lock")

    @property
    def alive(self) -> Path:
        """Where the processes at work say that they live (harness/engine/heartbeat.py)."""
        return self.path / "alive"

    def publish(self, key: str, result: dict[str, Any], scratch: tuple[str, ...] = ()) -> None:
        """Complete a job: its record into its work folder, then one rename into place.

        Every file and folder is on disk before the record names it, and the record before the job
        has its name. Raises OSError where the disk refuses.
        scratch: files and folders in the work folder that are no part of the result. They go when
        the record is on disk, so that the next attempt has them where the disk refused.
        """
        work, folder = self.work(key), self.folder(key)
        for part in list(work.rglob(f"*{PART}")):  # of writers that were killed
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        files = {
            path.relative_to(work).as_posix(): [path.stat().st_size, checksum(path)]
            for path in sorted(work.rglob("*"))
            if path.is_file() and path != work / RESULT and not _below(path, work, scratch)
        }
        sync_tree(work)
        write_json(work / RESULT, sealed({"schema": SCHEMA, "files": files} | result))
        for name in scratch:
            path = work / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if os.path.lexists(folder):  # left there by what no job of ours does, or damaged
            self.set_aside(key, "another result of the same job took its place")
        if not folder.parent.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(self.path)
        os.replace(work, folder)
        sync_folder(folder.parent)
        self.failure(key).unlink(missing_ok=True)
        self._forget(key)

    def set_aside(self, key: str, why: str) -> Path | None:
        """Move what lies under a job's name to damaged/, for someone to look at; -> where it is.

        Nothing is deleted. None if nothing was there. Whoever calls holds the job's lock.
        """
        self._forget(key)
        return self._aside(self.folder(key), key, why)

    def _aside(self, path: Path, name: str, why: str) -> Path | None:
        """Move a file or folder of the store to damaged/NAME-...; -> that folder, None if none."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        aside = self.path / "damaged" / f"{name}-{stamp}-{uuid.uuid4().hex[:6]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            return None
        if not path.is_dir():
            aside.mkdir()
        os.replace(path, aside if path.is_dir() else aside / path.name)
        sync_folder(path.parent)
        write_text(aside / "why.txt", why + "\n")
        log.warning("set aside %s: %s", aside.relative_to(self.path), why)
        return aside

    def remove(self, folder: Path) -> None:
        """A job's folder, at once for whoever reads, from jobs/ or work/. The lock is held."""
        gone = self.path / "work" / f"{folder.name}.{uuid.uuid4().hex[:6]}{PART}"
        gone.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, gone)
        sync_folder(folder.parent)
        shutil.rmtree(gone)
        self._forget(folder.name)

    def set_file_aside(self, path: Path, why: str) -> Path | None:
        """The same for what is no job: a launch, a failure, a sweep's file, MLflow's database."""
        name = "-".join(path.relative_to(self.path).parts).removesuffix(path.suffix)
        return self._aside(path, name, why)

    def files_aside(self, aside: Path | None) -> dict[str, tuple[int, str]]:
        """What the record of a job that was set aside says of its files; empty if unknown."""
        try:
            return Record.read(aside / RESULT).files if aside else {}
        except (OSError, ValueError):
            return {}

    def last_aside(self, key: str) -> Path | None:
        """Where the job was set aside last."""
        return max((self.path / "damaged").glob(f"{key}-*"), key=lambda p: p.name, default=None)

    def built_on(self, key: str) -> list[str]:
        """Keys of the finished jobs that need this one, directly or through others."""
        needs: dict[str, tuple[str, ...]] = {}
        for path in (self.path / "jobs").glob(f"*/{RESULT}"):
            if record := self._sound(path.parent.name):
                needs[record.key] = record.spec.needs.keys
        found, fresh = set[str](), {key}
        while fresh:
            fresh = {k for k, below in needs.items() if fresh & set(below)} - found
            found |= fresh
        return sorted(found)

    def damage(self, key: str, contents: bool = False) -> str | None:
        """What is wrong with a job that once was done; None if nothing is, or it never was.

        contents: read its files, too
        """
        try:
            found = self._sound(key, told=True)
            if found and contents:
                found.check(contents=True)
        except DamagedError as error:
            return error.why
        folder = self.folder(key)
        if os.path.lexists(folder) and not folder.is_dir():
            return f"{folder} is a file and should be a folder"
        if folder.is_dir() and not (folder / RESULT).exists():
            return f"{folder / RESULT} is missing"
        return None

    def fail(self, key: str, record: dict[str, Any]) -> Record:
        """Record why a job did not finish; its work folder stays for the next attempt."""
        record = {"schema": SCHEMA} | record
        if self.failure(key).is_dir():
            self._aside(self.failure(key), key, f"{self.failure(key)} is a folder, not a file")
        write_json(self.failure(key), sealed(record))
        return Record.of(record, self.failure(key))

    def launches(self) -> list[dict[str, Any]]:
        """Descriptions of all launches, the latest last."""
        found = []
        for path in sorted((self.path / "launches").glob("*.json")):
            try:
                launch = read_launch(path)
                found.append((launch["started"], launch["id"], launch))
            except (OSError, ValueError) as error:
                log.warning(
                    "%s is damaged (%s): the launch is left out; the `relief run` that made it "
                    "writes it again",
                    path,
                    error,
                )
        return [launch for *_, launch in sorted(found, key=lambda item: item[:2])]

    def recorded(self, launch_id: str) -> dict[str, Any] | None:
        """The launch of that name; None if there is none, or it is damaged."""
        try:
            return read_launch(self.path / "launches" / f"{launch_id}.json")
        except (OSError, ValueError):
            return None

    def write_launch(self, launch: dict[str, Any]) -> None:
        """What `launches` reads."""
        path = self.path / "launches" / f"{launch['id']}.json"
        if path.is_dir():
            self.set_file_aside(path, f"{path} is a folder and should be a file")
        write_json(path, sealed(launch))

    def forget_launch(self, launch_id: str) -> None:
        """As if it had not been asked for; results are not touched."""
        (self.path / "launches" / f"{launch_id}.json").unlink(missing_ok=True)

    def known_launches(self) -> list[dict[str, Any]]:
        """As `launches`. Raises FileNotFoundError where there is none."""
        if not (found := self.launches()):
            raise FileNotFoundError(f"no launch in {self.path}: start one with `relief run`")
        return found

    def launch(self, launch_id: str | None = None) -> dict[str, Any]:
        """The launch of that id, or the only one that begins so; by default the latest."""
        launches = {launch["id"]: launch for launch in self.known_launches()}
        if launch_id is None:
            return list(launches.values())[-1]
        if launch_id in launches:
            return launches[launch_id]
        if not (found := [known for known in launches if known.startswith(launch_id)]):
            there = ", ".join(launches)
            raise UserError(f"no launch {launch_id!r} in {self.path}; there are {there}")
        return launches[sole(launch_id, found)]


def sole(name: str, found: Sequence[str]) -> str:
    """Of these, all of which begin so, the only one. Raises UserError if there are more."""
    if len(found) > 1:
        raise UserError(f"{name!r} is the beginning of {', '.join(found)}: give more of it")
    return found[0]


def _below(path: Path, work: Path, names: tuple[str, ...]) -> bool:
    return any(path == work / name or work / name in path.parents for name in names)


def read_launch(path: Path) -> dict[str, Any]:
    """What a launch asked for. Raises OSError, ValueError."""
    launch = unsealed(path.read_bytes())
    kinds = {"id": str, "started": int | float, "cells": list}
    if lacking := [name for name, kind in kinds.items() if not isinstance(launch.get(name), kind)]:
        raise ValueError(f"it has no {' and no '.join(lacking)}")
    return launch
