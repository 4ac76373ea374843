"""The database in the store: where it is, who may use it, and what is wrong with it."""

import logging
import multiprocessing
import os
import sqlite3

import pytest
from filelock import FileLock, Timeout

from harness import tracking
from harness.cli.errors import describe
from harness.store import Store, locks
from harness.tracking import client as shared
from harness.tracking import database, report, write
from tests.reports.fake_store import build_launch

pytest.importorskip("mlflow")

ONE = dict(
    methods=(("das3d", ""),), settings=("rgb",), categories=("cookie",), seeds=(0,), arrays=False
)

NOTHING = {"id": "none", "name": "none", "started": 0.0, "cells": [], "config": {}}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A synced launch in a store whose name holds what addresses give a meaning to."""
    path = tmp_path_factory.mktemp("odd") / "a b?c#d%20e" / "store"
    store, launch = build_launch(path, **ONE)
    tracking.sync(store, launch)
    return store, launch


def made(path, *statements):
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


@pytest.mark.parametrize("name", ["plain", "q?x", "p%20x", "pct%", "h#x", "a b", "ü", "?&=%3F"])
def test_the_address_of_the_database_leads_to_the_store(tmp_path, name):
    from sqlalchemy import make_url

    store = Store(tmp_path / name)
    uri = database.default_uri(store)
    assert make_url(uri).database == str(store.path / "mlflow.db")
    assert database.file_of(uri) == store.path / "mlflow.db"


def test_database_and_artifacts_lie_in_a_store_of_any_name(odd):
    store, launch = odd
    assert {"mlflow.db", "mlflow-artifacts"} <= {path.name for path in store.path.iterdir()}
    above = store.path.parent.parent
    assert [path.name for path in above.iterdir()] == ["a b?c#d%20e"]
    again = tracking.sync(store, launch)
    assert (again.written, again.unchanged) == (0, 1)
    assert tracking.addresses(store, 5000)[launch["id"]]


def test_a_deleted_experiment_is_restored_with_its_runs(odd, caplog):
    store, launch = odd
    client, _ = shared.connect(store, None)
    found = client.get_experiment_by_name(launch["name"])
    before = {run.info.run_id for run in client.search_runs([found.experiment_id])}
    client.delete_experiment(found.experiment_id)
    assert tracking.sync(store, launch).written == 0
    assert "was deleted in MLflow: restored" in caplog.text
    assert {run.info.run_id for run in client.search_runs([found.experiment_id])} == before


def test_a_database_of_another_version_is_named_with_what_to_do(odd, tmp_path):
    store, launch = odd
    other = Store(tmp_path)
    (tmp_path / "mlflow.db").write_bytes((store.path / "mlflow.db").read_bytes())
    made(tmp_path / "mlflow.db", "update alembic_version set version_num = '0123456789ab'")
    with pytest.raises(Exception) as raised:
        tracking.sync(other, launch)
    told = describe(raised.value)
    assert not told.bug and str(tmp_path / "mlflow.db") in told.text and "move it away" in told.text


TABLES = "create table experiments (a)", "create table alembic_version (version_num)"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("torn", "is damaged"),
        ("text", "no database"),
        ("foreign", "of another program"),
        ("half", "half made"),
        ("folder", "is a folder"),
        ("read-only", "is read-only"),
        ("busy", "in use by another program"),
    ],
)
def test_a_database_that_will_not_do_is_one_line_with_its_file(tmp_path, monkeypatch, fault, said):
    store, path = Store(tmp_path), tmp_path / "mlflow.db"
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    holder = None
    if fault == "text":
        path.write_text("nothing of the kind " * 100)
    elif fault == "folder":
        path.mkdir()
    elif fault in ("foreign", "half"):
        made(path, "create table other (a)" if fault == "foreign" else TABLES[0])
    else:
        rows = [f"insert into experiments values ('{i:01000}')" for i in range(50)]
        made(path, *TABLES, "insert into alembic_version values ('a')", *rows)
        database.check_database(store, database.default_uri(store))
    if fault == "torn":
        os.truncate(path, path.stat().st_size // 2)
    elif fault == "read-only":
        monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    elif fault == "busy":
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("begin exclusive")
    with pytest.raises(tracking.TrackingError, match=said) as raised:
        tracking.sync(store, NOTHING)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)
    if holder:
        holder.close()


def test_an_empty_file_is_as_good_as_none(tmp_path):
    (tmp_path / "mlflow.db").touch()
    store = Store(tmp_path)
    database.check_database(store, database.default_uri(store))


@pytest.mark.parametrize("uri", ["./mlruns", "mlruns", "file:///x", "5000"])
def test_what_is_no_address_is_refused_with_examples(tmp_path, uri):
    with pytest.raises(tracking.TrackingError, match="no tracking URI: give http://HOST:PORT"):
        tracking.sync(Store(tmp_path), NOTHING, uri)


def test_the_client_is_made_under_the_lock(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def connect(*_):
        with pytest.raises(Timeout):
            FileLock(tmp_path / "locks" / "mlflow.lock").acquire(timeout=0)
        return None, ""

    monkeypatch.setattr(shared, "connect", connect)
    with shared.opened(store):
        pass
    FileLock(tmp_path / "locks" / "mlflow.lock").acquire(timeout=0)


def test_a_lock_is_waited_for_with_a_word_and_a_limit(tmp_path, monkeypatch, caplog):
    store, uri = Store(tmp_path), database.default_uri(Store(tmp_path))
    monkeypatch.setattr(locks, "TELL_S", 0.05)
    with (
        database.locked(store, uri),
        pytest.raises(tracking.TrackingError) as raised,
        database.locked(store, uri, wait_s=0.2),
    ):
        pass
    for text in (caplog.text, str(raised.value)):
        assert f"held by process {os.getpid()} of " in text and ", since 20" in text
    assert "for more than 0.2 s" in str(raised.value)


def test_a_launch_ends_though_a_stuck_process_holds_the_lock(tmp_path, capsys, caplog):
    from harness.cli import reports

    store, launch = build_launch(tmp_path / "store", **ONE)
    launch["config"] = {"schedule": {"mlflow_wait_s": 0.1}}
    with database.locked(store, database.default_uri(store)), caplog.at_level(logging.WARNING):
        reports.conclude(store, launch, None)
    said = capsys.readouterr().err.replace("\n", " ")
    assert "MLflow is not up to date" in said and "mlflow.lock is held by process" in said
    assert "`relief sync` catches up" in said


def test_files_that_are_being_written_are_no_artifacts(tmp_path):
    source, kept = tmp_path / "source", tmp_path / "kept"
    for name in ("a.csv", "a.csv.x1.part", "gone.csv", "figures/b.svg", "figures/b.svg.x2.part"):
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        (source / name).write_text("")
    files = report.files_of(source, "leaderboard")
    (source / "gone.csv").unlink()
    write.lay(kept, files)
    names = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    assert names == {"leaderboard/a.csv", "leaderboard/figures/b.svg"}


def _sync(path, launch, barrier, told):
    barrier.wait()
    try:
        told.put(tracking.sync(Store(path), launch).written)
    except Exception as error:
        told.put(f"{type(error).__name__}: {error}")


@pytest.mark.slow
def test_two_processes_share_a_fresh_database(tmp_path):
    store, launch = build_launch(tmp_path / "store", **ONE)
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(2), context.Queue()
    both = [
        context.Process(target=_sync, args=(store.path, launch, barrier, told)) for _ in range(2)
    ]
    for process in both:
        process.start()
    assert sorted(str(told.get()) for _ in both) == ["0", "1"]
    for process in both:
        process.join()
