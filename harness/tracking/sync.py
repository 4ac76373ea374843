"""MLflow as a view of the store: an experiment a benchmark, a parent run a launch, a child a cell.

Files are the truth. `sync` brings MLflow up to date with them and changes nothing where nothing
changed, so it can run during a launch, after it, and again against another server.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.metrics import HEADLINE
from harness.store import DONE, FAILED, IDENTITY, Store, canonical
from harness.store.curve import FILE as CURVE
from harness.store.curve import Points, read_curve

log = logging.getLogger(__name__)

PAGE = "leaderboard/leaderboard.html"  # artifact of a launch's run
KEY, DIGEST, LAUNCH, PARENT = "relief.key", "relief.digest", "relief.launch", "mlflow.parentRunId"
PORT = 5000
ARTIFACTS = ("scores.parquet", "pro_curve.npz", CURVE)  # of a cell, beside its result
ENVIRONMENT = {  # specs/engine.md sections 1.3 and 5.5
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default retries for minutes a call
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # else seven more server processes
}


@dataclass(frozen=True)
class Synced:
    experiment_id: str
    written: int
    unchanged: int


def default_uri(store: Store) -> str:
    return f"sqlite:///{store.path / 'mlflow.db'}"


def sync(store: Store, launch: dict, uri: str | None = None, report: Path | None = None) -> Synced:
    """Write what is new of a launch; `report` is the folder with its leaderboard, if made.

    Raises MlflowException (or OSError) when the tracking store cannot be reached.
    """
    client, uri = _client(store, uri)
    with FileLock(store.path / "locks" / "mlflow.lock"):  # parallel first use ruins a new database
        experiment = _experiment(client, store, launch["name"], uri)
        runs = {_identity(run): run for run in _all_runs(client, experiment, launch["id"])}
        parent = runs.get((launch["id"], None)) or _create(
            client, experiment, launch["started"], launch["id"], {LAUNCH: launch["id"]}
        )
        written = unchanged = 0
        for cell in launch["cells"]:
            result = store.result(cell["key"])
            if result is None:
                continue
            cell = cell | {"marks": _marks(launch, cell, result)}
            digest = _digest([result, cell["marks"]])
            run = runs.get((launch["id"], cell["key"]))
            if run and run.data.tags.get(DIGEST) == digest:
                unchanged += 1
                continue
            _write_cell(
                client, experiment, parent.info.run_id, launch, cell, result, run, digest, store
            )
            written += 1
        _write_parent(client, parent, launch, store, report)
    return Synced(experiment, written, unchanged)


def sync_sweep(store: Store, record: dict, trials: list[dict], uri: str | None = None) -> Synced:
    """A sweep as a parent run with its files, its trials as children with settings and scores."""
    from mlflow.entities import Metric, Param, RunTag

    client, uri = _client(store, uri)
    folder = store.path / "sweeps" / record["id"]
    with FileLock(store.path / "locks" / "mlflow.lock"):
        experiment = _experiment(client, store, record["name"], uri)
        runs = {_identity(run): run for run in _all_runs(client, experiment, record["id"])}
        parent = runs.get((record["id"], None)) or _create(
            client, experiment, record["started"], record["id"], {LAUNCH: record["id"]}
        )
        written = unchanged = 0
        for trial in trials:
            digest, run = _digest(trial), runs.get((record["id"], trial["id"]))
            if run and run.data.tags.get(DIGEST) == digest:
                unchanged += 1
                continue
            if run is None:
                tags = {LAUNCH: record["id"], KEY: trial["id"], PARENT: parent.info.run_id}
                run = _create(client, experiment, trial["started"], trial["id"], tags)
            at = _ms(trial["ended"] or trial["started"])
            params = {name: canonical(value) for name, value in trial["values"].items()}
            client.log_batch(
                run.info.run_id,
                metrics=[
                    Metric(name, value, at, step)
                    for step, cell in enumerate(trial["cells"], 1)
                    for name, value in cell["scores"].items()
                ]
                + [Metric(f"mean/{name}", value, at, 0) for name, value in trial["means"].items()],
                params=[Param(k, v) for k, v in params.items() if k not in run.data.params],
                tags=[RunTag("status", trial["status"]), RunTag("reason", trial["reason"][:5000])],
            )
            failed = trial["status"] == FAILED
            client.set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED", at)
            client.set_tag(run.info.run_id, DIGEST, digest)
            written += 1
        if written or parent.data.tags.get("best") != record["best"]:
            for file in sorted(p for p in folder.iterdir() if p.is_file()):
                client.log_artifact(parent.info.run_id, str(file), "sweep")
            best = next(trial for trial in trials if trial["id"] == record["best"])
            at = _ms(max(trial["ended"] or trial["started"] for trial in trials))
            client.log_batch(
                parent.info.run_id,
                metrics=[
                    Metric(f"best/{name}", value, at, 0) for name, value in best["means"].items()
                ],
            )
            client.set_tag(parent.info.run_id, "best", record["best"])
            client.set_terminated(parent.info.run_id, "FINISHED", at)
    return Synced(experiment, written, unchanged)


def addresses(store: Store, port: int) -> dict[str, list[str]]:
    """Name of a launch -> where the UI of the store's own database shows it.

    A launch's leaderboard page, then the runs of its experiment; those of an experiment alone
    where no report is logged yet.
    """
    client, _ = _client(store, None)
    found: dict[str, list[str]] = {}
    for experiment in client.search_experiments():
        runs = address(experiment.experiment_id, port)
        parents = client.search_runs(
            [experiment.experiment_id], "tags.cells LIKE '%'", max_results=1000
        )
        for run in parents:
            page = (
                f"#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}/artifacts/{PAGE}"
            )
            found[run.data.tags[LAUNCH]] = [f"http://127.0.0.1:{port}/{page}", runs]
        if not parents and experiment.name != "Default":
            found[experiment.name] = [runs]
    return found


def _client(store: Store, uri: str | None) -> tuple[Any, str]:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # creating the schema is no news to the user
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = uri or default_uri(store)
    return MlflowClient(tracking_uri=uri), uri


def _experiment(client: Any, store: Store, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    local = uri.startswith("sqlite:")
    return client.create_experiment(
        name,
        artifact_location=(store.path / "mlflow-artifacts").as_uri() if local else None,
        tags={"mlflow.experimentKind": "custom_model_development"},  # else the UI opens for GenAI
    )


def _all_runs(client: Any, experiment: str, launch_id: str) -> list[Any]:
    runs, token = [], None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{LAUNCH}` = '{launch_id}'", max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _identity(run: Any) -> tuple[str, str | None]:
    return run.data.tags[LAUNCH], run.data.tags.get(KEY)


def _create(client: Any, experiment: str, started: float, name: str, tags: dict) -> Any:
    return client.create_run(experiment, start_time=_ms(started), run_name=name, tags=tags)


def _write_cell(
    client: Any,
    experiment: str,
    parent: str,
    launch: dict,
    cell: dict,
    result: dict,
    run: Any,
    digest: str,
    store: Store,
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    title = " ".join(str(cell[name]) for name in IDENTITY if cell[name] != "")
    started, ended = result.get("started", result["ended"]), result["ended"]
    if run is None:
        tags = {LAUNCH: launch["id"], KEY: cell["key"], PARENT: parent}
        run = _create(client, experiment, started, title, tags)
    run_id, at = run.info.run_id, _ms(ended)  # the record's own time: logging twice adds nothing
    values = {**result.get("metrics", {}), **_numbers(result)}
    finite = {k: v for k, v in values.items() if v is not None and math.isfinite(v)}
    params = {name: str(cell[name]) for name in IDENTITY}
    tags = {
        "status": result["status"],
        "reason": result.get("reason", "")[:5000],
        "marks": ",".join(cell["marks"]),
        "device": result.get("environment", {}).get("device", ""),
        "demo": str(launch["demo"]).lower(),
        **{name: str(cell[name]) for name in IDENTITY},
        **{f"note.{k}": v for k, v in result.get("notes", {}).items()},
    }
    losses = [
        Metric(name, loss, at, step)
        for name, points in _losses(store, cell["key"], result).items()
        for step, loss in points
    ]
    client.log_batch(
        run_id,
        metrics=[Metric(k, v, at, 0) for k, v in sorted(finite.items())] + losses,
        params=[Param(k, v) for k, v in params.items() if k not in run.data.params],
        tags=[RunTag(k, v) for k, v in tags.items()],
    )
    client.log_dict(run_id, result, "result.json")
    for file in (store.folder(cell["key"]) / name for name in ARTIFACTS):
        if file.exists():
            client.log_artifact(run_id, str(file))
    client.set_terminated(run_id, "FINISHED" if result["status"] == DONE else "FAILED", at)
    client.set_tag(run_id, DIGEST, digest)  # last: an interrupted write is repeated


def _marks(launch: dict, cell: dict, result: dict) -> list[str]:
    given = (part.get("marks") or [] for part in (result, cell, launch))
    return list(dict.fromkeys(mark for marks in given for mark in marks))


def _losses(store: Store, key: str, result: dict, prefix: str = "") -> dict[str, Points]:
    """Name of a metric -> points of a curve over training, of the cell and of its stages."""
    curves = read_curve(store.folder(key))
    found = {_metric_name(f"loss/{prefix}{phase}"): points for phase, points in curves.items()}
    for need, below in result["spec"].get("needs", {}).items():
        kind, _, name = need.partition(":")
        if kind == "stage" and (stage := store.result(below)):
            found |= _losses(store, below, stage, f"{name}-")
    return found


def _numbers(result: dict) -> dict[str, float]:
    groups = {"time": "timings", "speed": "speed", "memory": "memory", "size": "sizes"}
    return {
        f"{prefix}/{name}": float(value)
        for prefix, group in groups.items()
        for name, value in (result.get(group) or {}).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _write_parent(
    client: Any, parent: Any, launch: dict, store: Store, report: Path | None
) -> None:
    run_id = parent.info.run_id
    results = [r for cell in launch["cells"] if (r := store.result(cell["key"]))]
    digest = _digest([[r["key"], r["status"], r["ended"]] for r in results] + [report is not None])
    if parent.data.tags.get(DIGEST) == digest:
        return
    client.log_dict(run_id, launch["config"], "config.json")
    done = sum(r["status"] == DONE for r in results)
    # a launch can be younger than all its results, if others computed them
    at = _ms(max([launch["started"], *(r["ended"] for r in results)]))
    client.set_tag(
        run_id,
        "cells",
        f"{done} done, {len(results) - done} failed, {len(launch['cells']) - len(results)} pending",
    )
    if report is not None:
        for file in sorted(report.iterdir()):
            client.log_artifact(run_id, str(file), "leaderboard")
        _write_headline(client, run_id, report, at)
    client.set_terminated(run_id, "FINISHED" if done == len(launch["cells"]) else "FAILED", at)
    client.set_tag(run_id, DIGEST, digest)


def _write_headline(client: Any, run_id: str, report: Path, at: int) -> None:
    """The leaderboard's headline means as metrics of the parent, and as a table that the UI shows.

    Metrics are called <dataset>/<setting>/<method>[-<variant>]/<metric>.
    """
    import pandas as pd
    from mlflow.entities import Metric

    if not (report / "leaderboard.parquet").exists():  # a report of an earlier version
        return
    table = pd.read_parquet(report / "leaderboard.parquet")
    means = table[(table["category"] == "mean") & table["metric"].isin(HEADLINE)]
    complete = means[means["value"].notna()]
    metrics = []
    for row in complete.itertuples():
        method = "-".join(filter(None, (row.method, row.variant)))
        name = f"{row.dataset}/{row.setting}/{method}/{row.metric}"
        metrics.append(Metric(_metric_name(name), row.value, at, 0))
    for start in range(0, len(metrics), 1000):  # the most that one call takes
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    shown = means.astype(object).where(means.notna(), "")
    client.log_table(run_id, shown, "leaderboard.json")


def _metric_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ and spaces in the names of metrics."""
    return re.sub(r"[^\w\-./ ]", "-", name, flags=re.ASCII)


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def _ms(epoch: float) -> int:
    return int(epoch * 1000)


class Mirror(threading.Thread):
    """Syncs a launch every `every_s` seconds beside the driver; trouble is only remembered."""

    def __init__(self, store: Store, launch: dict, uri: str | None, every_s: float = 30.0):
        super().__init__(daemon=True, name="mlflow-mirror")
        self.store, self.launch, self.uri, self.every_s = store, launch, uri, every_s
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(self.every_s):
            try:
                sync(self.store, self.launch, self.uri)
            except Exception as error:  # whatever tracking does, the benchmark goes on
                log.info("tracking error=%s", str(error).splitlines()[0])

    def stop(self) -> None:
        self.stopping.set()
        if self.is_alive():
            self.join()


def server_command(store: Store, port: int) -> list[str]:
    """The command that serves the store's own tracking database on loopback."""
    import sys

    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        default_uri(store),
        "--default-artifact-root",
        (store.path / "mlflow-artifacts").as_uri(),
    ]


def address(experiment_id: str, port: int = PORT) -> str:
    """Where the runs of an experiment are in the UI."""
    return (
        f"http://127.0.0.1:{port}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    )
