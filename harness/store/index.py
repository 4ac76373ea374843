"""What is done in a store, known without opening every record again.

    STORE/index.txt    a line for each record that was read and found sound

A line holds the stamps of the record's file and of the folders that hold the job's files, and what
the job took. It is believed as long as these are their stamps now: whatever is added, removed,
renamed or replaced in a folder gives it another one. So a job costs two looks and not one a file;
a file that is cut short where it lies is found by whoever reads the record (`Record.check`).
Anything else, a line that is torn, an index that is gone or of another version, only means that
records are read again. Lines are appended, the last of a key counts; several processes may do so.
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness.store.alike import Taken
from harness.store.records import RESULT, SCHEMA, Record
from methods.files import PART

FILE = "index.txt"
HEAD = b"relief index 2\n"  # raise when lines mean something else, or `alike` does
RECORD, SEPARATOR = os.fsencode(RESULT), os.fsencode(os.sep)
KEPT = 256  # lines that are held back before they are written
SLACK = 1000  # lines of no use that are not worth writing the file anew


class Stamp(NamedTuple):
    """A state of a file or folder: any change is another stamp. Times in ns, of the file system."""

    modified: int
    changed: int  # also by what sets `modified` back
    size: int
    inode: int

    @classmethod
    def of(cls, path: str | bytes | Path) -> Stamp | None:
        """None if there is no such file."""
        try:
            return cls.seen(os.stat(path))
        except OSError:
            return None

    @classmethod
    def seen(cls, stat: os.stat_result) -> Stamp:
        return cls(stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)


class Index:
    """The lines of one store. Reads them when first asked."""

    def __init__(self, store: Path):
        self.path, self.jobs = store / FILE, f"{store / 'jobs'}{os.sep}"
        self._jobs = os.fsencode(self.jobs)
        self._lines: dict[str, bytes] | None = None
        self._fresh: list[bytes] = []
        self._stale = 0  # lines in the file that later ones replace

    def sound(self, key: str) -> Stamp | None:
        """The stamp of a job's record, if the index knows it and its folders as they are."""
        line = self._known.get(key)
        if line is None or not (parts := _parts(line)):
            return None
        folder = b"%s%s%s" % (self._jobs, key.encode(), SEPARATOR)
        try:
            stamp = Stamp.seen(os.stat(folder + RECORD))
            if parts[1] != b"%d %d %d %d" % stamp:
                return None
            for name, seen in zip(parts[3::2], parts[4::2]):
                if seen != b"%d %d %d %d" % Stamp.seen(os.stat(folder + name)):
                    return None
        except OSError:
            return None
        return stamp

    def taken(self, key: str) -> Taken | None:
        """What the job took when it was last looked at. Raises KeyError if it is not known."""
        if not (parts := _parts(self._known[key])):
            raise KeyError(key)
        values = json.loads(parts[2])
        return None if values is None else Taken(*values)

    def learn(self, key: str, record: Record, stamp: Stamp, folders: Mapping[str, Stamp]) -> None:
        """Keep what was found sound. Of schema 1 nothing is kept: it lists no files.

        folders: as `folders_of` saw them before the files were looked at
        """
        if record.schema != SCHEMA:
            return
        taken = Taken.of(record)
        parts = [b"%d %d %d %d" % stamp, json.dumps(taken and taken.plain()).encode()]
        for name, seen in folders.items():
            parts += [os.fsencode(name), b"%d %d %d %d" % seen]
        text = b"\t".join(parts)
        if b"\n" in text or text.count(b"\t") != len(parts) - 1:
            return  # a name that a line cannot hold
        line = b"%08x\t%s" % (zlib.crc32(text), text)
        self._stale += key in self._known
        self._known[key] = line
        self._fresh.append(b"%s %s\n" % (key.encode(), line))
        if len(self._fresh) >= KEPT:
            self.flush()

    def flush(self) -> None:
        """Write what was learned. A store that cannot be written to goes without."""
        fresh, self._fresh = self._fresh, []
        if not fresh or not Path(self.jobs).is_dir():
            return
        with suppress(OSError):
            if self._stale > SLACK + len(self._known) or not self._versioned():
                self._write_anew()
                return
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, b"".join(fresh))
            finally:
                os.close(handle)

    @property
    def _known(self) -> dict[str, bytes]:
        if self._lines is None:
            self._lines, count = {}, 0
            for key, line in self._stored():
                self._lines[key] = line
                count += 1
            self._stale = count - len(self._lines)
        return self._lines

    def _stored(self) -> Iterator[tuple[str, bytes]]:
        try:
            text = self.path.read_bytes()
        except OSError:
            return
        if not text.startswith(HEAD):
            return
        for row in text[len(HEAD) :].split(b"\n"):
            key, _, line = row.partition(b" ")
            if line:
                yield key.decode("latin-1"), line

    def _versioned(self) -> bool:
        try:
            with self.path.open("rb") as file:
                return file.read(len(HEAD)) == HEAD
        except OSError:
            return False

    def _write_anew(self) -> None:
        """With the lines of jobs that are there alone. Not synced: it can be made again."""
        there = set(os.listdir(self.jobs))
        rows = [b"%s %s\n" % (k.encode(), v) for k, v in self._known.items() if k in there]
        part = self.path.with_name(f"{FILE}.{uuid.uuid4().hex[:8]}{PART}")
        try:
            part.write_bytes(HEAD + b"".join(rows))
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)
        self._stale = 0


def folders_of(record: Record) -> dict[str, Stamp]:
    """The folders that hold a job's files, by their path below its own; those that are there."""
    names = {name.rpartition("/")[0] for name in record.files} | {""}
    found = {name: Stamp.of(record.folder / name) for name in sorted(names)}
    return {name: stamp for name, stamp in found.items() if stamp is not None}


def _parts(line: bytes) -> list[bytes]:
    """Checksum, stamp, what the job took, then folders and stamps; empty if the line is torn."""
    check, _, text = line.partition(b"\t")
    try:
        return line.split(b"\t") if int(check, 16) == zlib.crc32(text) else []
    except ValueError:
        return []
