"""What the files of a category hold, known without reading them twice.

The bytes of a dataset identify it: a copy elsewhere is the same data, and a changed byte is other
data whatever its file's time says. Each file is read once; then its checksum counts as long as its
size, its times of change and its inode stay. That notices whatever a file system is told to write;
bytes that a disk changes by itself are found by `rotten`, which reads all of them.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from harness.data.samples import Category, paths_of
from harness.store.files import checksum
from harness.store.index import Stamp
from methods.files import cache, read_cache, write_cache

THREADS = 8  # files read at a time: a disk needs several, and hashing is faster than any
MUCH = 10**9  # bytes that are not read without a word
TELL_S = 10.0  # between two words

Sums = dict[str, list]  # file below the category -> its stamp, and its checksum behind it


def content(category: Category) -> str:
    return contents([category])[0]


def contents(
    categories: Sequence[Category], tell: Callable[[str], None] = lambda line: None
) -> list[str]:
    """16 hex digits of the content of each: names below its folder, and bytes.

    tell: takes a line, if much has to be read
    """
    known: list[Sums] = [read_cache(_path(category.folder)) for category in categories]
    files = [_stamped(category) for category in categories]
    ahead = [
        (i, name, stamp)
        for i, found in enumerate(files)
        for name, stamp in found.items()
        if stamp and known[i].get(name, [])[:-1] != [*stamp]
    ]
    if ahead:
        of = sum(stamp.size for *_, stamp in ahead)
        word = _Word(categories, of, tell)

        def read(one: tuple[int, str, Stamp]) -> None:
            i, name, stamp = one
            with suppress(OSError):  # its faults come up when it is read for a view
                known[i][name] = [*stamp, checksum(categories[i].folder / name)]
            word.read(stamp.size)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(read, ahead))
    for i in {i for i, *_ in ahead}:
        kept = {name: known[i][name] for name in files[i] if name in known[i]}
        write_cache(_path(categories[i].folder), kept)
    return [_digest(found, sums) for found, sums in zip(files, known)]


def rotten(category: Category) -> list[Path]:
    """Files that hold other bytes than when they were read first, though nobody wrote to them."""
    known, found = read_cache(_path(category.folder)), []
    for name, stamp in _stamped(category).items():
        path = category.folder / name
        if stamp and name in known and known[name][:-1] == [*stamp]:
            with suppress(OSError):  # told by who opens it
                found += [path] * (checksum(path) != known[name][-1])
    return found


class _Word:
    """Says what is read if it is much, and how far it is."""

    def __init__(self, categories: Iterable[Category], of: int, tell: Callable[[str], None]):
        self.of, self.done, self.told = of, 0, time.monotonic()
        self.tell = tell if of >= MUCH else lambda line: None
        root = os.path.commonpath([category.folder.parent for category in categories])
        self.tell(
            f"reading {of / 1e9:.1f} GB in {root} to know the data by their content; from now on "
            "only what changes is read"
        )

    def read(self, size: int) -> None:
        self.done += size
        if time.monotonic() - self.told >= TELL_S:
            self.told = time.monotonic()
            self.tell(f"{self.done / 1e9:.1f} of {self.of / 1e9:.1f} GB read")


def _stamped(category: Category) -> dict[str, Stamp | None]:
    """Files by their names below the category's folder, sorted; None of what is none."""
    start = len(os.fspath(category.folder)) + 1
    paths = paths_of(category)
    return {path[start:]: Stamp.of(path) if Path(path).is_file() else None for path in paths}


def _digest(files: dict[str, Stamp | None], sums: Sums) -> str:
    digest = hashlib.sha256()
    for name in files:
        sum_ = sums[name][-1] if name in sums and files[name] else "-"
        digest.update(f"{name} {sum_}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _path(folder: Path) -> Path:
    where = os.fsencode(folder.resolve())
    return cache(f"content-{hashlib.sha256(where).hexdigest()[:16]}.json")
