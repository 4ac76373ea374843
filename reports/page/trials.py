"""Charts of a sweep: the objective over its trials and settings, and which settings matter."""

from __future__ import annotations

import json
import logging
import warnings
from typing import Any

import numpy as np
from markupsafe import Markup

from harness.metrics.registry import PERCENT
from harness.metrics.shown import heading, unit
from harness.store import DONE
from harness.store.sweeps import brief, goal
from reports.page import figures
from reports.page.figures import Axis, Series

log = logging.getLogger(__name__)

EXPLAINED = "Share of the variance that a setting explains (fANOVA); of few trials a rough guess."
UNCHANGED = "The dashed line is the unchanged settings."

Chart = tuple[str, str, str, Markup]  # short name, title, what is to be known of it, chart


def charts(record: dict, trials: list[dict]) -> list[Chart]:
    """Of the first objective; nothing where fewer than two trials have ended.

    trials: the first is of the unchanged settings
    """
    metric, sign = goal(record)
    done = [t for t in trials[1:] if t["status"] == DONE]
    if len(done) < 2:
        return []
    default = trials[0]["means"].get(metric)
    y = _axis(metric, [*(t["means"][metric] for t in done), *([default] if default else [])])
    found = [_over_time(metric, done, y, default, sign)]
    for name, domain in record["sweep"]["space"].items():
        known = [t for t in done if name in t["values"]]
        if len(known) > 1:
            found.append(_over_setting(metric, name, domain, known, y, default))
    if shares := _importance(record, done):
        chart = figures.bars("Importance", shares)
        found.append(("importance", "Importance", EXPLAINED, chart))
    return found


def _axis(metric: str, values: list[float]) -> Axis:
    """Of an objective, with some room above and below."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.01
    return Axis(heading(metric), low - room, high + room, percent=unit(metric) == PERCENT)


def _over_time(metric: str, done: list[dict], y: Axis, default: float | None, sign: int) -> Chart:
    numbers, values = [t["number"] for t in done], [t["means"][metric] for t in done]
    best = (np.minimum if sign < 0 else np.maximum).accumulate(values)
    x = Axis("trial", 0, max(numbers) + 0.5, whole=True)
    steps = Series("best so far", np.repeat(numbers, 2)[1:], np.repeat(best, 2)[:-1])
    points = [(n, v, _said(t)) for n, v, t in zip(numbers, values, done)]
    chart = figures.cloud("Objective over trials", points, x, y, default, steps)
    return (
        "over-trials",
        "Objective over trials",
        f"The line is the best so far. {UNCHANGED}",
        chart,
    )


def _over_setting(
    metric: str, name: str, domain: dict, known: list[dict], y: Axis, default: float | None
) -> Chart:
    values = [t["values"][name] for t in known]
    if domain["values"]:
        names = [_named(value) for value in domain["values"]]
        shown = [value if isinstance(value, str) else brief(value) for value in domain["values"]]
        x, at = Axis.of_names("", shown), [names.index(_named(value)) for value in values]
    else:
        log_scale = bool(domain.get("log")) or domain["kind"] == "loguniform"
        low, high, whole = float(domain["low"]), float(domain["high"]), domain["kind"] == "int"
        x, at = Axis(name, low, high, log=log_scale, whole=whole), values
    points = [(float(a), t["means"][metric], _said(t)) for a, t in zip(at, known)]
    chart = figures.cloud(f"Objective against {name}", points, x, y, default)
    return f"against-{name}", f"Against {name}", UNCHANGED, chart


def _said(trial: dict) -> str:
    return f"trial {trial['number']}: {trial['settings']}"


def _importance(record: dict, done: list[dict]) -> list[tuple[str, float]]:
    """Setting -> share, the largest first; nothing where all trials are equal."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, (metric, sign) = record["sweep"]["space"], goal(record)
    study = optuna.create_study(direction="minimize" if sign < 0 else "maximize")
    distributions = {name: _distribution(domain) for name, domain in space.items()}
    for trial in done:
        params = {n: _named(v) if space[n]["values"] else v for n, v in trial["values"].items()}
        found = {name: distributions[name] for name in params}
        study.add_trial(
            optuna.create_trial(params=params, distributions=found, value=trial["means"][metric])
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is experimental, of equal importances
        try:
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError) as error:  # e.g. all trials equal: nothing to weigh
            log.info("chart=importance left out: %s", error)
            return []
    return list(shares.items())


def _distribution(domain: dict) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if domain["values"]:
        return CategoricalDistribution([_named(value) for value in domain["values"]])
    if domain["kind"] == "int":
        return IntDistribution(int(domain["low"]), int(domain["high"]), log=domain["log"])
    return FloatDistribution(domain["low"], domain["high"], log=domain["kind"] == "loguniform")


def _named(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict, bool)) else str(value)
