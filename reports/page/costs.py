"""The columns of the page's table of costs, and what is to be known of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

MISSING = "–"


def amount(value: Any) -> str:
    """Three significant digits without an exponent: 0.0123, 1.23, 123, 1,230."""
    if value is None or pd.isna(value):
        return MISSING
    if isinstance(value, int):
        return f"{value:,}"
    value = float(value)
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def brief(value: Any) -> str:
    """For where there is little room: 0.01, 1.23, 12.3, 1,230."""
    if value is None or pd.isna(value):
        return MISSING
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


@dataclass(frozen=True)
class Column:
    """A quantity of the cost table. scale: what one of its units is"""

    name: str  # in the table of costs
    title: str
    unit: str = ""
    scale: float = 1.0
    of_speed: bool = False  # means little on a device that was shared
    missing: str = ""  # what it is called where no result has it; "": then it is shown all the same

    def text(self, value: Any) -> str:
        return amount(value if self.scale == 1 or value is None else value / self.scale)


MS, MIB, MILLION, GIGA = 1e-3, 2.0**20, 1e6, 1e9
COLUMNS = (
    Column("fit_s", "Fit", "s"),
    Column("latency_p50_s", "Latency", "ms", MS, True),
    Column("latency_p95_s", "95th percentile", "ms", MS),
    Column("end_to_end_p50_s", "End to end", "ms", MS, missing="latency with preprocessing"),
    Column("fps", "Speed", "images/s"),
    Column("throughput", "In batches", "images/s", missing="throughput in batches"),
    Column("parameters", "Parameters", "M", MILLION),
    Column("macs", "MACs", "G", GIGA, missing="multiply-accumulate operations"),
    Column("weight_bytes", "Weights", "MiB", MIB),
    Column("bank_bytes", "Bank", "MiB", MIB, missing="size of memory banks"),
    Column("host_peak_bytes", "Host peak", "MiB", MIB),
    Column("device_peak_bytes", "GPU peak", "MiB", MIB, missing="peak GPU memory"),
    Column("hours", "Hours", "all cells"),
    Column("cells", "Cells"),
)


def columns(cost: pd.DataFrame) -> list[Column]:
    """Those that have a value, and those that every result should have."""
    return [c for c in COLUMNS if not c.missing or not cost[c.name].isna().all()]


def notes(cost: pd.DataFrame) -> list[str]:
    """What is to be known of the table, in sentences."""
    known: Callable[[str], bool] = lambda name: not cost[name].isna().all()  # noqa: E731
    found = [
        "Fit is the mean over cells, latency and speed the median for single images, memory the "
        "largest peak. Fit, in batches and hours are of the jobs, whoever shared their device."
    ]
    if known("end_to_end_p50_s"):
        found.append("End to end: with reading and preprocessing, timed when the view was made.")
    if known("macs"):
        found.append(
            "MACs: multiply-accumulates of one image in convolutions, matrix products and "
            "attention; searches are not counted."
        )
    if cost["device"].nunique() > 1:
        found.append("Times from different devices may not be compared.")
    if lacking := [c.missing for c in COLUMNS if c.missing and not known(c.name)]:
        found.append(f"No result holds: {', '.join(lacking)}.")
    return found
