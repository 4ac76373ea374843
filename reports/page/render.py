"""The report of a launch: one HTML file that needs nothing else, and the tables beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jinja2
import pandas as pd

from harness.metrics import find, get
from harness.store import (
    COMMON,
    DONE,
    PAPER,
    DamagedError,
    Record,
    Results,
    write_text,
)
from harness.store.rescored import scores_of
from harness.store.verified import badge
from methods.files import replaced
from methods.marks import meaning
from reports.forms.latex import leaderboard_latex
from reports.forms.text import (
    COMMON_TEXT,
    DEMO,
    PAPER_TEXT,
    counts_text,
    grouped,
    headline,
    lead_parts,
    leaderboard_markdown,
    leaderboard_text,
    of_pixels,
    percent,
    row_marks,
    same,
    summary_markdown,
)
from reports.forms.words import (
    INFERRED_SIGN,
    VERDICT_KEY,
    below_sign,
    below_text,
    difference_text,
    interval_text,
    quote_text,
    test_text,
    unbounded_text,
    verdict_class,
    verdict_sign,
)
from reports.numbers import names
from reports.numbers.choice import MIDDLE, check_known
from reports.numbers.cost import cost_frame, hours_frame
from reports.numbers.evidence import read_evidence
from reports.numbers.frame import (
    PENDING,
    metric_names,
    printable,
    protocols_of,
    read_results,
    read_scores,
    results_frame,
    unscored_lines,
)
from reports.numbers.leaderboard import (
    Board,
    boards_of_all,
    in_protocol,
    leaderboard_csv,
    leaderboard_table,
)
from reports.numbers.per_image import defects_table, images_table
from reports.numbers.stores import Checked, checked
from reports.page import costs, pages
from reports.page.answer import answer
from reports.page.figures import legend
from reports.page.insights import CLASSES, insights, speeds
from reports.page.sheets import sheets

__all__ = ["leaderboard_text", "write_report"]


def write_report(
    store: Results, launch: dict, folder: str | Path, show: Sequence[str] = (MIDDLE,)
) -> Path:
    """Write leaderboard.html, .md, .tex, .csv and .parquet, cells.*, cost.csv, hours.csv,
    figures/*.svg; -> the HTML.

    Every file is replaced in one step, the HTML last. leaderboard.csv holds no times or dates:
    the same results give the same bytes. show: rules and ids of the images on the sheets.
    A cell whose files turn out damaged has that as its status, with the file named; give a
    `Checked` store to know which these were.
    """
    store = checked(store)
    while True:
        try:
            return _write_report(store, launch, Path(folder), show)
        except DamagedError as error:  # of maps, which are read last: all before it stands anew
            if error.key in store.damaged:
                raise
            store.note(error)


def _write_report(store: Checked, launch: dict, folder: Path, show: Sequence[str]) -> Path:
    results = read_results(store, launch)
    frames = {p: results_frame(store, launch, results, p) for p in protocols_of(results)}
    frame = frames[COMMON]
    scores = read_scores(store, frame)
    check_known(show, scores.values())
    evidence = {p: read_evidence(store, of, scores) for p, of in frames.items()}
    boards, cost = boards_of_all(frames, evidence), cost_frame(frame)
    common, pixels = in_protocol(boards, COMMON), _of_pixels(in_protocol(boards, PAPER))
    switch = _Switch.of([*common, *pixels])
    lacking = unscored_lines(launch, results)
    again = badge(results.values())
    write_text(folder / "leaderboard.csv", leaderboard_csv(boards))
    text = leaderboard_markdown(launch, frame, boards, again, lacking)
    write_text(folder / "leaderboard.md", text)
    write_text(folder / "summary.md", summary_markdown(frame, common))
    write_text(folder / "cost.csv", cost.to_csv(index=False, lineterminator="\n"))
    hours = hours_frame(store, results)
    write_text(folder / "hours.csv", hours.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "leaderboard.tex", leaderboard_latex(boards))
    for name, table in (("images", images_table), ("defects", defects_table)):
        text = table(frame, scores).to_csv(index=False, lineterminator="\n", float_format="%.6f")
        write_text(folder / f"{name}.csv", text)
    cells = pd.concat(frames.values(), ignore_index=True)
    cells = cells.convert_dtypes()  # whole numbers without ".0" beside missing ones
    write_text(folder / "cells.csv", cells.to_csv(index=False, lineterminator="\n"))
    _write_parquet(folder / "cells.parquet", cells)
    _write_parquet(folder / "leaderboard.parquet", leaderboard_table(boards))
    found, timed = insights(frame, store, scores, common), speeds(common, cost)
    _write_figures(folder / "figures", found.figures(timed))
    page = (
        _environment()
        .get_template("leaderboard.html.j2")
        .render(
            launch=launch,
            title=printable(launch["name"]),
            demo=DEMO if launch.get("demo") else "",
            facts=_facts(frame, results),
            counts=counts_text(frame),
            again=again,
            lacking=lacking,
            datasets=grouped(common),
            papers=grouped(pixels),
            answer=answer([*common, *pixels], cost),
            switch=switch,
            place={name: i for i, name in enumerate(switch.metrics)},
            setting_place={name: i for i, name in enumerate(switch.settings)},
            sheets=sheets(frame, store, results, scores, show),
            shown=", ".join(show),
            insights=found,
            speeds=timed,
            missing=_missing(frame, results),
            cost=cost.to_dict("records"),
            cost_columns=costs.columns(cost),
            cost_notes=costs.notes(cost),
            hours=hours.to_dict("records"),
            whole=hours[["jobs", "hours", "cpu_hours", "gpu_hours"]].sum().to_dict(),
            several_devices=cost["device"].nunique() > 1,
            marks=row_marks(launch, boards),
            signatures={p: _signatures(of, results) for p, of in frames.items()},
            settings=_settings(frame, results),
            legend=_legend(boards, cost),
            inferred=_inferred(boards),
            common_text=COMMON_TEXT,
            paper_text=PAPER_TEXT,
        )
    )
    write_text(folder / "leaderboard.html", page)
    return folder / "leaderboard.html"


def _of_pixels(boards: list[Board]) -> list[Board]:
    """Those whose numbers depend on the protocol."""
    return [board for board in boards if not get(board.metric).of_images]


METRICS = {  # of the first screen, in words
    "i_auroc": "how often a defective image scores above a good one; 50 is chance",
    "p_auroc": "the same for pixels",
    "aupro_0.3": "the share of each defect's area that is found, averaged over false-positive "
    "rates of pixels up to 0.3",
}


@dataclass(frozen=True)
class _Switch:
    """What a reader may choose to see, and what is chosen at first."""

    metrics: list[tuple[str, str]]  # protocol and name
    settings: list[str]
    first: str | None  # the setting; None: all of them
    beside: int  # the paper, the interval, the spread: what stands beside scores of categories

    @classmethod
    def of(cls, boards: list[Board]) -> _Switch:
        metrics = list(dict.fromkeys((b.protocol, b.metric) for b in boards))
        tree = grouped(boards)
        settings = sorted({b.setting for b in boards}, key=names.setting_order)
        common = [name for name in settings if all(name in tree[dataset] for dataset in tree)]
        quoted = any(row.quotes for board in boards for row in board.rows)
        return cls(metrics, settings, common[-1] if common else None, 0 if quoted else 1)


def _legend(boards: list[Board], cost: pd.DataFrame) -> dict[str, str]:
    """What the words, signs and numbers of a panel and of a table are."""
    told = {
        names.metric_label(metric): text
        for metric, text in METRICS.items()
        if any(board.metric == metric for board in boards)
    }
    told |= {
        "interval": "95 %, of the value beside it, a mean over categories: how far it may be off "
        "because the test set holds these images and no others",
        "bold, underlined": "the best, the second",
        "group": "one plus the number of methods that a paired test finds better, so what nothing "
        "tells apart shares one; a method that lacks a result in any category is not ranked",
    }
    if bare := unbounded_text(boards):
        told["no interval"] = bare
    rows = [row for board in boards for row in board.rows]
    if any(row.mean.std is not None for row in rows):
        told["±"] = "of a score: standard deviation over seeds (trainings)"
    if any(row.published for row in rows):
        told["paper"] = (
            "what the paper prints (its tooltip says in which table); difference: ours minus that, "
            "± where one more run of ours would lie (95 %)"
        )
        told["sign beside it"] = VERDICT_KEY
    told["ms, s to fit"] = (
        "median time of a single image without its preprocessing, mean time of training on a "
        "category"
    )
    if not cost["speed_valid"].all():
        told["ms, s to fit"] += "; in brackets where the device had other work"
    return told


def _inferred(boards: list[Board]) -> dict[str, list[str]]:
    """Method -> what of its paper's protocol is not published, over all of its verdicts."""
    found: dict[str, list[str]] = {}
    for row in (row for board in boards for row in board.rows):
        for verdict in filter(None, (row.published, *row.quotes.values())):
            told = found.setdefault(names.method_label(row.method), [])
            told += [reason for reason in verdict.inferred if reason not in told]
    return {method: told for method, told in found.items() if told}


def _write_figures(folder: Path, figures: dict[str, str]) -> None:
    for name, text in figures.items():
        write_text(folder / name, text)
    for old in set(folder.glob("*.svg")) - {folder / name for name in figures}:
        old.unlink(missing_ok=True)  # another report may have done it


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    with replaced(path) as file:
        table.to_parquet(file)


@cache
def _environment() -> jinja2.Environment:
    environment = pages.environment(
        method_label=names.method_label,
        setting_label=names.setting_label,
        metric_label=names.metric_label,
        metric_text=names.metric_text,
        protocol_label=names.protocol_label,
        get=get,
        status_label=names.status_label,
        mark_text=meaning,
        headline=headline,
        of_pixels=of_pixels,
        board_label=names.board_label,
        lead_parts=lead_parts,
        score_legend=legend(CLASSES),
        below_sign=below_sign,
        below_text=below_text,
        difference_text=difference_text,
        inferred_sign=INFERRED_SIGN,
        interval_text=interval_text,
        quote_text=quote_text,
        verdict_class=verdict_class,
        test_text=test_text,
        verdict_sign=verdict_sign,
        same=same,
    )
    environment.filters |= {
        "percent": percent,
        "amount": costs.amount,
        "brief": costs.brief,
        "in_board": lambda name, boards: boards[name],
    }
    return environment


def _facts(frame: pd.DataFrame, results: dict[str, Record]) -> dict[str, str]:
    """What a reader asks first about where the numbers come from; unknown facts are left out."""
    environments = [record.environment for record in results.values()]
    versions: dict[str, set] = {}
    for environment in environments:
        for name, version in (environment.get("versions") or {}).items():
            versions.setdefault(name, set()).add(str(version))
    ended = pd.to_numeric(frame["ended"]).max()
    newest = "" if pd.isna(ended) else f"{datetime.fromtimestamp(ended, UTC):%Y-%m-%d %H:%M} UTC"
    facts = {
        "Cells": counts_text(frame),
        "Newest result": newest,
        "Seeds": ", ".join(str(seed) for seed in sorted(frame["seed"].unique())),
        "Device": _listed(frame["device"].dropna()),
        "Commit": _listed(frame["commit"].dropna()),
        "Versions": ", ".join(f"{n} {' / '.join(sorted(v))}" for n, v in sorted(versions.items())),
        "Notes": "; ".join(_notes(results)),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _notes(results: dict[str, Record]) -> list[str]:
    """What methods want the reader to know, e.g. where textures came from."""
    found = {
        f"{names.method_label(result.spec.method)}, {name}: {printable(text)}"
        for result in results.values()
        if result.done
        for name, text in result.notes.items()
    }
    return sorted(found)


def _listed(values: Iterable) -> str:
    return "; ".join(sorted({printable(v) for v in values}))


def _missing(frame: pd.DataFrame, results: dict[str, Record]) -> list[dict]:
    """Cells that ended without a result, with the end of their log."""
    ended = frame[~frame["status"].isin([DONE, PENDING])].to_dict("records")
    return [
        cell | {"log": "\n".join(printable(x) for x in results[cell["key"]].log)} for cell in ended
    ]


def _signatures(frame: pd.DataFrame, results: dict[str, Record]) -> dict[str, dict[str, list[str]]]:
    """metric -> signature -> the methods scored by it, in the frame's protocol."""
    table: dict[str, dict[str, list[str]]] = {metric: {} for metric in metric_names(frame)}
    for cell in frame[frame["status"] == DONE].itertuples():
        label = names.method_label(cell.method, cell.variant)
        known_of = scores_of(results[cell.key], cell.protocol).signatures
        for metric, signature in known_of.items():
            if known := find(metric):
                signature = known.comparable(signature)
            methods = table.setdefault(metric, {}).setdefault(signature, [])
            if label not in methods:
                methods.append(label)
    return {metric: found for metric, found in table.items() if found}


def _settings(frame: pd.DataFrame, results: dict[str, Record]) -> list[tuple[str, str]]:
    """(where they apply, the resolved settings as JSON), one entry for every distinct text."""
    texts: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for cell in frame[frame["key"].isin(list(results))].itertuples():
        if settings := results[cell.key].spec.settings:
            label = names.method_label(cell.method, cell.variant)
            text = printable(json.dumps(settings, indent=2, sort_keys=True))
            texts.setdefault((label, text), []).append((cell.dataset, cell.setting, cell.category))
    several = {label for label, _ in texts if sum(name == label for name, _ in texts) > 1}
    return [
        (f"{label}: {_places(places)}" if label in several else label, text)
        for (label, text), places in texts.items()
    ]


def _places(places: list[tuple[str, str, str]]) -> str:
    datasets, settings, categories = (list(dict.fromkeys(column)) for column in zip(*places))
    settings = [names.setting_label(setting) for setting in settings]
    return "; ".join(", ".join(part) for part in (datasets, settings, categories))
