"""What is in a store that should not be, or that nothing needs: `relief store` shows and clears it.

`examine` only reads. `repair` mends what it found, `prune` removes what no launch needs; neither
touches a job whose lock is held.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from harness.store import influences, names, rescored, timed
from harness.store.files import checksum, sealed, unsealed, write_json
from harness.store.index import FILE
from harness.store.records import RESULT, SCHEMA, DamagedError, Record, RecordError
from harness.store.store import FOLDERS, Store, read_launch
from harness.store.sweeps import SweepFolder
from methods.files import PART

TORN, UNVERIFIED, UNFINISHED, ORPHANED, FOREIGN, HALF, KEPT, FREE = KINDS = (
    "damaged",
    "unverified",  # of schema 1, without checksums
    "unfinished",  # work of jobs that run or were interrupted
    "orphaned",  # finished jobs, and work, that no launch, sweep or study needs
    "foreign",  # not ours
    "left over",  # half-written files of writers that are dead
    "set aside",  # what was damaged, kept for someone to look at
    "free locks",  # that nobody holds
)
PRUNED = (ORPHANED, KEPT, FREE)  # what `prune` removes
PART_AGE_S = 3600.0  # a half-written file outside a job's work is dead after so long
KEY = re.compile(r"[0-9a-f]{16}")
TOP = {
    *FOLDERS,
    "alive",
    "data",
    "mlflow-artifacts",
    "nodes",
    "plugins",
    "reports",
    "rescored",
    "timed",
    "verified",
    "verify",
}
DATABASE = "mlflow.db"
DATABASE_PARTS = ("", "-wal", "-shm", "-journal")

SAME = "the same `relief run` computes it again"
Watch = Callable[[int, int], None]  # (bytes read, of how many)


@dataclass(frozen=True)
class Finding:
    """One thing about a store."""

    kind: str  # of KINDS
    path: Path
    what: str  # is the matter
    remedy: str = ""
    size: int = 0  # bytes that it takes
    key: str = ""  # of the job, if it is one
    held: bool = False  # somebody computes it right now
    paths: tuple[Path, ...] = ()  # where many are one finding


@dataclass
class _Needed:
    """What launches and sweeps ask for."""

    keys: set[str] = field(default_factory=set)
    partly: bool = False  # an older launch is unfinished: what it still needs is not known

    def has(self, key: str, kind: str) -> bool:
        return key in self.keys or (self.partly and kind != "cell")


def examine(
    store: Store, deep: bool = False, watch: Watch = lambda done, of: None
) -> list[Finding]:
    """Everything to know of a store, in the order of KINDS. deep: read every byte of the jobs."""
    jobs = sorted((store.path / "jobs").glob("*"))
    seen: set[int] = set()
    sizes = {path: _weight(path, seen) for path in jobs}
    total, done = sum(sizes.values()), 0
    found: list[Finding] = []
    for path in jobs:
        found += _job(store, path, sizes[path], deep)
        done += sizes[path]
        watch(done, total)
    found += _orphans(store, jobs, sizes)
    found += [*_records(store), *_database(store), *_work(store), *_halves(store)]
    found += [*_aside(store), *_locks(store), *_foreign(store)]
    return sorted(found, key=lambda finding: (KINDS.index(finding.kind), str(finding.path)))


def _job(store: Store, path: Path, size: int, deep: bool) -> Iterator[Finding]:
    key = path.name
    if not KEY.fullmatch(key):
        yield Finding(FOREIGN, path, "no job has such a name", "move it away", size)
        return
    try:
        why = store.damage(key, contents=deep)
    except RecordError as error:
        yield Finding(FOREIGN, path, str(error), size=size, key=key)
        return
    held = why is not None and store.locked(key)
    if why is not None:
        yield Finding(TORN, path, why, SAME, size, key, held)
        return
    record = store.finished(key)
    if record.schema < SCHEMA:
        yield Finding(
            UNVERIFIED, path, "it has no checksums", "--repair adopts its files", size, key
        )
        return
    known = {RESULT, *record.files}
    for file in sorted(p for p in path.rglob("*") if p.is_file() or p.is_symlink()):
        if file.relative_to(path).as_posix() not in known:
            what = "its job did not write it"
            yield Finding(FOREIGN, file, what, "move it away", file.lstat().st_size)


def _orphans(store: Store, jobs: Sequence[Path], sizes: dict[Path, int]) -> Iterator[Finding]:
    needed = _needed(store)
    for path in jobs:
        record = _finished(store, path.name) if KEY.fullmatch(path.name) else None
        if record is not None and not needed.has(record.key, record.kind):
            yield Finding(
                ORPHANED,
                path,
                f"no launch needs {record.title!r}",
                "`relief store prune` removes it",
                sizes[path],
                record.key,
            )


def _needed(store: Store) -> _Needed:
    """The jobs of all launches and sweeps, with all that these were built on."""
    needed = _Needed()
    fresh: list[str] = []
    for path in (store.path / "launches").glob("*.json"):
        try:
            launch = read_launch(path)
        except (OSError, ValueError):  # nobody knows what it asked for
            needed.partly = True
            continue
        cells = [cell["key"] for cell in launch["cells"]]
        fresh += [*cells, *launch.get("jobs", ())]
        if "jobs" not in launch and not all(_finished(store, key) for key in cells):
            needed.partly = True
    for path in (store.path / "sweeps").glob("*"):
        sweep = SweepFolder(store, path.name)
        trials, record, torn = sweep.peek()
        fresh += [cell["key"] for trial in trials for cell in trial.get("cells", ())]
        fresh += [key for trial in trials for key, *_ in trial.get("jobs", ())]  # stopped ones, too
        needed.partly |= torn or record is None or record.get("ended") is None
    while fresh:
        key = fresh.pop()
        if key in needed.keys:
            continue
        needed.keys.add(key)
        if (record := _finished(store, key)) is not None:
            fresh += [*record.spec.needs.keys, *filter(None, [record.twin, record.truth])]
    return needed


def _finished(store: Store, key: str) -> Record | None:
    """None too for what a newer version wrote."""
    try:
        return store.finished(key)
    except (OSError, DamagedError, RecordError):
        return None


def _records(store: Store) -> Iterator[Finding]:
    """Launches, failures and sweeps that cannot be read."""
    for path in sorted((store.path / "launches").glob("*.json")):
        try:
            read_launch(path)
        except (OSError, ValueError) as error:
            remedy = "the `relief run` that made it writes it again"
            yield Finding(TORN, path, f"it cannot be read: {_short(error)}", remedy, _weight(path))
    for path in sorted((store.path / "failures").glob("*.json")):
        try:
            Record.read(path)
        except (OSError, ValueError) as error:
            remedy = "it counts as no failure; the same `relief run` tries the job again"
            yield Finding(TORN, path, f"it cannot be read: {_short(error)}", remedy, _weight(path))
    for path in sorted((store.path / rescored.FOLDER).glob("*.*")):
        if (check := {".json": rescored.check, ".npz": influences.check}.get(path.suffix)) is None:
            continue
        try:
            check(path)
        except (OSError, ValueError) as error:
            remedy = "`relief rescore` computes it again"
            yield Finding(TORN, path, f"it cannot be read: {_short(error)}", remedy, _weight(path))
    for path in sorted((store.path / timed.FOLDER).glob("*.json")):
        try:
            timed.check(path)
        except (OSError, ValueError) as error:
            remedy = "`relief bench --cells` times it again"
            yield Finding(TORN, path, f"it cannot be read: {_short(error)}", remedy, _weight(path))
    for folder in sorted((store.path / "sweeps").glob("*")):
        for path, why in SweepFolder(store, folder.name).damaged().items():
            remedy = "the same `relief sweep` computes it again, from what the store knows"
            yield Finding(TORN, path, f"it cannot be read: {why}", remedy, _weight(path))


def _database(store: Store) -> Iterator[Finding]:
    path = store.path / DATABASE
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
            why = None if answer == "ok" else answer
            if path.stat().st_size == 0:
                why = "it is empty"
    except sqlite3.OperationalError as error:
        why = None if "locked" in str(error) else str(error)
    except sqlite3.Error as error:
        why = str(error)
    if why:
        remedy = "--repair sets it aside, `relief sync` writes it anew from the results"
        yield Finding(TORN, path, f"MLflow's database is damaged: {why}", remedy, _weight(path))


def _work(store: Store) -> Iterator[Finding]:
    needed = _needed(store)
    for path in sorted((store.path / "work").glob("*")):
        key, held = path.name, store.locked(path.name)
        since = _age(path)
        if held:
            yield Finding(
                UNFINISHED, path, f"a job that runs, written to {since} ago", "", _weight(path),
                key, held,
            )  # fmt: skip
        elif needed.partly or key in needed.keys:
            remedy = "the same `relief run` goes on from it"
            what = f"interrupted {since} ago"
            yield Finding(UNFINISHED, path, what, remedy, _weight(path), key)
        else:
            remedy = "`relief store prune` removes it"
            what = f"work of a job that no launch needs, {since} old"
            yield Finding(ORPHANED, path, what, remedy, _weight(path), key)


def _halves(store: Store) -> Iterator[Finding]:
    for path in sorted(store.path.rglob(f"*{PART}")):
        folder, *below = path.relative_to(store.path).parts
        if folder in ("jobs", "damaged", "data") or not path.is_file():
            continue
        if folder == "work":
            dead = not store.locked(below[0])
        else:
            dead = time.time() - path.stat().st_mtime > PART_AGE_S
        if dead:
            what = "a half-written file whose writer is dead"
            yield Finding(HALF, path, what, "--repair removes it", _weight(path))


def _aside(store: Store) -> Iterator[Finding]:
    for path in sorted((store.path / "damaged").glob("*")):
        try:
            why = (path / "why.txt").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            why = "damaged"
        yield Finding(KEPT, path, why, "`relief store prune` removes it", _weight(path))


def _locks(store: Store) -> Iterator[Finding]:
    """Lock files stay when their holder ends; they are empty, and as many as jobs."""
    free = tuple(
        path
        for path in sorted((store.path / "locks").glob("*.lock"))
        if KEY.fullmatch(path.stem)
        and not os.path.lexists(store.path / "work" / path.stem)
        and not store.locked(path.stem)
    )
    if free:
        what = f"{len(free)} locks that nobody holds"
        yield Finding(FREE, store.path / "locks", what, "harmless", 0, paths=free)


def _foreign(store: Store) -> Iterator[Finding]:
    files = {FILE, names.FILE, *(DATABASE + part for part in DATABASE_PARTS)}
    for path in sorted(store.path.glob("*")):
        expected = path.is_dir() if path.name in TOP else path.name in files
        if not expected and not path.name.endswith(PART):
            yield Finding(FOREIGN, path, "not of this program", "move it away", _weight(path))
    known = {"launches": (".json",), "failures": (".json",), "locks": (".lock", ".holder")}
    for folder, suffixes in known.items():
        for path in sorted((store.path / folder).glob("*")):
            if path.suffix not in (*suffixes, PART) and not path.name.startswith("mlflow"):
                yield Finding(FOREIGN, path, "not of this program", "move it away", _weight(path))


def repair(store: Store, findings: Sequence[Finding]) -> Iterator[tuple[Finding, str]]:
    """Mend what can be mended, one by one; -> (finding, what was done, empty if nothing was)."""
    for finding in findings:
        if finding.kind in (TORN, UNVERIFIED, HALF):
            yield finding, _repaired(store, finding)


def _repaired(store: Store, finding: Finding) -> str:
    if finding.kind == HALF:
        finding.path.unlink(missing_ok=True)
        return "removed"
    if not finding.key:
        for part in DATABASE_PARTS if finding.path.name == DATABASE else ("",):
            store.set_file_aside(Path(f"{finding.path}{part}"), finding.what)
        return "set aside"
    try:
        with store.lock(finding.key, timeout=0):
            if finding.kind == TORN:
                store.set_aside(finding.key, finding.what)
                return "set aside"
            if why := adopt(store, finding.key):
                store.set_aside(finding.key, why)
                return f"set aside: {why}"
            return "its checksums are adopted"
    except Timeout:
        return ""


def adopt(store: Store, key: str) -> str | None:
    """Give a job of schema 1 the checksums of its files; -> the file that is not whole, if any.

    Whoever calls holds the job's lock.
    """
    folder = store.folder(key)
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / RESULT)
    for path in paths:
        if why := broken(path):
            return f"{path} {why}"
    record = unsealed((folder / RESULT).read_bytes())
    files = {p.relative_to(folder).as_posix(): [p.stat().st_size, checksum(p)] for p in paths}
    write_json(folder / RESULT, sealed(record | {"schema": SCHEMA, "files": files}))
    return None


def broken(path: Path) -> str | None:
    """What is wrong with a file, as far as its own format tells."""
    if not path.stat().st_size:
        return "is empty"
    try:
        READERS.get(path.suffix, lambda path: None)(path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        return f"cannot be read: {_short(error)}"
    return None


def _read_parquet(path: Path) -> None:
    import pyarrow.parquet as pq

    pq.ParquetFile(path).read()


def _read_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if (name := archive.testzip()) is not None:
            raise ValueError(f"{name} in it is torn")


def _read_png(path: Path) -> None:
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG") or b"IEND" not in data[-16:]:
        raise ValueError("it has no beginning or no end of a PNG file")


def _read_tiff(path: Path) -> None:
    if path.read_bytes()[:2] not in (b"II", b"MM"):
        raise ValueError("it does not begin as a TIFF file")


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".npy": lambda path: np.load(path, mmap_mode="r", allow_pickle=False),
    ".npz": _read_zip,
    ".pt": _read_zip,
    ".parquet": _read_parquet,
    ".png": _read_png,
    ".tiff": _read_tiff,
}


def prune(store: Store, findings: Sequence[Finding]) -> Iterator[tuple[Finding, int]]:
    """Remove what PRUNED names; -> (finding, bytes freed). What somebody holds now stays."""
    for finding in findings:
        if finding.kind == FREE:
            for path in finding.paths:
                _unlock(store, path)
            yield finding, 0
        elif finding.kind == KEPT:
            shutil.rmtree(finding.path)
            yield finding, finding.size
        elif finding.kind == ORPHANED:
            with contextlib.suppress(Timeout), store.lock(finding.key, timeout=0):
                store.remove(finding.path)
                (store.path / "locks" / f"{finding.key}.lock").unlink(missing_ok=True)
                yield finding, finding.size


def _unlock(store: Store, path: Path) -> None:
    with contextlib.suppress(Timeout), store.lock(path.stem, timeout=0):
        path.unlink(missing_ok=True)


def _weight(path: Path, seen: set[int] | None = None) -> int:
    """Bytes of the files below; a file with several names (twin views) counts once in `seen`."""
    seen = set() if seen is None else seen
    total = 0
    files = [path] if not path.is_dir() else path.rglob("*")
    for file in files:
        with contextlib.suppress(OSError):
            stat = file.lstat()
            if not file.is_dir() and (stat.st_nlink == 1 or stat.st_ino not in seen):
                seen.add(stat.st_ino)
                total += stat.st_size
    return total


def _age(path: Path) -> str:
    """How long ago anything below was written, in words."""
    times = [p.lstat().st_mtime for p in (path, *path.rglob("*"))]
    seconds = max(0.0, time.time() - max(times))
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def _short(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
