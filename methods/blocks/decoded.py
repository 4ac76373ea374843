"""Images that are decoded once: kept on disk as they are used, for all jobs of a machine.

A file of the user's cache has a record for each image: its pixels, and a sum of these with what the
system says of the file that they come from. What does not agree was never written, or half, or is
of an image that changed since, and is decoded anew. So nothing has to be locked or put on disk at
once, and threads and processes that write the same record write the same bytes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from methods.files import cache

GIB = "RELIEF_IMAGES_GIB"  # environment: how much of the disk one set of images may take
DEFAULT_GIB = 4.0  # DTD takes 1.0 at 256 px; the 1.28 million images of ImageNet would take 235
SHARE = 0.1  # of what is free on the disk, at most: it is not ours alone
MIX = 0x9E3779B97F4A7C15  # an odd word, so that what is summed does not cancel out

log = logging.getLogger(__name__)


class Decoded:
    """Images of files, uint8 (size, size, 3), by their index: the first so many are kept.

    decode: index of a file -> its image, in that size
    """

    def __init__(self, files: Sequence[Path], size: int, decode: Callable[[int], np.ndarray]):
        self.files, self.decode, self.shape = files, decode, (size, size, 3)
        self.pixels = size * size * 3
        self.record = -(-self.pixels // 8) * 8 + 8  # bytes: whole words, and the sum
        self.kept, self.file = 0, -1
        try:
            self._open()
        except OSError as error:
            log.warning("images are decoded at each use, since the cache cannot be had: %s", error)

    def __call__(self, index: int) -> np.ndarray:
        if index >= self.kept:
            return self.decode(index)
        about, words = os.stat(self.files[index]), np.empty(self.record // 8, np.uint64)
        if self._read(words, index) and words[-1] == _sum(words, about):
            return self._image(words)
        words[-2:] = 0
        self._image(words)[...] = self.decode(index)
        words[-1] = _sum(words, about)
        self._write(words, index)
        return self._image(words)

    def __del__(self):
        if self.file >= 0:
            os.close(self.file)

    def _open(self) -> None:
        limit = _limit() * 2**30
        if limit < self.record:
            return
        path = cache(f"images-{self._name()}.u8")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        own = os.fstat(self.file).st_blocks * 512  # bytes; the file has holes
        room = min(limit, SHARE * (shutil.disk_usage(path.parent).free + own))
        self.kept = min(len(self.files), int(room) // self.record)
        if self.kept < len(self.files):
            whole = len(self.files) * self.record / 2**30
            said = (
                "kept decoded are %d of %d images; all take %.1f GiB (%s, a tenth of the free disk)"
            )
            log.info(said, self.kept, len(self.files), whole, GIB)

    def _name(self) -> str:
        """Of these files, in this size, decoded by this OpenCV."""
        about = hashlib.sha256(f"{self.shape} {cv2.getBuildInformation()}".encode())
        for path in self.files:
            about.update(os.fsencode(path) + b"\0")
        return about.hexdigest()[:16]

    def _read(self, words: np.ndarray, index: int) -> bool:
        try:
            return os.preadv(self.file, [words], index * self.record) == self.record
        except OSError:
            return False

    def _write(self, words: np.ndarray, index: int) -> None:
        try:
            os.pwrite(self.file, words, index * self.record)
        except OSError as error:  # a full disk, a quota
            self.kept = 0
            log.warning("images are decoded at each use from now on: %s", error)

    def _image(self, words: np.ndarray) -> np.ndarray:
        return words.view(np.uint8)[: self.pixels].reshape(self.shape)


def _limit() -> float:
    """GiB."""
    given = os.environ.get(GIB) or DEFAULT_GIB
    with suppress(ValueError):
        if (limit := float(given)) >= 0:  # NaN is not
            return limit
    raise ValueError(f"{GIB} is {given!r}; it must be a number of GiB, such as 4, or 0 for none")


def _sum(words: np.ndarray, about: os.stat_result) -> np.uint64:
    """Of a record but for its last word: pixels, and which state of which file they are of."""
    pixels = int(words[:-1].sum(dtype=np.uint64))
    origin = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, pixels)
    total = 1
    for number in origin:
        total = (total + number) * MIX % 2**64
    return np.uint64(total)
