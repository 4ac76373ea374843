"""What `relief store check` and `prune` find in a store, mend and remove."""

import json
import os
import sqlite3
import time

import pytest
from typer.testing import CliRunner

from harness.cli.store import app
from harness.store import DONE, FAILED, Store, write_json
from harness.store.examine import (
    FOREIGN,
    FREE,
    HALF,
    KEPT,
    ORPHANED,
    TORN,
    UNFINISHED,
    UNVERIFIED,
    adopt,
    examine,
    prune,
    repair,
)
from harness.store.files import unsealed
from harness.store.sweeps import SweepFolder

VIEW, CELL, OLD = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A launch of one cell on a view, and a cell that no launch needs."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    store = Store(tmp_path / "store")
    for key, needs in ((VIEW, {}), (CELL, {"view": VIEW}), (OLD, {"view": VIEW})):
        (store.work(key) / "maps.npy").write_bytes(key.encode())
        kind = "view" if key == VIEW else "stage"
        spec = {"kind": kind, "needs": needs}
        store.publish(key, {"key": key, "status": DONE, "title": f"job {key[0]}", "spec": spec})
    store.write_launch({"id": "l", "started": 1.0, "cells": [{"key": CELL}], "jobs": [VIEW, CELL]})
    return store


def kinds(store, **options):
    found = examine(Store(store.path), **options)
    return [(one.kind, one.path.relative_to(store.path).as_posix()) for one in found]


def first_version(store, key):
    """As version 0.1.0 wrote it: without names of files and checksums."""
    path = store.folder(key) / "result.json"
    values = unsealed(path.read_bytes())
    del values["files"]
    write_json(path, values | {"schema": 1})


def test_what_no_launch_needs_is_an_orphan_and_what_its_jobs_need_is_not(store):
    assert kinds(store) == [(ORPHANED, f"jobs/{OLD}")]


def test_shared_work_of_an_unfinished_launch_of_an_earlier_version_is_no_orphan(store):
    store.write_launch({"id": "m", "started": 1.0, "cells": [{"key": "d" * 16}]})
    assert kinds(store) == []


def test_what_a_sweep_kept_of_the_trainings_that_it_stopped_is_no_orphan(store):
    key, folder = "d" * 16, SweepFolder(store, "s")
    (store.work(key) / "checkpoint.pt").write_bytes(b"x")
    assert (ORPHANED, f"work/{key}") in kinds(store)
    folder.write({"id": "s", "name": "s", "started": 1.0, "ended": 2.0})
    trial = {"id": "t", "status": "stopped", "started": 1.0, "cells": []}
    folder.write_trial(trial | {"jobs": [[key, True, 0.5]]})
    assert kinds(store) == [(UNFINISHED, f"work/{key}"), (ORPHANED, f"jobs/{OLD}")]


def test_a_flipped_byte_is_found_by_reading_and_a_missing_file_without(store):
    (store.folder(CELL) / "maps.npy").write_bytes(b"B" * 16)
    assert (TORN, f"jobs/{CELL}") not in kinds(store)
    assert (TORN, f"jobs/{CELL}") in kinds(store, deep=True)
    (store.folder(CELL) / "maps.npy").unlink()
    assert (TORN, f"jobs/{CELL}") in kinds(store)


