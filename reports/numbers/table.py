"""The leaderboards as one table in long form."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.numbers.board import Board, Row
from reports.numbers.comparison import SEPARATOR
from reports.numbers.names import metric_order

CSV_COLUMNS = (  # programs read these: new ones are added at the end
    "dataset",
    "setting",
    "method",
    "variant",
    "metric",
    "protocol",
    "category",
    "value",
    "std",
    "seeds",
    "status",
    "low",
    "high",
    "group",
    "below",
    "published",
    "difference",
    "verdict",
    "source",
    "marks",
    "difference_low",
    "difference_high",
    "difference_basis",
    "tested_on",
    "signature",
    "inferred",
)
_NUMBERS = (
    "value",
    "std",
    "low",
    "high",
    "published",
    "difference",
    "difference_low",
    "difference_high",
)


def leaderboard_table(boards: list[Board]) -> pd.DataFrame:
    """Every score in long form, without times or dates: equal results give equal tables."""
    rows = [
        _line(board, row, category)
        for board in boards
        for row in board.rows
        for category in (*row.scores, None)
    ]
    rows.sort(key=_order)
    table = pd.DataFrame(rows, columns=CSV_COLUMNS)
    return table.astype(dict.fromkeys(_NUMBERS, float) | {"group": "Int64"})


def leaderboard_csv(boards: list[Board]) -> str:
    """The table with 6 digits: equal results give equal bytes."""
    return leaderboard_table(boards).to_csv(index=False, lineterminator="\n", float_format="%.6f")


def _line(board: Board, row: Row, category: str | None) -> dict[str, Any]:
    """category: None for the mean"""
    mean, score, found = category is None, row.score(category), row.quoted(category)
    low, high = score.interval or (None, None)
    line: dict[str, Any] = {
        "dataset": board.dataset,
        "setting": board.setting,
        "method": row.method,
        "variant": row.variant,
        "metric": board.metric,
        "protocol": board.protocol,
        "category": "mean" if mean else category,
        "value": score.value,
        "std": score.std,
        "seeds": score.seeds,
        "status": score.status,
        "low": low,
        "high": high,
        "group": row.group if mean else None,
        "below": row.below.text if mean and row.below else "",
        "verdict": "",
        "source": "",
        "marks": ";".join(row.marks),
        "difference_basis": "",
        "tested_on": board.tested_on if mean else "",
        "signature": ";".join(row.signatures),
        "inferred": "",
    }
    if found:
        line |= {
            "published": found.quote.value,
            "difference": found.difference,
            "verdict": found.text,
            "source": found.quote.source,
            "difference_basis": found.basis,
            "inferred": SEPARATOR.join(found.inferred),
        }
        line |= zip(("difference_low", "difference_high"), found.interval or (None, None))
    return line


def _order(line: dict[str, Any]) -> tuple:
    names = [line[name] for name in CSV_COLUMNS[:4]]
    mean = line["category"] == "mean"
    return *names, metric_order(line["metric"]), line["protocol"], mean, line["category"]
