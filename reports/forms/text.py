"""The leaderboard as Markdown and for the terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.metrics import get, headlines
from harness.store import COMMON, DONE, PAPER, PROTOCOLS, Results
from methods.marks import DEMO as DEMO_MARK
from methods.marks import meaning
from reports.forms.words import (
    BELOW_SIGNS,
    VERDICT_KEY,
    below_sign,
    below_text,
    interval_text,
    points,
    signature_lines,
    unbounded_text,
    verdict_sign,
)
from reports.numbers.evidence import read_evidence
from reports.numbers.frame import (
    PENDING,
    printable,
    protocols_of,
    read_results,
    results_frame,
    unscored_lines,
)
from reports.numbers.leaderboard import (
    Board,
    Lead,
    Row,
    Score,
    in_protocol,
    leaderboards,
)
from reports.numbers.names import (
    method_label,
    metric_label,
    metric_text,
    protocol_label,
    setting_label,
    status_label,
)

DEMO = "Demo: a short run that shows the program at work. These numbers do not measure the methods."

COVERS = (
    "95 %, over test images: how far a value may be off because the test set holds these images. "
    "What another training would give is in ±, over seeds."
)
AHEAD = "a baseline of its setting has a better mean; the page says whether beyond chance"

COMMON_TEXT = (
    "Common protocol: every map is brought back to the sensor's pixels, without padding, and "
    "compared with the untouched ground truth."
)
PAPER_TEXT = (
    "Papers' own protocol: each method at the pixels of its own view, as its paper scored it, for "
    "comparison with published numbers."
)
SHRUNK_TEXT = (
    "As in the common protocol, maps and ground truth then shrunk to so many pixels of the longer "
    "side; not comparable with the tables above."
)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def score_text(score: Score, metric: str) -> str:
    """ "93.1 ± 0.4", or why there is no number."""
    if score.value is None:
        return "n/a" if status_label(score.status) == "n/a" else f"– ({score.note})"
    spread = "" if score.std is None else f" ± {metric_text(metric, score.std)}"
    return metric_text(metric, score.value) + spread


def lead_parts(lead: Lead | None, rows: tuple[Row, ...]) -> tuple[str, str]:
    """Who leads by how much, and whether the test images can tell the two apart (or nothing)."""
    complete = [row for row in rows if row.rank]
    if not complete:
        return "No method is complete yet", ""
    if lead is None:
        only = method_label(complete[0].method, complete[0].variant)
        return f"{only} is the only complete row", ""
    first = method_label(lead.first.method, lead.first.variant)
    second = method_label(lead.second.method, lead.second.variant)
    if lead.by == 0:
        return f"{first} and {second} are level", ""
    text = f"{first} leads {second} by {100 * lead.by:.1f} points"
    if lead.interval is None:
        return text, ""
    low, high = map(points, lead.interval)
    if lead.interval[0] <= 0:
        told = "the test images do not separate them"
    elif lead.first.group == lead.second.group:
        told = "taken alone the two are told apart, among all pairs of the table they are not"
    else:
        told = "the test images separate them"
    return text, f"95\u00a0% interval {low} to {high}; {told}"


def lead_text(lead: Lead | None, rows: tuple[Row, ...]) -> str:
    """`lead_parts` as a sentence."""
    text, sure = lead_parts(lead, rows)
    return f"{text} ({sure})." if sure else f"{text}."


def grouped(boards: list[Board]) -> dict[str, dict[str, dict[str, Board]]]:
    """dataset -> setting -> metric -> board, in the order of the list."""
    tree: dict = {}
    for board in boards:
        tree.setdefault(board.dataset, {}).setdefault(board.setting, {})[board.metric] = board
    return tree


def row_marks(launch: dict, boards: list[Board]) -> list[str]:
    """Marks to show beside rows; in a demo the banner says "demo" for all of them."""
    marks = {mark for board in boards for row in board.rows for mark in row.marks}
    return sorted(marks - ({DEMO_MARK} if launch.get("demo") else set()))


def headline(boards: dict[str, Board]) -> list[str]:
    return [metric for metric in headlines() if metric in boards]


def counts_text(frame: pd.DataFrame) -> str:
    """ "31 of 36 cells done, 2 failed, 3 pending"."""
    counts = Counter(frame["status"])
    order = sorted(counts, key=lambda status: (status == PENDING, status))
    others = [f"{counts[status]} {status_label(status)}" for status in order if status != DONE]
    return ", ".join([f"{counts[DONE]} of {len(frame)} cells done", *others])


def leaderboard_markdown(
    launch: dict,
    frame: pd.DataFrame,
    boards: list[Board],
    badge: str = "",
    lacking: Sequence[str] = (),
) -> str:
    """Means of the headline metrics, then I-AUROC by category; no times or dates.

    boards: of both protocols; badge: what came of computing cells again
    (harness/store/verified.py); lacking: what to say of scores that are not there
    """
    marks = row_marks(launch, boards)
    lines = [f"# Leaderboard: {_escaped(launch['name'])}", ""]
    if launch.get("demo"):
        lines += [f"> **{DEMO}**", ""]
    if badge:
        lines += [f"**{_escaped(badge[:1].upper() + badge[1:])}.**", ""]
    lines += [
        f"{counts_text(frame)}. Percent; mean over seeds, then over categories; ± is the standard "
        "deviation over seeds. Best bold, second italic. A row that lacks a cell has no mean and "
        "no rank. Group: one plus the number of rows that a paired test finds better.",
        "",
    ]
    lines += [line for text in lacking for line in (_escaped(text), "")]
    for dataset, settings in grouped(in_protocol(boards, COMMON)).items():
        lines += [f"## {_escaped(dataset)}", "", COMMON_TEXT, ""]
        for setting, of_setting in settings.items():
            lines += _markdown_setting(setting, of_setting, marks)
        for protocol in beside_common(boards):
            of_dataset = grouped(in_protocol(boards, protocol)).get(dataset, {})
            for setting, of_setting in of_dataset.items():
                lines += _markdown_means(setting, of_setting, marks)
    lines += [f"Intervals: {COVERS}", ""]
    if bare := unbounded_text(boards):
        lines += [_escaped(f"No interval: {bare}."), ""]
    if signatures := signature_lines(boards):
        lines += ["How metrics were scored:", "", *(f"- `{text}`" for text in signatures), ""]
    if any(row.published for board in boards for row in board.rows):
        lines += [f"In brackets: what the paper prints; {VERDICT_KEY}.", ""]
    if marks:
        lines += [f"- *{_escaped(mark)}*: {meaning(mark)}" for mark in marks]
        lines += [""]
    if len(missing := frame[~frame["status"].isin([DONE, PENDING])]):
        lines += ["## Cells without a result", ""]
        rows = [
            [
                method_label(c.method, c.variant),
                setting_label(c.setting),
                c.dataset,
                c.category,
                str(c.seed),
                status_label(c.status),
                c.reason,
            ]
            for c in missing.itertuples()
        ]
        head = ["method", "setting", "dataset", "category", "seed", "status", "reason"]
        lines += [*markdown_table(head, rows), ""]
    return "\n".join(lines)


def summary_markdown(frame: pd.DataFrame, boards: list[Board]) -> str:
    """A small table for each dataset and headline metric, methods by settings; few words below.

    For where the first lines are all that is seen; every mark stands beside its row.
    """
    marks = sorted({mark for board in boards for row in board.rows for mark in row.marks})
    lines: list[str] = []
    for dataset, settings in grouped(boards).items():
        for metric in dict.fromkeys(m for of_setting in settings.values() for m in of_setting):
            shown = [of[metric] for of in settings.values() if metric in headline(of)]
            rows: dict[tuple[str, str], list[str]] = {}
            for row in (row for board in shown for row in board.rows):
                rows.setdefault((row.method, row.variant), [_marked(row, marks)])
            for (method, variant), cells in rows.items():
                found = [(board, board.row(method, variant)) for board in shown]
                cells += [_marked_score(board, row) if row else "" for board, row in found]
            if rows:
                head = [f"{dataset} {metric_label(metric)}"]
                head += [setting_label(board.setting) for board in shown]
                lines += [*markdown_table(head, list(rows.values())), ""]
    lines.append(
        f"{counts_text(frame)}. Percent; mean over seeds, then over categories. Best bold, second "
        "italic."
    )
    return "\n".join(lines)


def _markdown_setting(setting: str, boards: dict[str, Board], marks: list[str]) -> list[str]:
    metrics = headline(boards) or list(boards)[:1]
    if not metrics:
        return []
    main = boards[metrics[0]]
    rows = []
    for row in main.rows:
        name = [str(row.rank or "–"), str(row.group or "–"), _signed(row, marks)]
        rows.append(name + _means(boards, metrics, row))
    head = ["#", "group", "method", *_mean_heads(metrics)]
    lead = _escaped(lead_text(main.lead, main.rows))
    lines = [f"### {_escaped(setting_label(setting))}", "", lead, ""]
    lines += markdown_table(head, rows)
    if note := below_text(main):
        lines += ["", note]
    for board in (boards[m] for m in metrics):
        label = _escaped(metric_label(board.metric))
        lines += ["", f"{label} by category, and its 95 % interval:", ""]
        lines += _markdown_categories(board, marks)
    return [*lines, ""]


def _markdown_categories(board: Board, marks: list[str]) -> list[str]:
    rows = []
    for row in board.rows:
        cells = [
            _Raw(f"{_marked_score(board, row, c)}<br>{interval_text(board.metric, row.bounds(c))}")
            if row.bounds(c)
            else _marked_score(board, row, c)
            for c in (*board.categories, None)
        ]
        rows.append([_signed(row, marks), *cells])
    return markdown_table(["method", *board.categories, "mean"], rows)


def _means(boards: dict[str, Board], metrics: Sequence[str], row: Row) -> list[str]:
    """Of a row on the boards of these metrics: each mean, and its interval."""
    cells = []
    for board in (boards[m] for m in metrics):
        mine = same(board, row)
        cells += [_marked_score(board, mine), interval_text(board.metric, mine.interval) or "–"]
    return cells


def _mean_heads(metrics: Sequence[str]) -> list[str]:
    return [title for m in metrics for title in (metric_label(m), "95 % interval")]


def _markdown_means(setting: str, boards: dict[str, Board], marks: list[str]) -> list[str]:
    """The means of pixel metrics in another protocol than the common one."""
    metrics = of_pixels(boards)
    if not metrics:
        return []
    main = boards[metrics[0]]
    rows = [[_signed(row, marks), *_means(boards, metrics, row)] for row in main.rows]
    title = f"### {_escaped(setting_label(setting))}, {protocol_label(main.protocol)}"
    says = PAPER_TEXT if main.protocol == PAPER else SHRUNK_TEXT
    table = markdown_table(["method", *_mean_heads(metrics)], rows)
    below = below_text(main)
    return [title, "", says, "", *table, "", *([below, ""] if below else [])]


def of_pixels(boards: dict[str, Board]) -> list[str]:
    """Those of the headline metrics that depend on the protocol; without any, all that do."""
    found = [metric for metric in boards if not get(metric).of_images]
    return [metric for metric in found if metric in headline(boards)] or found


def beside_common(boards: Sequence[Board]) -> list[str]:
    """The other protocols that cells were scored in."""
    return [p for p in dict.fromkeys(board.protocol for board in boards) if p != COMMON]


def same(board: Board, row: Row) -> Row:
    """The row of the same method and variant on another board of its setting."""
    found = board.row(row.method, row.variant)
    assert found is not None, "the boards of a setting have the same rows"
    return found


def _marked(row: Row, marks: list[str]) -> str:
    shown = "".join(f" [{mark}]" for mark in row.marks if mark in marks)
    return method_label(row.method, row.variant) + shown


def _signed(row: Row, marks: list[str]) -> str:
    return " ".join(filter(None, (_marked(row, marks), below_sign(row))))


def _marked_score(board: Board, row: Row, category: str | None = None) -> str:
    """ "**93.1 ± 0.4** (94.5 ≈)": best and second marked, and what the paper prints."""
    score = row.score(category)
    text = score_text(score, board.metric)
    if score.value is None:
        return text
    sign = {board.second(category): "*", board.best(category): "**"}.get(score.value, "")
    found = row.quoted(category)
    printed = f" ({percent(found.quote.value)} {verdict_sign(found)})" if found else ""
    return _Raw(f"{sign}{text}{sign}{printed}")


class _Raw(str):
    """Markdown of our own, not to be escaped."""


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Its lines; texts are shown as they are."""
    lines = [[_escaped(cell) for cell in row] for row in [head, *rows]]
    lines.insert(1, ["---"] * len(head))
    return ["| " + " | ".join(line) + " |" for line in lines]


