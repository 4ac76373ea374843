"""A study's report: each value that a table prints, ours beside it, and the difference.

Means are over all categories of the table. On other data (the synthetic categories of the demo)
only means can be set side by side, and they say whether the rows come in the paper's order, not
whether ours agree with it. Data are the paper's by what they are (reports/numbers/data.py), and
nothing is judged of a demo, of random weights, of edited code, of other settings than the study's,
or of other few-shot samples than the printed row's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from harness.store import PAPER, Record, Results, write_text
from harness.store.timed import speed_of
from methods.marks import ALTERED, UNJUDGED, shots
from reports.forms.text import DEMO
from reports.forms.words import INFERRED_SIGN
from reports.numbers.comparison import INFERRED, MEANING, OTHER, SEPARATOR, comparison
from reports.numbers.evidence import read_evidence
from reports.numbers.frame import read_results, results_frame
from reports.numbers.leaderboard import Board, leaderboards
from reports.numbers.names import metric_label, setting_label
from reports.numbers.published import (
    ABOVE,
    BELOW,
    Quote,
    Verdict,
    known_categories,
    published_cells,
    verdict,
)
from reports.page import pages

MEAN = "mean"
OTHER_DATA = "not the published data"
OURS = ("dbrn", "dbrn_ms", "3dsr", "dsr", "das3d", "m3dm", "shape_guided")  # method_key
MEASURED = {  # metrics of cost: column of the results frame, unit of the table / unit of ours
    "fps": ("fps", 1.0),
    "inference_time_s": ("latency_p50_s", 1.0),
    "memory_mb": ("predict_device_bytes", 2.0**-20),
    "params_m": ("parameters", 1e-6),
    "gmacs": ("macs_as_printed", 1e-9),
    "n_features": ("rgb_features_searched", 1.0),
    "memory_share": ("rgb_features_share", 1.0),
}


@dataclass(frozen=True)
class Line:
    """One published value and ours."""

    row: str  # as printed
    setting: str
    metric: str
    category: str
    published: float
    ours: float | None
    std: float | None  # over seeds
    low: float | None  # 95 % over test images
    high: float | None
    difference: float | None
    verdict: str
    note: str  # why there is no value, or what to know of it
    compares: str  # same, inferred or other (reports/numbers/comparison.py)
    reasons: str  # of that

    @property
    def whys(self) -> list[str]:
        return list(filter(None, self.reasons.split(SEPARATOR)))


def study_lines(store: Results, launch: dict) -> list[Line]:
    """One line for every value that the study's table prints for one of the five methods."""
    study = launch["study"]
    results = read_results(store, launch)
    frame = _with_parts(results_frame(store, launch, results, PAPER), results)
    boards = leaderboards(frame, read_evidence(store, frame))
    found = {tuple(cell["printed"]) + (cell["setting"],): cell for cell in launch["cells"]}
    left_out = {tuple(row["printed"]): row["why"] for row in study.get("left_out", ())}
    known = set(known_categories(study["dataset"]))
    own = set(frame["category"])
    lines = []
    for printed in ours_only(published_cells(study["paper"], study["table"])).itertuples():
        cell = found.get((printed.method_key, printed.variant, printed.setting))
        name = (printed.method_key, printed.variant, printed.setting)
        compared = comparison(printed, _inputs(results, cell))
        if cell is None:
            value = _Value(note=left_out.get(name, "no row of the study computes it"))
        elif compared.compares == OTHER:
            value = _Value(note="not compared")
        elif printed.category != MEAN and printed.category not in own:
            continue  # other data: only means are set side by side
        elif printed.metric in MEASURED:
            value = _measured(frame, cell, printed.paper, printed.metric)
        else:
            value = _score(boards, cell, printed, own_settings=study.get("sets", False))
            if printed.category == MEAN and own != known and value.ours is not None:
                value.note, value.found = f"mean over {', '.join(sorted(own))}", None
        lines.append(
            Line(
                printed.method,
                printed.setting,
                printed.metric,
                printed.category,
                printed.value,
                value.ours,
                value.std,
                value.low,
                value.high,
                None if value.ours is None else value.ours - printed.value,
                value.found.text if value.found else "",
                value.note,
                compared.compares,
                SEPARATOR.join(compared.reasons),
            )
        )
    return lines


def _inputs(results: dict[str, Record], cell: dict | None) -> Collection[str] | None:
    """The settings that gave files to a cell's result; None where there is none yet."""
    if cell is None or cell["key"] not in results:
        return None
    return results[cell["key"]].spec.values.get("inputs", {})


