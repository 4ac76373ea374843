"""Sweeps in MLflow: a parent run a sweep, a child a trial."""

from __future__ import annotations

from harness.store import FAILED, Store, canonical
from harness.store.sweeps import SweepFolder
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
    milliseconds,
    opened,
    runs_of,
)
from harness.tracking.database import WAIT_S


def sync_sweep(
    store: Store,
    record: dict,
    trials: list[dict],
    uri: str | None = None,
    wait_s: float = WAIT_S,
) -> Synced:
    """A sweep as a parent run with its files, its trials as children with settings and scores."""
    from mlflow.entities import Metric, Param, RunTag

    folder = SweepFolder(store, record["id"]).path
    with opened(store, uri, wait_s) as (client, uri):
        experiment = experiment_of(client, store, record["name"], uri)
        runs = {identity(run): run for run in runs_of(client, experiment, record["id"])}
        parent = runs.get((record["id"], None)) or create(
            client, experiment, record["started"], record["id"], {LAUNCH: record["id"]}
        )
        written = unchanged = 0
        for trial in trials:
            digest, run = digest_of(trial), runs.get((record["id"], trial["id"]))
            if run and run.data.tags.get(DIGEST) == digest:
                unchanged += 1
                continue
            if run is None:
                tags = {LAUNCH: record["id"], KEY: trial["id"], PARENT: parent.info.run_id}
                run = create(client, experiment, trial["started"], trial["id"], tags)
            at = milliseconds(trial["ended"] or trial["started"])
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
            log_files(client, parent.info.run_id, folder, "sweep", deep=False)
            best = next(trial for trial in trials if trial["id"] == record["best"])
            at = milliseconds(max(trial["ended"] or trial["started"] for trial in trials))
            client.log_batch(
                parent.info.run_id,
                metrics=[
                    Metric(f"best/{name}", value, at, 0) for name, value in best["means"].items()
                ],
            )
            client.set_tag(parent.info.run_id, "best", record["best"])
            client.set_terminated(parent.info.run_id, "FINISHED", at)
    return Synced(experiment, written, unchanged)
