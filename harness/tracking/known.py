"""What a tracking store has of a launch already.

Of an SQLite database this is asked without MLflow, whose import alone takes longer than all the
rest where nothing changed.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.tracking.content import DIGEST, KEY, LAUNCH, SEEN
from harness.tracking.database import file_of, opened_file

OURS = (KEY, SEEN, DIGEST)
QUERY = f"""
select run.run_uuid, run.status, run.artifact_uri, tag.key, tag.value
from experiments experiment
join runs run on run.experiment_id = experiment.experiment_id
join tags launch on launch.run_uuid = run.run_uuid and launch.key = '{LAUNCH}'
left join tags tag on tag.run_uuid = run.run_uuid and tag.key in {OURS}
where experiment.name = ? and launch.value = ?
  and experiment.lifecycle_stage = 'active' and run.lifecycle_stage = 'active'
"""  # the columns are MLflow's; a test holds that they are there


@dataclass(frozen=True)
class Known:
    """A run that is there. artifacts: the URI of its files; tags: those of OURS."""

    id: str
    status: str
    artifacts: str
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Any) -> Known:
        """Of a run as MLflow gives it."""
        tags = {name: run.data.tags[name] for name in OURS if name in run.data.tags}
        return cls(run.info.run_id, run.info.status, run.info.artifact_uri, tags)


Runs = dict[str, Known]  # key of a cell or a trial -> its run; "" -> the parent


def in_file(uri: str, experiment: str, launch_id: str) -> tuple[str, Runs] | None:
    """(experiment's id, its runs) in an SQLite database; None if that cannot be told so."""
    path = file_of(uri)
    if path is None or not path.is_file():
        return None
    try:
        with opened_file(path) as database:
            select = "select experiment_id from experiments where name = ?"
            row = database.execute(select, [experiment]).fetchone()
            rows = database.execute(QUERY, [experiment, launch_id]).fetchall()
    except sqlite3.Error:  # opening it with MLflow tells what is wrong
        return None
    return (str(row[0]), _grouped(rows)) if row else None


def _grouped(rows: Iterable[tuple[str, str, str, str, str]]) -> Runs:
    tags: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for run, status, artifacts, name, value in rows:
        found = tags[run, status, artifacts]
        if name:
            found[name] = value
    return {found.get(KEY, ""): Known(*run, found) for run, found in tags.items()}


def by_client(client: Any, experiment_id: str, launch_id: str) -> Runs:
    """The same of any tracking store."""
    runs, token = [], None
    while True:
        chosen = f"tags.`{LAUNCH}` = '{launch_id}'"
        page = client.search_runs([experiment_id], chosen, max_results=1000, page_token=token)
        runs += [Known.of(run) for run in page]
        token = page.token
        if not token:
            return {run.tags.get(KEY, ""): run for run in runs}


def folder_of(uri: str) -> Path | None:
    """The folder that an artifact URI names; None if it is no folder of this machine."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(uri)
    if parts.scheme == "" and Path(uri).is_absolute():
        return Path(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
