"""MLflow as a view of the store: an experiment a benchmark, a parent run a launch, a child a cell.

Files are the truth. `sync` brings MLflow up to date with them and changes nothing where nothing
changed, so it can run during a launch, after it, and again against another server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.metrics import headlines
from harness.store import IDENTITY, Record, Store
from harness.store.curve import FILE as LOSSES
from harness.store.curve import Points
from harness.store.records import CURVES, RESULT, SCORES
from harness.tracking.client import (
    DIGEST,
    KEY,
    LAUNCH,
    PARENT,
    Synced,
    create,
    digest_of,
    experiment_of,
    identity,
    log_files,
    metric_name,
    milliseconds,
    opened,
    runs_of,
)
from harness.tracking.database import WAIT_S

ARTIFACTS = (SCORES, CURVES, LOSSES)  # of a cell, beside its result


def sync(
    store: Store,
    launch: dict,
    uri: str | None = None,
    report: Path | None = None,
    wait_s: float = WAIT_S,
) -> Synced:
    """Write what is new of a launch; `report` is the folder with its leaderboard, if made.

    wait_s: the longest wait for another process that writes.
    Raises as `opened` when the tracking store cannot be reached.
    """
    with opened(store, uri, wait_s) as (client, uri):
        experiment = experiment_of(client, store, launch["name"], uri)
        runs = {identity(run): run for run in runs_of(client, experiment, launch["id"])}
        parent = runs.get((launch["id"], None)) or create(
            client, experiment, launch["started"], launch["id"], {LAUNCH: launch["id"]}
        )
        written = unchanged = 0
        for cell in launch["cells"]:
            result = store.result(cell["key"])
            if result is None:
                continue
            marks = _marks(launch, cell, result)
            digest = digest_of([result.values, marks])
            run = runs.get((launch["id"], cell["key"]))
            if run and run.data.tags.get(DIGEST) == digest:
                unchanged += 1
                continue
            run = run or _create_cell(client, experiment, parent, launch, cell, result)
            told = cell | {"marks": marks, "losses": _losses(store, result)}
            _write_cell(client, run.info.run_id, launch, told, result, run.data.params)
            client.set_tag(run.info.run_id, DIGEST, digest)  # last: a torn write is repeated
            written += 1
        _write_parent(client, parent, launch, store, report)
    return Synced(experiment, written, unchanged)


def _create_cell(
    client: Any, experiment: str, parent: Any, launch: dict, cell: dict, result: Record
) -> Any:
    title = " ".join(str(cell[name]) for name in IDENTITY if cell[name] != "")
    tags = {LAUNCH: launch["id"], KEY: cell["key"], PARENT: parent.info.run_id}
    return create(client, experiment, result.started or result.ended or 0.0, title, tags)


def _write_cell(
    client: Any, run_id: str, launch: dict, cell: dict, result: Record, logged: Mapping[str, str]
) -> None:
    """logged: the run's parameters so far, which MLflow does not let one change."""
    from mlflow.entities import Metric, Param, RunTag

    at = milliseconds(result.ended)  # the record's own time: logging twice adds nothing
    values = {**result.metrics, **_numbers(result)}
    finite = {k: v for k, v in values.items() if v is not None and math.isfinite(v)}
    params = {name: str(cell[name]) for name in IDENTITY}
    tags = {
        "status": result.status,
        "reason": result.reason[:5000],
        "marks": ",".join(cell["marks"]),
        "device": result.environment.get("device", ""),
        "demo": str(launch["demo"]).lower(),
        **params,
        **{f"note.{k}": v for k, v in result.notes.items()},
    }
    losses = [
        Metric(name, loss, at, step)
        for name, points in cell["losses"].items()
        for step, loss in points
    ]
    client.log_batch(
        run_id,
        metrics=[Metric(k, v, at, 0) for k, v in sorted(finite.items())] + losses,
        params=[Param(k, v) for k, v in params.items() if k not in logged],
        tags=[RunTag(k, v) for k, v in tags.items()],
    )
    client.log_dict(run_id, dict(result.values), RESULT)
    for file in (result.folder / name for name in ARTIFACTS):
        if file.exists():
            client.log_artifact(run_id, str(file))
    client.set_terminated(run_id, "FINISHED" if result.done else "FAILED", at)


def _marks(launch: dict, cell: dict, result: Record) -> list[str]:
    given = (result.marks, cell.get("marks") or [], launch.get("marks") or [])
    return list(dict.fromkeys(mark for marks in given for mark in marks))


def _losses(store: Store, result: Record, prefix: str = "") -> dict[str, Points]:
    """Name of a metric -> points of a curve over training, of the cell and of its stages."""
    curves = result.losses() if result.done else {}
    found = {metric_name(f"loss/{prefix}{phase}"): points for phase, points in curves.items()}
    for name, key in result.spec.needs.stages.items():
        if stage := store.result(key):
            found |= _losses(store, stage, f"{name}-")
    return found


def _numbers(result: Record) -> dict[str, float]:
    groups = {
        "time": result.timings,
        "speed": result.speed,
        "memory": result.memory,
        "size": result.sizes,
    }
    return {
        f"{prefix}/{name}": float(value)
        for prefix, group in groups.items()
        for name, value in group.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _write_parent(
    client: Any, parent: Any, launch: dict, store: Store, report: Path | None
) -> None:
    run_id = parent.info.run_id
    results = [r for cell in launch["cells"] if (r := store.result(cell["key"]))]
    digest = digest_of([[r.key, r.status, r.ended] for r in results] + [report is not None])
    if parent.data.tags.get(DIGEST) == digest:
        return
    client.log_dict(run_id, launch["config"], "config.json")
    cells, done = len(launch["cells"]), sum(r.done for r in results)
    # a launch can be younger than all its results, if others computed them
    at = milliseconds(max([launch["started"], *(r.ended or 0 for r in results)]))
    counts = f"{done} done, {len(results) - done} failed, {cells - len(results)} pending"
    client.set_tag(run_id, "cells", counts)
    if report is not None:
        log_files(client, run_id, report, "leaderboard")
        _write_headline(client, run_id, report, at)
    client.set_terminated(run_id, "FINISHED" if done == cells else "FAILED", at)
    client.set_tag(run_id, DIGEST, digest)


def _write_headline(client: Any, run_id: str, report: Path, at: int) -> None:
    """The means of the leaderboard as metrics of the parent, and as a table that the UI shows.

    Metrics are called <dataset>/<setting>/<method>[-<variant>]/<metric>.
    """
    import pandas as pd
    from mlflow.entities import Metric

    if not (report / "leaderboard.parquet").exists():  # a report of an earlier version
        return
    table = pd.read_parquet(report / "leaderboard.parquet")
    means = table[(table["category"] == "mean") & table["metric"].isin(headlines())]
    complete = means[means["value"].notna()]
    metrics = []
    for row in complete.itertuples():
        method = "-".join(filter(None, (row.method, row.variant)))
        name = f"{row.dataset}/{row.setting}/{method}/{row.metric}"
        metrics.append(Metric(metric_name(name), row.value, at, 0))
    for start in range(0, len(metrics), 1000):  # the most that one call takes
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    shown = means.astype(object).where(means.notna(), "")
    client.log_table(run_id, shown, "leaderboard.json")
