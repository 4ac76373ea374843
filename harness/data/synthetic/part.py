"""The files of a category while it is being written."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from harness.store.files import checksum


class Part:
    """An unfinished category: `tree` is what will be published, `work` what will not.

    Thousands of small files are not put on disk one by one: a finished sample names its files with
    their checksums, so after a power cut those that did not get there are written again.
    """

    def __init__(self, folder: Path):
        self.folder, self.tree, self.work = folder, folder / "tree", folder / "work"

    def write(self, path: Path, content) -> None:
        """Write bytes, or whatever a function of an open file writes; never half a file."""
        half = self.work / f"{uuid.uuid4().hex}.half"
        with open(half, "wb") as file:
            content(file) if callable(content) else file.write(content)
        os.replace(half, path)

    def finish_sample(
        self, split: str, defect: str, index: int, drawn: dict, paths: Iterable[str]
    ) -> None:
        """paths: of the sample's files in the tree"""
        files = {path: checksum(self.tree / path) for path in paths}
        value = {"drawn": drawn, "files": files}
        self.write(self._drawn_path(split, defect, index), json_bytes(value))

    def has_sample(self, split: str, defect: str, index: int) -> bool:
        """Whether it was finished, and every byte of it is there."""
        try:
            files = self._finished(split, defect, index)["files"]
            return all(checksum(self.tree / path) == known for path, known in files.items())
        except (OSError, ValueError, KeyError, TypeError):  # not there, or not whole
            return False

    def drawn(self, split: str, defect: str, index: int) -> dict:
        return self._finished(split, defect, index)["drawn"]

    def _finished(self, *sample) -> dict:
        return json.loads(self._drawn_path(*sample).read_text())

    def _drawn_path(self, *sample) -> Path:
        return self.work / f"{sample_name(*sample).replace('/', '-')}.json"


def sample_name(split: str, defect: str, index: int) -> str:
    return f"{split}/{defect}/{index:03d}"


def json_bytes(value) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
