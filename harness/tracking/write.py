"""Writes runs: into a database in one transaction, by MLflow's client otherwise.

A new run of a hundred metrics takes the client 40 ms of a core, its rows 1 ms
(tests/benchmarks/README.md). A run that is there, and whatever goes to a server, is written by the
client.
"""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from harness.tracking.content import DIGEST, SEEN, Content, Point, milliseconds, plain_name
from harness.tracking.known import Known, folder_of

T = TypeVar("T")
FEW, MANY = 100, 1000  # the most that one call takes: of parameters or tags, of metrics


def create(client: Any, experiment_id: str, content: Content) -> Known:
    """An empty run for what is to be shown; `update` fills it."""
    tags = {name: value for name, value in content.marked.items() if name not in (SEEN, DIGEST)}
    started = milliseconds(content.started)
    return Known.of(
        client.create_run(experiment_id, start_time=started, run_name=content.name, tags=tags)
    )


def update(client: Any, run: Known, content: Content) -> None:
    """Show it in a run that is there. What says that it is written comes last."""
    from mlflow.entities import Metric, Param, RunTag

    put_files(client, run, content.files)
    tags = content.marked
    last = {name: tags.pop(name) for name in (SEEN, DIGEST) if name in tags}
    there = client.get_run(run.id).data.params  # MLflow does not let one change them
    params = [Param(plain_name(k), v) for k, v in content.params.items()]
    for part in parts([p for p in params if p.key not in there], FEW):
        client.log_batch(run.id, params=part)
    for part in parts([Metric(*point) for point in content.points], MANY):
        client.log_batch(run.id, metrics=part)
    for part in parts([RunTag(k, v) for k, v in tags.items()], FEW):
        client.log_batch(run.id, tags=part)
    if content.ended is None:
        client.update_run(run.id, content.status)
    else:
        client.set_terminated(run.id, content.status, milliseconds(content.ended))
    client.log_batch(run.id, tags=[RunTag(k, v) for k, v in last.items()])


def insert(uri: str, experiment_id: str, location: str, contents: Iterable[Content]) -> None:
    """New runs as rows of MLflow's tables, all or none.

    location: of the experiment's artifacts, the URI of a folder
    """
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import create_engine, insert

    rows: dict[Any, list[dict[str, Any]]] = {
        model.__table__: []
        for model in (
            models.SqlRun,
            models.SqlTag,
            models.SqlParam,
            models.SqlMetric,
            models.SqlLatestMetric,
        )
    }
    for content in contents:
        for table, of_run in zip(rows, _rows(content, experiment_id, location)):
            rows[table] += of_run
    engine = create_engine(uri)
    try:
        with engine.begin() as connection:
            for table, values in rows.items():
                if values:
                    connection.execute(insert(table), values)
    finally:
        engine.dispose()


def _rows(content: Content, experiment_id: str, location: str) -> Iterator[list[dict[str, Any]]]:
    """Of a run: itself, tags, parameters, metrics, latest metrics. Lays its files, too."""
    run = {"run_uuid": uuid.uuid4().hex}
    artifacts = f"{location}/{run['run_uuid']}/artifacts"
    folder = folder_of(artifacts)
    assert folder is not None, "experiments elsewhere are written by the client"
    lay(folder, content.files)
    about = {
        "name": content.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": getpass.getuser(),
        "status": content.status,
        "start_time": milliseconds(content.started),
        "end_time": None if content.ended is None else milliseconds(content.ended),
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": artifacts,
        "experiment_id": int(experiment_id),
    }
    yield [run | about]
    yield [run | {"key": k, "value": v} for k, v in content.marked.items()]
    yield [run | {"key": plain_name(k), "value": v} for k, v in content.params.items()]
    yield [run | _row(point) for point in dict.fromkeys(content.points)]
    yield [run | _row(point) for point in _latest(content.points)]


def _row(point: Point) -> dict[str, Any]:
    return {
        "key": point.name,
        "value": point.value,
        "timestamp": point.at_ms,
        "step": point.step,
        "is_nan": False,
    }


def _latest(points: Sequence[Point]) -> Iterable[Point]:
    """Of each metric the point that MLflow shows: the last step, then time, then value."""
    latest: dict[str, Point] = {}
    for point in points:
        known = latest.setdefault(point.name, point)
        if (point.step, point.at_ms, point.value) > (known.step, known.at_ms, known.value):
            latest[point.name] = point
    return latest.values()


def put_files(client: Any, run: Known, files: Mapping[str, Path | str]) -> None:
    """As artifacts of a run that is there."""
    if (folder := folder_of(run.artifacts)) is not None:
        lay(folder, files)
    elif files:
        with tempfile.TemporaryDirectory() as parcel:
            lay(Path(parcel), files)
            client.log_artifacts(run.id, parcel)


def lay(folder: Path, files: Mapping[str, Path | str]) -> None:
    """Files by their names below a folder: as further names of the same bytes where they can be.

    No file of a result is ever changed in place. One that is being replaced is left out.
    """
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if isinstance(source, str):
            path.write_text(source, encoding="utf-8")
            continue
        try:
            os.link(source, path)
        except FileNotFoundError:
            continue
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source, path)


def parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` of them."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
