"""The leaderboards as LaTeX tables; needs the package booktabs and nothing else."""

from __future__ import annotations

import re

from harness.metrics import get, headlines
from harness.store import COMMON
from reports.forms.text import beside_common, grouped, of_pixels
from reports.forms.words import (
    BELOW_SIGNS,
    INFERRED_TEXT,
    below_text,
    interval_text,
    signature_lines,
)
from reports.numbers.leaderboard import Board, Row, in_protocol
from reports.numbers.names import (
    method_label,
    metric_label,
    metric_text,
    protocol_label,
    setting_label,
)
from reports.numbers.published import Verdict

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_BELOW = {True: r"\textdagger{}", False: r"\textdaggerdbl{}"}


def escaped(text: str) -> str:
    """Text from data, on one line, that LaTeX prints as it is."""
    text = re.sub(r"\s+", " ", text)
    return "".join(_SPECIAL.get(c, c) for c in text)


def leaderboard_latex(boards: list[Board]) -> str:
    """A table for every dataset, setting, protocol and headline metric, by category.

    boards: of all protocols; metrics of images are the same in both, and stand once
    """
    parts = [
        "% \\usepackage{booktabs}. In percent; best bold, second underlined, then the standard\n"
        "% deviation over seeds; below, the interval over test images, and\n"
        "% where a paper prints one, its value."
    ]
    others = [grouped(in_protocol(boards, protocol)) for protocol in beside_common(boards)]
    for dataset, settings in grouped(in_protocol(boards, COMMON)).items():
        for setting, of_setting in settings.items():
            parts += [_table(of_setting[metric]) for metric in headlines() if metric in of_setting]
            for other in others:
                found = other.get(dataset, {}).get(setting, {})
                parts += [_table(found[metric]) for metric in of_pixels(found)]
    return "\n\n".join(parts) + "\n"


def _table(board: Board) -> str:
    columns = [*board.categories, None]  # None: the mean
    head = ["method", *board.categories, "mean", "group"]
    parts = [metric_label(board.metric), board.dataset, setting_label(board.setting)]
    if not get(board.metric).of_images:
        parts.append(protocol_label(board.protocol))
    title = ", ".join(parts)
    lines = [
        *(f"% signature: {text}" for text in signature_lines([board])),
        r"\begin{table}",
        rf"\caption{{{escaped(title)}}}",
        r"\centering\small",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        _line(escaped(name) for name in head),
        r"\midrule",
    ]
    for row in board.rows:
        name = escaped(method_label(row.method, row.variant))
        marks = "".join(rf"\,[{escaped(mark)}]" for mark in row.marks)
        marks += rf"\,{_BELOW[row.below.apart]}" if row.below else ""
        cells = [_cell(board, row, column) for column in columns]
        lines.append(_line([name + marks, *cells, str(row.group or "--")]))
        if any(row.bounds(column) for column in columns):
            ends = [interval_text(board.metric, row.bounds(c)).replace("–", "--") for c in columns]
            cells = [rf"{{\scriptsize {text}}}" if text else "" for text in ends]
            lines.append(_line([r"\quad 95\,\% interval", *cells, ""]))
        if row.published or row.quotes:
            quoted = [row.quoted(column) for column in columns]
            values = [_printed(board, found) if found else "" for found in quoted]
            lines.append(_line([r"\quad published", *values, ""]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    if len(board.signatures) > 1:
        lines += ["", r"\smallskip These rows were not all scored the same way."]
    if note := below_text(board):
        signs = {BELOW_SIGNS[apart]: sign for apart, sign in _BELOW.items()}
        note = "".join(signs.get(c, c) for c in escaped(note))
        lines += ["", rf"\smallskip {note}"]
    quoted = [row.quoted(column) for row in board.rows for column in columns]
    if any(found and found.inferred for found in quoted):
        lines += ["", rf"\smallskip $^{{\circ}}$ {INFERRED_TEXT}"]
    return "\n".join([*lines, r"\end{table}"])


def _cell(board: Board, row: Row, category: str | None) -> str:
    score = row.score(category)
    if score.value is None:
        return "--"
    commands = {board.second(category): r"\underline", board.best(category): r"\textbf"}
    command = commands.get(score.value)
    text = metric_text(board.metric, score.value)
    text = f"{command}{{{text}}}" if command else text
    if score.std is None:
        return text
    return text + rf" {{\scriptsize$\pm${metric_text(board.metric, score.std)}}}"


def _printed(board: Board, found: Verdict) -> str:
    sign = r"$^{\circ}$" if found.inferred else ""
    return metric_text(board.metric, found.quote.value) + sign


def _line(cells) -> str:
    return " & ".join(cells) + r" \\"