def _escaped(text: str) -> str:
    """Text that Markdown and the HTML inside it show as it is, on one line."""
    if isinstance(text, _Raw):
        return text
    text = re.sub(r"([\\`*\[\]|#])", r"\\\1", re.sub(r"\s+", " ", text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def leaderboard_text(store: Results, launch: dict) -> Group:
    """A compact table a dataset for the terminal: mean headline metrics by setting and method.

    Without the image scores, so it says of baselines who is ahead, and not whether by chance.
    """
    results = read_results(store, launch)
    frame = results_frame(store, launch, results)
    boards, parts = leaderboards(frame, read_evidence(store, frame)), []
    marks, signs = row_marks(launch, boards), False
    for dataset, settings in grouped(boards).items():
        metrics = headline(next(iter(settings.values())))
        table = Table(title=Text(dataset), title_justify="left", header_style="bold")
        table.add_column("setting")
        table.add_column("method")
        for metric in metrics:
            table.add_column(metric_label(metric), justify="right")
        for setting, found in settings.items():
            if not metrics:
                continue
            for i, row in enumerate(found[metrics[0]].rows):
                cells = [_terminal(same(found[m], row).mean, found[m]) for m in metrics]
                name = Text(_marked(row, marks) + f" {BELOW_SIGNS[False]}" * bool(row.below))
                signs = signs or bool(row.below)
                table.add_row(Text("" if i else setting_label(setting)), name, *cells)
            table.add_section()
        parts.append(table)
    if any(row.interval for board in boards for row in board.rows):
        parts.append(Text(f"In brackets {COVERS}"))
    if bare := unbounded_text(boards):
        parts.append(Text(f"No interval: {bare}."))
    if signs:
        parts.append(Text(f"{BELOW_SIGNS[False]} {AHEAD}"))
    if launch.get("demo"):
        parts.append(Text(DEMO, style="yellow"))
    parts += [Text(f"{mark}: {meaning(mark)}", style="yellow") for mark in marks]
    parts += [Text(printable(line), style="yellow") for line in unscored_lines(launch, results)]
    if shrunk := [name for name in protocols_of(results) if name not in PROTOCOLS]:
        parts.append(
            Text(f"Also scored in {', '.join(shrunk)}: see leaderboard.md, .csv and .tex.")
        )
    parts.append(Text(f"{printable(launch['name'])}: {counts_text(frame)}"))
    return Group(*parts)


def _terminal(score: Score, board: Board) -> Text:
    text = score_text(score, board.metric)
    if score.value is None:
        return Text("–" if score.note else text, style="dim")
    if score.interval:
        text += f" ({interval_text(board.metric, score.interval)})"
    return Text(text, style="bold" if score.value == board.best() else "")
