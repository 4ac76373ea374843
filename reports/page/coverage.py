"""Which published values have a study, how they compare, and why others have none."""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from methods.names import our_method
from reports.numbers.comparison import GRAVITY, MEANING, SEPARATOR, comparison
from reports.numbers.published import SOURCES, published_cells
from reports.page.studies import ours_only


def coverage(
    computed: dict[tuple[str, str], set], unmet: dict[tuple[str, str], list]
) -> pd.DataFrame:
    """Every published value of the five methods: is there a study that computes it, or why not.

    computed: (paper, table) -> {(method_key, variant, setting)}; unmet: (paper, table) -> Unmet
    """
    cells = pd.concat([ours_only(published_cells(paper)) for paper in SOURCES], ignore_index=True)
    compared = [comparison(cell) for cell in cells.itertuples()]

    def reason(cell) -> str:
        where = (cell.paper, cell.table)
        for part in unmet.get(where, []):
            if part.variant in ("", cell.variant) and (
                not part.metrics or cell.metric in part.metrics
            ):
                return part.reason
        if where not in computed:
            return "no study of this table"
        if (cell.method_key, cell.variant, cell.setting) not in computed[where]:
            return "no row of the study computes it"
        return ""

    return cells.assign(
        reason=[reason(cell) for cell in cells.itertuples()],
        compares=[found.compares for found in compared],
        why=[SEPARATOR.join(found.reasons) for found in compared],
        given=[
            ", ".join(f"{our_method(cell.method_key)}.{name}" for name in found.given)
            for found, cell in zip(compared, cells.itertuples())
        ],
    )


def coverage_table(found: pd.DataFrame) -> Table:
    """Per table how many values have a study, how these compare, and what has none and why."""
    have = found["reason"] == ""
    counts = [f"{(have & (found['compares'] == how)).sum()} {how}" for how in GRAVITY]
    table = Table(
        "paper",
        "table",
        "values",
        *GRAVITY,
        "no study",
        title=f"{have.sum()} of {len(found)} published values have a study: {', '.join(counts)}",
    )
    for (paper, name), part in found.groupby(["paper", "table"], sort=False):
        missing = part[part["reason"] != ""]
        named = [
            f"{row} {setting} {metric}: {why}"
            for (row, setting, metric, why), _ in missing.groupby(
                ["method", "setting", "metric", "reason"], sort=False
            )
        ]
        there = part[part["reason"] == ""]
        numbers = [str((there["compares"] == how).sum() or "") for how in GRAVITY]
        table.add_row(paper, name, str(len(part)), *numbers, "\n".join(named))
    return table


def reasons_table(found: pd.DataFrame) -> Table:
    """Why values compare in part or not at all, and how many it holds for."""
    table = Table("values", "compares", "why", title="what is not as published")
    told = found.assign(each=found["why"].str.split(SEPARATOR)).explode("each")
    for (how, why), part in told[told["why"] != ""].groupby(["compares", "each"], sort=False):
        table.add_row(str(len(part)), how, why)
    for how in GRAVITY:
        table.add_row("", how, MEANING[how])
    files = sorted({name for text in found["given"] for name in text.split(", ") if name})
    table.caption = (
        f"Counted as with the authors' files of {', '.join(files)} (relief weights list)."
    )
    return table
