"""What all that logs to MLflow shares: the client, experiments, runs and their tags."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from typing import Any

from filelock import FileLock

from harness.store import Store, canonical

KEY, DIGEST, LAUNCH, PARENT = "relief.key", "relief.digest", "relief.launch", "mlflow.parentRunId"
ENVIRONMENT = {  # harness/tracking/README.md, section 2
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


def lock(store: Store) -> FileLock:
    """Held by who writes: parallel first use ruins a new database."""
    return FileLock(store.path / "locks" / "mlflow.lock")


def connect(store: Store, uri: str | None) -> tuple[Any, str]:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # creating the schema is no news to the user
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = uri or default_uri(store)
    return MlflowClient(tracking_uri=uri), uri


def experiment_of(client: Any, store: Store, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    local = uri.startswith("sqlite:")
    return client.create_experiment(
        name,
        artifact_location=(store.path / "mlflow-artifacts").as_uri() if local else None,
        tags={"mlflow.experimentKind": "custom_model_development"},  # else the UI opens for GenAI
    )


def runs_of(client: Any, experiment: str, launch_id: str) -> list[Any]:
    runs, token = [], None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{LAUNCH}` = '{launch_id}'", max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def identity(run: Any) -> tuple[str, str | None]:
    return run.data.tags[LAUNCH], run.data.tags.get(KEY)


def create(client: Any, experiment: str, started: float, name: str, tags: dict) -> Any:
    return client.create_run(experiment, start_time=milliseconds(started), run_name=name, tags=tags)


def metric_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ and spaces in the names of metrics."""
    return re.sub(r"[^\w\-./ ]", "-", name, flags=re.ASCII)


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def milliseconds(epoch: float | None) -> int:
    return int((epoch or 0.0) * 1000)