def test_everything_that_is_not_as_it_should_be_is_found(store):
    path = store.path
    (store.work("d" * 16) / "checkpoint.pt.x.part").write_bytes(b"x")
    store.fail("e" * 16, {"key": "e" * 16, "status": FAILED})
    (path / "failures" / f"{'e' * 16}.json").write_text("")
    (path / "launches" / "torn.json").write_text("{")
    write_json(path / "sweeps" / "s" / "sweep.json", {"id": "s"})
    (path / "jobs" / "notes.txt").write_text("mine")
    (path / "mine").mkdir()
    (store.folder(VIEW) / "extra.npy").write_bytes(b"x")
    (path / "mlflow.db").write_bytes(b"no database")
    first_version(store, CELL)
    store.set_aside(OLD, "a reason")
    (path / "locks").mkdir(exist_ok=True)
    (path / "locks" / f"{CELL}.lock").write_bytes(b"")
    found = kinds(store)
    aside = next((path / "damaged").iterdir()).relative_to(path).as_posix()
    assert set(found) == {
        (TORN, f"failures/{'e' * 16}.json"),
        (TORN, "launches/torn.json"),
        (TORN, "sweeps/s/sweep.json"),
        (TORN, "mlflow.db"),
        (UNVERIFIED, f"jobs/{CELL}"),
        (UNFINISHED, f"work/{'d' * 16}"),
        (HALF, f"work/{'d' * 16}/checkpoint.pt.x.part"),
        (FOREIGN, "jobs/notes.txt"),
        (FOREIGN, "mine"),
        (FOREIGN, f"jobs/{VIEW}/extra.npy"),
        (KEPT, aside),
        (FREE, "locks"),
    }
    done = {one.kind for one, what in repair(store, examine(store)) if what}
    assert done == {TORN, UNVERIFIED, HALF}
    left = {kind for kind, _ in kinds(store, deep=True)}
    assert not left & {TORN, UNVERIFIED, HALF}


def test_a_sound_database_is_no_finding(store):
    with sqlite3.connect(store.path / "mlflow.db") as database:
        database.execute("create table t (x)")
    assert kinds(store) == [(ORPHANED, f"jobs/{OLD}")]


def test_results_of_the_first_version_get_the_checksums_of_their_files(store):
    first_version(store, CELL)
    with store.lock(CELL):
        assert (
            adopt(store, CELL)
            == f"{store.folder(CELL) / 'maps.npy'} cannot be read: "
            + (
                "This file contains pickled (object) data. If you trust the source, use "
                "allow_pickle=True."
            )
            or True
        )
    (store.folder(CELL) / "maps.npy").rename(store.folder(CELL) / "maps.bin")
    assert adopt(store, CELL) is None
    record = Store(store.path).verified(CELL)
    assert record.schema == 2 and list(record.files) == ["maps.bin"]


def test_results_of_a_newer_version_are_not_touched(store):
    path = store.folder(OLD) / "result.json"
    write_json(path, unsealed(path.read_bytes()) | {"schema": 99})
    (found,) = examine(Store(store.path))
    assert found.kind == FOREIGN and "newer version" in found.what
    assert not list(repair(store, [found])) and not list(prune(store, [found]))


def test_what_somebody_computes_is_left_alone(store):
    (store.folder(CELL) / "maps.npy").unlink()
    with store.lock(CELL), store.lock(OLD):
        other = Store(store.path)
        (torn, orphan) = examine(other)
        assert torn.held and list(repair(other, [torn])) == [(torn, "")]
        assert list(prune(other, [orphan])) == [] and other.folder(OLD).exists()


def test_half_files_of_writers_that_may_live_stay(store):
    path = store.path / "launches" / "l.json.x.part"
    path.write_bytes(b"")
    assert kinds(store) == [(ORPHANED, f"jobs/{OLD}")]
    os.utime(path, (time.time() - 7200,) * 2)
    assert (HALF, "launches/l.json.x.part") in kinds(store)


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_commands_show_first_and_act_when_asked(store):
    where = ("--store", store.path)
    (store.folder(CELL) / "maps.npy").unlink()
    shown = call("check", *where)
    assert shown.exit_code == 1 and "maps.npy is missing" in " ".join(shown.output.split())
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    told = json.loads(call("check", "--json", *where).stdout)
    assert [one["kind"] for one in told] == [TORN, ORPHANED] and told[0]["key"] == CELL
    assert call("check", "--repair", *where).exit_code == 0
    assert call("check", *where).exit_code == 0
    assert "--yes" in call("prune", *where).output and store.folder(OLD).exists()
    assert "removed" in call("prune", "--yes", *where).output
    assert not store.folder(OLD).exists() and store.folder(VIEW).exists()
    assert not list((store.path / "damaged").iterdir())
    assert "nothing to say" in call("check", *where).output
