"""Arrays kept in files, one row a sample: written in order, read back one by one.

Plain reads and writes: the pages of a memory map would count as memory of the process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


class Writer:
    """A file of rows of one shape and type; a killed writer goes on after those `done`.

    total: how many there will be, of a .npy file; None: the bare values, however many.
    """

    def __init__(self, path: Path, done: int = 0, total: int | None = None):
        self.path, self.done, self.total, self.file = path, done, total, None
        if not done:
            path.touch()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_) -> None:
        if self.file:
            with self.file:
                self.flush()

    def add(self, rows: np.ndarray) -> None:
        """rows (n, ...)"""
        if self.file is None:
            self._open(rows)
        self.file.write(np.ascontiguousarray(rows).tobytes())
        self.done += len(rows)

    def _open(self, rows: np.ndarray) -> None:
        self.file = self.path.open("r+b" if self.done else "wb")
        if self.total is not None:
            header = np.lib.format.header_data_from_array_1_0(rows)
            header["shape"] = (self.total, *rows.shape[1:])
            np.lib.format.write_array_header_1_0(self.file, header)
        # What was written after the last checkpoint is written again.
        self.file.truncate(self.file.seek(self.done * rows[0].nbytes, os.SEEK_CUR))

    def flush(self) -> None:
        """Put the rows on disk: before a checkpoint counts them, or a power cut takes some."""
        if self.file:
            self.file.flush()
            os.fsync(self.file.fileno())

    def flushed(self) -> int:
        """How many rows there are, all on disk."""
        self.flush()
        return self.done


class Rows:
    """Rows of one shape and type in a file, from a byte `offset` on."""

    def __init__(self, path: Path, shape: Sequence[int], dtype: np.dtype, offset: int = 0):
        self.path, self.shape, self.dtype, self.offset = path, tuple(shape), np.dtype(dtype), offset

    @classmethod
    def of_npy(cls, path: Path) -> Rows:
        array = np.load(path, mmap_mode="r")
        return cls(path, array.shape[1:], array.dtype, array.offset)

    def read(self, first: int, count: int) -> np.ndarray:
        """(count, ...)"""
        size = int(np.prod(self.shape))
        offset = self.offset + first * size * self.dtype.itemsize
        found = np.fromfile(self.path, self.dtype, count * size, offset=offset)
        return found.reshape(count, *self.shape)


class Kept:
    """Arrays of the samples called `ids`, a row each, in this order."""

    def __init__(self, ids: Sequence[str], arrays: Mapping[str, Rows]):
        self.row, self.arrays = {id: row for row, id in enumerate(ids)}, arrays

    def __contains__(self, id: str) -> bool:
        return id in self.row

    def __getitem__(self, id: str) -> dict[str, np.ndarray]:
        return {name: rows.read(self.row[id], 1)[0] for name, rows in self.arrays.items()}
