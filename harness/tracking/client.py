"""What all that logs to MLflow shares: the client, experiments, runs and their tags."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.store import PART, Store, canonical
from harness.tracking.database import (
    WAIT_S,
    check_database,
    checked_uri,
    is_database,
    locked,
    told,
)

log = logging.getLogger(__name__)

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


@contextmanager
def opened(
    store: Store, uri: str | None = None, wait_s: float = WAIT_S
) -> Generator[tuple[Any, str]]:
    """(client, URI), made and used under the lock: the first client makes the database's schema.

    Raises TrackingError where another process holds the lock for longer than wait_s, or the
    database or the URI will not do; MlflowException, OSError and others from the libraries.
    """
    uri = checked_uri(store, uri)
    with told(uri), locked(store, uri, wait_s):
        yield connect(store, uri)


def connect(store: Store, uri: str | None) -> tuple[Any, str]:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    uri = checked_uri(store, uri)
    check_database(store, uri)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic", "urllib3"):  # what matters to the user comes as an exception
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri), uri


def experiment_of(client: Any, store: Store, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        if found.lifecycle_stage == "deleted":  # its name stays taken
            client.restore_experiment(found.experiment_id)
            log.warning("the experiment %r was deleted in MLflow: restored, with its runs", name)
        return found.experiment_id
    local = is_database(uri)
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


def log_files(client: Any, run_id: str, folder: Path, name: str, deep: bool = True) -> None:
    """The files of a folder as artifacts under `name`; deep: with those of its folders.

    Another process may be writing the same files: those under way are left out.
    """
    for file in sorted(folder.rglob("*") if deep else folder.iterdir()):
        if file.is_file() and file.suffix != PART:
            below = file.parent.relative_to(folder).as_posix()
            try:
                client.log_artifact(run_id, str(file), name if below == "." else f"{name}/{below}")
            except FileNotFoundError:
                if file.exists():
                    raise


def metric_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ and spaces in the names of metrics."""
    return re.sub(r"[^\w\-./ ]", "-", name, flags=re.ASCII)


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def milliseconds(epoch: float | None) -> int:
    return int((epoch or 0.0) * 1000)
