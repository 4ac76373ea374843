"""What all that logs to MLflow shares: the client, experiments, runs and their tags."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.store import Store
from harness.tracking.content import DIGEST, KILLED, LAUNCH, RUNNING, SEEN, Content
from harness.tracking.database import (
    WAIT_S,
    artifacts_of,
    check_database,
    checked_uri,
    is_database,
    locked,
    moved,
    relocate,
    told,
)
from harness.tracking.known import Known, Runs, by_client, folder_of, in_file
from harness.tracking.views import describe, save_view
from harness.tracking.write import create, insert, update

log = logging.getLogger(__name__)

ENVIRONMENT = {  # harness/tracking/README.md, section 4
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
    relocate(store, uri)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic", "urllib3"):  # what matters to the user comes as an exception
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri), uri


def experiment_of(client: Any, store: Store, name: str, uri: str) -> tuple[str, str]:
    """(id, URI of the artifacts) of the experiment of that name, made if there is none."""
    found = client.get_experiment_by_name(name)
    if found is None:
        local = is_database(uri)
        number = client.create_experiment(
            name,
            artifact_location=artifacts_of(store) if local else None,
            tags={"mlflow.experimentKind": "custom_model_development"},  # else it opens for GenAI
        )
        found = client.get_experiment(number)
    elif found.lifecycle_stage == "deleted":  # its name stays taken
        client.restore_experiment(found.experiment_id)
        log.warning("the experiment %r was deleted in MLflow: restored, with its runs", name)
    return found.experiment_id, found.artifact_location


@dataclass(frozen=True)
class Launched:
    """The runs of a launch or a sweep in its experiment, and the way to write them."""

    client: Any
    uri: str
    experiment: str
    location: str  # of the experiment's artifacts
    parent: Known
    runs: Runs  # its children, by key

    def seen(self, key: str) -> str:
        """What its run was written from; empty if there is none."""
        return self.runs[key].tags.get(SEEN, "") if key in self.runs else ""

    def write_parent(self, content: Content) -> None:
        if self.parent.tags.get(SEEN) != content.tags[SEEN]:
            update(self.client, self.parent, content)

    def write(self, contents: Mapping[str, Content]) -> None:
        """Runs of children by key: new ones, and those that are there."""
        new = [content for key, content in contents.items() if key not in self.runs]
        if is_database(self.uri) and folder_of(self.location) is not None:
            insert(self.uri, self.experiment, self.location, new)
        else:
            for content in new:
                update(self.client, create(self.client, self.experiment, content), content)
        for key, content in contents.items():
            if (run := self.runs.get(key)) is None:
                continue
            if run.tags.get(DIGEST) == content.digest:  # as in a copy of the store
                self.client.set_tag(run.id, SEEN, content.tags[SEEN])
            else:
                update(self.client, run, content)

    def drop(self, keys: Iterable[str]) -> None:
        """End and delete the runs of children that are no more."""
        for key in keys:
            self.client.set_terminated(self.runs[key].id, KILLED)
            self.client.delete_run(self.runs[key].id)

    def open_with(
        self,
        about: Mapping[str, Any],
        counts: str,
        text: str,
        metrics: Sequence[str],
        settings: Sequence[str],
    ) -> None:
        """What the experiment's page shows first: a description, and a view to choose.

        Of the description MLflow shows the first line, the rest when asked.
        about: the record of the launch or sweep; metrics, settings: the view's columns and axes
        """
        describe(self.client, self.experiment, f"**{about['id']}**: {counts}\n\n{text}")
        save_view(self.client, self.experiment, about, metrics, settings)


def unchanged(
    store: Store,
    about: Mapping[str, Any],
    uri: str | None,
    seen: Mapping[str, str],
    alone: bool = False,
) -> Synced | None:
    """That nothing is to be written, where that can be told without MLflow.

    seen: by key, "" for the parent, of what each run is to be written from; alone: and there must
    be no other runs
    """
    uri = checked_uri(store, uri)
    known = in_file(uri, about["name"], about["id"])
    if known is None or moved(store, uri):
        return None
    experiment, runs = known
    if alone and runs.keys() - seen.keys():
        return None
    if any(key not in runs or runs[key].tags.get(SEEN) != told for key, told in seen.items()):
        return None
    return Synced(experiment, 0, len(seen) - 1)


@contextmanager
def launched(
    store: Store, about: Mapping[str, Any], uri: str | None = None, wait_s: float = WAIT_S
) -> Generator[Launched]:
    """The runs of a launch or a sweep, for its writer alone; made if they are not there.

    about: its record, with id, name and started. Raises as `opened`.
    """
    with opened(store, uri, wait_s) as (client, uri):
        experiment, location = experiment_of(client, store, about["name"], uri)
        found = in_file(uri, about["name"], about["id"])
        runs = found[1] if found else by_client(client, experiment, about["id"])
        parent = runs.pop("", None) or create(
            client,
            experiment,
            Content(about["id"], RUNNING, about["started"], None, {LAUNCH: about["id"]}),
        )
        yield Launched(client, uri, experiment, location, parent, runs)
