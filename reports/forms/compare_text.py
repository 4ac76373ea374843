"""A comparison for the terminal, as CSV and as JSON."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.metrics import get
from harness.metrics.registry import PERCENT
from reports.forms.words import points
from reports.numbers.compare import BETTER, OVERALL, WORSE, Change, Comparison
from reports.numbers.frame import printable
from reports.numbers.names import method_label, metric_label, setting_label

STYLES = {WORSE: "bold red", BETTER: "green"}
BASES = {
    "images": "the test images that both sides scored",
    "seeds": "the seeds that both sides ran",
    "categories": "the categories",
}


def comparison_text(found: Comparison, categories: bool = True) -> Group:
    """A table of every change; with `categories` off only those over all categories."""
    tables: dict[str, Table] = {}
    for change in found.changes:
        if categories or change.category == OVERALL or change.verdict in STYLES:
            style = "bold" if change.category == OVERALL else ""
            style = STYLES.get(change.verdict, style)
            title = ", ".join(_title(change))
            table = tables.setdefault(title, _table(title))
            table.add_row(*map(_text, _cells(change)), style=style)
    notes = [f"{found.pairs} pairs of cells, in percent. {_bases(found)}"]
    for title, cells in (("A has and B lacks", found.lost), ("B has and A lacks", found.gained)):
        if cells:
            shown = "; ".join(cells[:10]) + ("; ..." if len(cells) > 10 else "")
            notes.append(f"{title} {len(cells)} results: {shown}")
    count = len(found.regressions)
    notes.append(
        f"{count} significant regression{'s' * (count != 1)}"
        if count
        else "No significant regression."
    )
    return Group(*tables.values(), *(_text(note) for note in notes))


def comparison_csv(found: Comparison) -> str:
    rows = pd.DataFrame(_rows(found))
    return rows.to_csv(index=False, lineterminator="\n", float_format="%.6f")


def comparison_plain(found: Comparison, protocol: str) -> dict[str, Any]:
    """For scripts: what the table has, shares in [0, 1], and the cells that one side lacks."""
    return {
        "protocol": protocol,
        "pairs": found.pairs,
        "regressions": len(found.regressions),
        "lost": list(found.lost),
        "gained": list(found.gained),
        "changes": _rows(found),
    }


def _rows(found: Comparison) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in vars(change).items() if k not in ("interval", "signatures")}
        | {
            "difference": change.by,
            "low": (change.interval or (None, None))[0],
            "high": (change.interval or (None, None))[1],
            "signature": "; ".join(change.signatures),  # more than one: not the same quantity
        }
        for change in found.changes
    ]


def _text(value: str) -> Text:
    """Plain text: names from data are no markup."""
    return Text(printable(value))


def _title(change: Change) -> tuple[str, ...]:
    method = method_label(change.method, change.variant)
    return change.dataset, setting_label(change.setting), method


def _table(title: str) -> Table:
    table = Table(
        title=_text(title),
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # whole words in 80 columns
        pad_edge=False,
    )
    for column in ("metric", "category"):
        table.add_column(column, overflow="fold")
    for column in ("A", "B", "B - A", "95 % interval", "p (Holm)"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    return table


def _cells(change: Change) -> list[str]:
    low_high, factor = "–", 1.0 if get(change.metric).unit == PERCENT else 0.01
    if change.interval:
        low_high = " to ".join(points(factor * bound, 2) for bound in change.interval)
    return [
        metric_label(change.metric),
        change.category,
        f"{100 * factor * change.a:.2f}",
        f"{100 * factor * change.b:.2f}",
        points(factor * change.by, 2),
        low_high,
        "–" if change.p is None else f"{change.p:.3g}",
        change.verdict,
    ]


def _bases(found: Comparison) -> str:
    used = [basis for basis in BASES if any(c.basis == basis for c in found.changes)]
    if not used:
        return "Nothing could be tested: there are neither image scores nor several seeds."
    by = "; ".join(
        f"{', '.join(dict.fromkeys(metric_label(c.metric) for c in found.changes if c.basis == b))}"
        f" over {BASES[b]}"
        for b in used
    )
    training = " Images say nothing of the chance in training; several seeds do."
    return f"Tested: {by}.{training if used == ['images'] else ''}"
