"""The report of a sweep: its trials as a table, and what the settings did to the objective.

Reads the sweep's folder alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from harness.metrics.shown import difference, heading, label, quantity, shown, told
from harness.store import DONE, write_text
from harness.store.sweeps import brief, drawn, goal
from reports.forms.text import DEMO
from reports.numbers.gain import Gain, gain, verdict
from reports.numbers.names import file_name
from reports.page import figures, pages
from reports.page.trials import charts


def write_sweep(record: dict, trials: list[dict], folder: Path) -> Path:
    """sweep.html, trials.csv and the charts as SVG files; -> the HTML file."""
    frame = trials_frame(record, trials)
    write_text(folder / "trials.csv", frame.to_csv(index=False, lineterminator="\n"))
    found = charts(record, trials)
    for name, title, said, chart in found:
        text = figures.standalone(chart, f"{record['name']}: {title}", said)
        write_text(folder / f"{file_name(name)}.svg", text)
    page = folder / "sweep.html"
    write_text(
        page,
        pages.environment()
        .get_template("sweep.html.j2")
        .render(
            title=f"Sweep: {record['name']}",
            record=record,
            demo=DEMO if record["sweep"].get("given", {}).get("demo") else "",
            on_test=record["sweep"]["objective"]["on"] == "test",
            counts=counts_text(trials),
            objective=objective_text(record),
            heading=heading,
            outcome=outcome_text(record, trials),
            effort=effort_text(trials),
            metrics=_metrics(record),
            trials=rows(record, trials),
            space=[(n, "" if d["values"] else "n") for n, d in record["sweep"]["space"].items()],
            charts=found,
        ),
    )
    return page


def trials_frame(record: dict, trials: list[dict]) -> pd.DataFrame:
    """One row a trial: its number, settings, means of the metrics, cells, state."""
    names = list(record["sweep"]["space"])
    rows = [
        {
            "trial": trial["number"],
            **{name: _text(trial["values"].get(name)) for name in names},
            **{metric: trial["means"].get(metric) for metric in _metrics(record)},
            **_gained(record, trial, trials[0]),
            "cells": _trained(trial),
            "steps": trial.get("effort", {}).get("steps"),
            "saved_steps": trial.get("effort", {}).get("saved_steps"),
            "job_seconds": trial.get("effort", {}).get("seconds"),
            "saved_job_seconds": trial.get("effort", {}).get("saved_seconds"),
            "gpu_seconds": trial.get("effort", {}).get("gpu_seconds"),
            "saved_gpu_seconds": trial.get("effort", {}).get("saved_gpu_seconds"),
            "status": trial["status"],
            "reason": trial["reason"],
        }
        for trial in trials
    ]
    return pd.DataFrame(rows)


def _gain(record: dict, trial: dict, default: dict) -> Gain | None:
    """What a finished trial has over the unchanged settings."""
    if trial["status"] != DONE or default["status"] != DONE:
        return None
    return gain(record, trial, default)


def _gained(record: dict, trial: dict, default: dict) -> dict[str, float | None]:
    found = _gain(record, trial, default)
    names = {"gain": "mean", "gain_low": "low", "gain_high": "high", "gain_p": "p"}
    return {name: getattr(found, of, None) for name, of in names.items()}


def _gain_text(record: dict, trial: dict, default: dict) -> str:
    """The gain with its interval, if there is one."""
    found = _gain(record, trial, default)
    if found is None or trial is default or math.isnan(found.mean):
        return ""
    metric, _ = goal(record)
    text = difference(metric, found.mean)
    if math.isnan(found.low):
        return text
    return f"{text} [{difference(metric, found.low)}, {difference(metric, found.high)}]"


def counts_text(trials: list[dict]) -> str:
    """ "16 trials (10 done, 6 stopped), and trial 0 with the unchanged settings (done)" """
    points = drawn(trials)
    found = Counter(trial["status"] for trial in points)
    states = ", ".join(f"{n} {state}" for state, n in sorted(found.items())) or "none"
    usual = f"trial 0 with the unchanged settings ({trials[0]['status']})"
    return f"{len(points)} trial{'s' * (len(points) != 1)} ({states}), and {usual}"


def objective_text(record: dict) -> str:
    objective = record["sweep"]["objective"]
    samples = (
        "test samples"
        if objective["on"] == "test"
        else "normal validation samples and simulated defects"
    )
    metrics = " and ".join(map(label, objective["metrics"]))
    return f"the mean {metrics} over all cells, on {samples}"


def outcome_text(record: dict, trials: list[dict]) -> str:
    """What the best trial has over the unchanged settings."""
    metric = _metrics(record)[0]
    by_id = {trial["id"]: trial for trial in trials}
    best, default = by_id[record["best"]], trials[0]
    if best is default:
        value = told(metric, default["means"][metric])
        return f"No trial is better than the unchanged settings ({value})."
    usual = quantity(metric, default["means"][metric])
    return (
        f"Best: {best['settings']}, {told(metric, best['means'][metric])}; "
        f"the unchanged settings have {usual}. {verdict(record, best, trials)}"
    )


def effort_text(trials: list[dict]) -> str:
    """What the trials took, that of the unchanged settings too, and what early ends saved."""
    total = Counter[str]()
    for trial in trials:
        total.update(trial.get("effort") or {})
    if not total["steps"]:
        return ""
    kind, unit = ("gpu_seconds", "GPU-hours") if total["gpu_seconds"] else ("seconds", "job-hours")
    hours, spared = (total[name] / 3600 for name in (kind, f"saved_{kind}"))
    if not total["saved_steps"]:
        return f"Trainings took {total['steps']:,.0f} steps, all jobs {hours:.3g} {unit}."
    whole = total["steps"] + total["saved_steps"]
    saved = f"{total['saved_steps']:,.0f} ({total['saved_steps'] / whole:.0%})"
    return (
        f"Trainings took {total['steps']:,.0f} steps; trials that ended early saved {saved}. "
        f"All jobs took {hours:.3g} {unit}, and about {spared:.3g} were saved. What was saved is "
        "counted at the pace of what was done; what the store had before took nothing."
    )


def _trained(trial: dict) -> float:
    """How many trainings a trial has come through; whole cells where that was not kept."""
    return trial.get("trained", len(trial["cells"]))


def rows(record: dict, trials: list[dict]) -> list[dict]:
    """Trials with what tables print of them: trained, effort, gain, gained, shown, brief."""
    metrics = _metrics(record)
    return [
        trial
        | {
            "trained": _trained(trial),
            "effort": trial.get("effort") or {},
            "gain": _gained(record, trial, trials[0])["gain"],
            "gained": _gain_text(record, trial, trials[0]),
            "shown": {m: shown(m, trial["means"].get(m)) for m in metrics},
            "brief": {name: brief(value) for name, value in trial["values"].items()},
        }
        for trial in trials
    ]


def _metrics(record: dict) -> list[str]:
    return record["sweep"]["objective"]["metrics"]


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict, bool)) else value
