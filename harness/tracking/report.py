"""What MLflow shows of a launch's report: files, means as metrics, a table, a description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.metrics import headlines
from harness.store import COMMON, PART
from harness.store.files import checksum
from harness.tracking.content import Point, plain_name

PAGE = "leaderboard/leaderboard.html"  # artifact of a launch's run
SUMMARY = "summary.md"  # of the report: its means in few lines
TABLE = "leaderboard.json"  # artifact that MLflow shows as a table
STABLE = ("leaderboard.csv", "cells.csv", SUMMARY)  # no times in them: equal results, equal bytes


def state_of(folder: Path | None) -> list[str]:
    """What tells whether a report is another one."""
    paths = [folder / name for name in STABLE] if folder else []
    return [checksum(path) if path.exists() else "" for path in paths]


def files_of(folder: Path, name: str, deep: bool = True) -> dict[str, Path | str]:
    """The files of a folder as artifacts under `name`; deep: with those of its folders.

    Another process may be writing the same files: those under way are left out.
    """
    return {
        f"{name}/{file.relative_to(folder).as_posix()}": file
        for file in sorted(folder.rglob("*") if deep else folder.iterdir())
        if file.is_file() and file.suffix != PART
    }


def summary_of(folder: Path) -> str:
    """The means as a table in Markdown; empty where the report has none, as those of before."""
    try:
        return (folder / SUMMARY).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def means_of(folder: Path, at_ms: int) -> tuple[list[Point], str]:
    """The means of the leaderboard as metrics, and as the text of a table that MLflow shows.

    Metrics are called [common/]<dataset>/<setting>/<method>[-<variant>]/<metric>.
    """
    import pyarrow.parquet as pq

    path = folder / "leaderboard.parquet"
    if not path.exists():  # a report of an earlier version
        return [], ""
    shown = headlines()
    rows = [
        row
        for row in pq.read_table(path).to_pylist()
        if row["category"] == "mean"
        and row["metric"] in shown
        and row.get("protocol", COMMON) == COMMON
    ]
    points = []
    for row in rows:
        if row["value"] is None:
            continue
        method = "-".join(filter(None, (row["method"], row["variant"])))
        common = [COMMON] if row.get("protocol") == COMMON else []  # as in the runs of cells
        name = "/".join([*common, row["dataset"], row["setting"], method, row["metric"]])
        points.append(Point(plain_name(name), row["value"], at_ms, 0))
    columns = list(rows[0]) if rows else []
    data: list[list[Any]] = [["" if row[c] is None else row[c] for c in columns] for row in rows]
    return points, json.dumps({"columns": columns, "data": data}, default=str)