def _with_parts(frame: pd.DataFrame, results: dict[str, Record]) -> pd.DataFrame:
    """With what papers measure apart: features searched, the RGB part, memory of a prediction."""

    def column(of: Callable[[Record], float | None]) -> pd.Series:
        found = [of(results[key]) if key in results else None for key in frame["key"]]
        return pd.Series(found, dtype=float, index=frame.index)

    searched = column(lambda r: r.sizes.get("rgb_features_searched"))
    rgb_s = column(lambda r: speed_of(r).get("part_rgb_s"))
    return frame.assign(
        rgb_features_searched=searched,
        rgb_features_share=searched / column(lambda r: r.sizes.get("rgb_features")),
        rgb_part_s=rgb_s,
        rgb_part_fps=1 / rgb_s,
        predict_device_bytes=column(lambda r: speed_of(r).get("predict_device_peak_bytes")),
        macs_as_printed=column(
            lambda r: r.sizes.get("macs_per_patch") or r.sizes.get("macs_network")
        ),
    )


def ours_only(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells["method_key"].isin(OURS)]


@dataclass
class _Value:
    ours: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    found: Verdict | None = None
    note: str = ""


def _score(boards: list[Board], cell: dict, printed, own_settings: bool) -> _Value:
    """own_settings: whether the study's rows set some, which are no alteration"""
    where = cell["dataset"], cell["setting"], printed.metric
    board = next((b for b in boards if (b.dataset, b.setting, b.metric) == where), None)
    row = board.row(cell["method"], cell["variant"]) if board else None
    if row is None:
        return _Value(note="no result")
    category = None if printed.category == MEAN else printed.category
    score = row.score(category)
    if score.value is None:
        return _Value(note=score.note)
    bounds, spread = row.bounds(category), row.spread(category)
    quote = Quote(printed.value, printed.paper, printed.table, printed.method)
    low, high = bounds or (None, None)
    value = _Value(score.value, score.std, low, high)
    of = row.scores if category is None else (category,)
    if {row.data.get(name) for name in of} != {printed.dataset}:
        value.note = OTHER_DATA
    elif marks := [m for m in row.marks if _other(m, printed.variant, own_settings)]:
        value.note = ", ".join(marks)
    else:
        value.found = verdict(score.value, quote, spread, bounds)
    return value


def _other(mark: str, variant: str, own_settings: bool) -> bool:
    """Whether results with that mark are no try at the printed row of that variant."""
    if few := shots(mark):
        return variant != f"shot_{few}"
    return mark in UNJUDGED and not (mark == ALTERED and own_settings)


COUNTED = ("n_features", "memory_share")  # printed as means: 208,230 is that of the categories'
APART = {  # what a paper measures otherwise: (paper, metric) -> as in MEASURED
    ("shape_guided", "inference_time_s"): ("rgb_part_s", 1.0),
    ("shape_guided", "fps"): ("rgb_part_fps", 1.0),
    ("m3dm", "memory_mb"): ("host_peak_bytes", 1e-6),  # of the whole run, 1 GB taken as 1000 MB
}


def _measured(frame: pd.DataFrame, cell: dict, paper: str, metric: str) -> _Value:
    """The median over the row's cells: machines and categories differ little, outliers much.

    Of what is counted and not clocked the mean, as printed.
    """
    column, factor = APART.get((paper, metric), MEASURED[metric])
    names = ("dataset", "setting", "method", "variant")
    chosen = frame[(frame[list(names)] == [cell[name] for name in names]).all(axis=1)]
    values = chosen[column].dropna() if column in frame else pd.Series(dtype=float)
    if values.empty:
        why = "needs a GPU" if column == "predict_device_bytes" else "not measured"
        return _Value(note=why)
    device = chosen["device"].dropna().unique()
    values = values.astype(float)
    middle = values.mean() if metric in COUNTED else values.median()
    return _Value(float(middle) * factor, note=", ".join(device))


