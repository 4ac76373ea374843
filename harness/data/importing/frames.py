"""What is looked for: the files of one sample, and those that belong to none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.data.importing.annotations import Outlines

GOOD = ("good", "ok", "normal", "nominal", "")


@dataclass(frozen=True)
class Frame:
    """The files of one sample, and where it goes."""

    rgb: Path
    points: Path  # a depth image or a cloud
    is_depth: bool
    split: str
    defect: str
    mask: Path | Outlines | None = None


@dataclass(frozen=True)
class Left:
    """A file that belongs to no sample."""

    file: Path
    why: str
