"""Tables of samples, as spreadsheets and scripts write them: a row a sample."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.files import read_text, reading
from harness.data.formats import DEPTHS
from harness.data.importing.frames import GOOD, Frame, Left
from harness.data.samples import SPLITS, DataError, split_meant
from methods.errors import UserError

COLUMNS = {  # ours -> theirs
    "rgb": ("rgb", "image", "color", "colour", "file", "filename", "path"),
    "depth": ("depth", "cloud", "xyz", "pcd", "ply"),
    "gt": ("mask", "gt", "ground_truth"),
    "split": ("split", "set", "subset"),
    "defect": ("defect", "label", "class", "anomaly"),
}
NEEDED = ("rgb", "depth")
NO, YES = ("0", "false", "no", "none"), ("1", "true", "yes")  # answers to "defect?"
DELIMITERS = ",;\t"
NAMELESS = "defect"  # a defect of which no more is said


@dataclass(frozen=True)
class Table:
    file: Path
    rows: Sequence[dict[str, str]]
    named: dict[str, str | None]  # our column -> its own

    @classmethod
    def read(cls, file: Path) -> Table:
        """Raises DataError for what is no table."""
        text = read_text(file)
        head = text.partition("\n")[0]
        delimiter = max(DELIMITERS, key=head.count)
        lines = text.splitlines()
        rows = reading(file, lambda: list(csv.DictReader(lines, delimiter=delimiter)))
        columns = [column for column in (rows[0] if rows else ()) if column]
        named = {
            own: next((c for c in columns if c.strip().lower() in theirs), None)
            for own, theirs in COLUMNS.items()
        }
        return cls(file, rows, named)

    @property
    def lacking(self) -> list[str]:
        return [name for name in NEEDED if self.named[name] is None]

    def frames(self) -> tuple[list[Frame], list[Left]]:
        """The samples that it names, and why rows are none. Raises DataError without any row."""
        if not self.rows:
            raise DataError(f"{self.file} has no rows", "give a header and a row a sample")
        if self.lacking:
            raise DataError(
                f"{self.file} has no column for {' and '.join(self.lacking)}; it has "
                f"{', '.join(c for c in self.rows[0] if c)}",
                "name them image and depth; split, defect and mask may follow",
                self.file,
            )
        frames, left, seen = [], [], {}
        for number, row in enumerate(self.rows, start=2):
            found = self._frame(row, f"line {number} of {self.file.name}")
            files = (found.rgb, found.points) if isinstance(found, Frame) else ()
            if isinstance(found, Left):
                left.append(found)
            elif files in seen:
                left.append(Left(found.rgb, f"line {number} repeats line {seen[files]}"))
            else:
                frames.append(found)
            seen.setdefault(files, number)
        return frames, left

    def _frame(self, row: dict[str, str], line: str) -> Frame | Left:
        def cell(name: str) -> str:
            return (row[column] or "").strip() if (column := self.named[name]) else ""

        if empty := [self.named[name] for name in NEEDED if not cell(name)]:
            return Left(self.file, f"{line} has no {' and '.join(map(str, empty))}")
        rgb, points = (self._path(cell(name)) for name in NEEDED)
        mask = self._path(cell("gt")) if cell("gt") else None
        for path in filter(None, (rgb, points, mask)):
            if not path.is_file():
                return Left(path, f"{line} names it: not there")
        word, split = cell("defect"), cell("split")
        defect = "good" if word.lower() in (*GOOD, *NO) else word
        defect = NAMELESS if defect.lower() in YES else defect
        of = split_meant(split)
        if split and not of:
            return Left(rgb, f"{line}: no split {split!r}, there are {', '.join(SPLITS)}")
        of = of or ("train" if defect == "good" else "test")
        is_depth = "depth" in (self.named["depth"] or "").lower()
        is_depth &= points.suffix.lower() in DEPTHS
        return Frame(rgb, points, is_depth, of, defect, mask)

    def _path(self, text: str) -> Path:
        """A file named in the table, from its folder; \\ as Windows writes it, if that is there."""
        path = self.file.parent / text
        other = self.file.parent / text.replace("\\", "/")
        return other if other.is_file() and not path.is_file() else path


def table_in(root: Path) -> Table | None:
    """The table of samples of a folder: one that has a column for them. UserError if several do."""
    found = []
    for path in sorted(root.glob("*.csv")):
        try:
            table = Table.read(path)
        except DataError:
            continue
        found += [table] if len(table.lacking) < len(NEEDED) else []
    if len(found) > 1:
        names = ", ".join(table.file.name for table in found)
        raise UserError(f"{root} holds several tables ({names}): say which with --csv FILE")
    return found[0] if found else None
