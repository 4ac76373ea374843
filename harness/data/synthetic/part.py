"""The files of a category while it is being written."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path


class Part:
    """An unfinished category: `tree` is what will be published, `work` what will not."""

    def __init__(self, folder: Path):
        self.folder, self.tree, self.work = folder, folder / "tree", folder / "work"

    def write(self, path: Path, content) -> None:
        """Write bytes, or whatever a function of an open file writes; never half a file."""
        half = self.work / f"{uuid.uuid4().hex}.half"
        with open(half, "wb") as file:
            content(file) if callable(content) else file.write(content)
        os.replace(half, path)

    def finish_sample(self, split: str, defect: str, index: int, drawn: dict) -> None:
        self.write(self._drawn_path(split, defect, index), json_bytes(drawn))

    def has_sample(self, split: str, defect: str, index: int) -> bool:
        return self._drawn_path(split, defect, index).exists()

    def drawn(self, split: str, defect: str, index: int) -> dict:
        return json.loads(self._drawn_path(split, defect, index).read_text())

    def _drawn_path(self, *sample) -> Path:
        return self.work / f"{sample_name(*sample).replace('/', '-')}.json"


def sample_name(split: str, defect: str, index: int) -> str:
    return f"{split}/{defect}/{index:03d}"


def json_bytes(value) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