def study_table(launch: dict, lines: Iterable[Line]) -> Table:
    """The means for the terminal, below the name of each row; what is to be known of them last.

    No more columns than 80 characters hold: there a row's name would be what has no room left.
    """
    means = [line for line in lines if line.category == MEAN]
    one_setting = len({line.setting for line in means}) == 1
    remarks: dict[str, int] = {}

    def numbered(texts: Iterable[str], sign: str = "") -> str:
        found = [str(remarks.setdefault(text, len(remarks) + 1)) for text in texts if text]
        return sign + ",".join(found) if found else ""

    table = Table(title=title(launch), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("published", "ours", "difference", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for (row, setting), part in groupby(means, lambda line: (line.row, line.setting)):
        of_row = list(part)
        common = [r for r in of_row[0].whys if all(r in line.whys for line in of_row)]
        name = row if one_setting else f"{row}, {setting_label(setting)}"
        table.add_row(f"[bold]{escape(name)}[/bold]", *[""] * 4, numbered(common, INFERRED_SIGN))
        for line in of_row:
            shown = shown_line(line)
            own = numbered((r for r in line.whys if r not in common), INFERRED_SIGN)
            notes = " ".join(filter(None, (numbered([shown["remark"]]), own)))
            cells = (shown[k] for k in ("published", "ours", "difference", "interval"))
            table.add_row(f"  {shown['metric']}", *cells, notes)
    # The texts would leave no room for the numbers.
    legend = [f"{number}  {escape(remark)}" for remark, number in remarks.items()]
    if any(line.compares == INFERRED for line in means):
        legend.insert(0, f"{INFERRED_SIGN}  {MEANING[INFERRED]}:")
    table.caption, table.caption_justify = "\n".join(legend) or None, "left"
    return table


def title(launch: dict) -> str:
    study = launch["study"]
    return f"{study['paper']}, {study['table']}" + (" (demo)" if launch.get("demo") else "")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def shown_line(line: Line) -> dict[str, str]:
    """A line as text: shares in percent, other metrics in the table's unit."""
    share = line.metric not in MEASURED
    number = (lambda v: f"{100 * v:.1f}") if share else _figure
    ends = (line.low, line.high)
    interval = " to ".join(number(end) for end in ends if end is not None)
    sign = (
        ""
        if line.difference is None
        else f"{'+' if line.difference >= 0 else '−'}{number(abs(line.difference))}"
    )
    return {
        "row": line.row,
        "setting": setting_label(line.setting),
        "metric": metric_label(line.metric),
        "category": line.category,
        "published": number(line.published),
        "ours": "–"
        if line.ours is None
        else number(line.ours) + (f" ± {number(line.std)}" if line.std is not None else ""),
        "difference": sign,
        "interval": interval,
        "remark": line.verdict or line.note,
        "compares": line.compares,
        "why": line.reasons,
    }


def write_study(store: Results, launch: dict, folder: Path) -> tuple[Path, list[Line]]:
    """study.csv, study.md and study.html; -> the page and its lines."""
    lines = study_lines(store, launch)
    table = pd.DataFrame([asdict(line) for line in lines])
    write_text(
        folder / "study.csv", table.to_csv(index=False, lineterminator="\n", float_format="%.6f")
    )
    shown = [shown_line(line) for line in lines]
    heads = (
        "row",
        "setting",
        "metric",
        "category",
        "published",
        "ours",
        "difference",
        "interval",
        "remark",
        "compares",
        "why",
    )
    write_text(
        folder / "study.md",
        "\n".join(
            [
                f"# {title(launch)}",
                "",
                *([DEMO, ""] if launch.get("demo") else []),
                "| " + " | ".join(heads) + " |",
                "|" + "---|" * len(heads),
                *(
                    "| " + " | ".join(line[h].replace("|", "\\|") for h in heads) + " |"
                    for line in shown
                ),
            ]
        )
        + "\n",
    )
    page = folder / "study.html"
    write_text(
        page,
        pages.environment()
        .get_template("study.html.j2")
        .render(
            title=title(launch),
            demo=DEMO if launch.get("demo") else "",
            **_page(lines, shown),
        ),
    )
    return page, lines


def _page(lines: list[Line], shown: list[dict[str, str]]) -> dict[str, Any]:
    """What the page says of the lines: each reason once, and what is the same in all lines not."""
    reasons = list(dict.fromkeys(r for line in lines for r in line.reasons.split(SEPARATOR) if r))
    told = [
        text
        | {
            "notes": [reasons.index(r) + 1 for r in line.reasons.split(SEPARATOR) if r],
            "class": line.verdict if line.verdict in (ABOVE, BELOW) else "",
        }
        for line, text in zip(lines, shown)
    ]
    of_all = ("setting", "metric", "category")
    have = sum(line.ours is not None for line in lines)
    found = Counter(line.verdict for line in lines if line.verdict)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
    alike = [name for name in of_all if shown and len({text[name] for text in shown}) == 1]
    where = "".join(f", {shown[0][name]}" for name in alike)
    counts = f"{have} of {len(lines)} printed values have ours beside them{where}"
    return {
        "lines": told,
        "between": [name for name in of_all if name not in alike],
        "reasons": reasons,
        "meaning": MEANING,
        "counts": f"{counts}: {verdicts}." if verdicts else f"{counts}.",
    }
