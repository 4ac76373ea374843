"""Damaged files of a sweep: named, set aside, and computed again by the same command."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest

from harness.engine import sweep as sweeps
from harness.engine import tuning
from harness.store import DONE, Store
from harness.store.sweeps import DEFAULT, RECORD, STATE, SweepFolder
from tests.faults.test_damage import ON_FILES

pytest.importorskip("ray")
TORN = ["emptied", "half", "flipped", "null", "{}", "removed"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> SweepFolder:
    """A sweep of three trials that has ended."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    folder = SweepFolder(Store(tmp_path), "s")
    ids = (DEFAULT, "a", "b")
    for i, trial in enumerate(ids):
        folder.write_trial(
            {"id": trial, "status": DONE, "started": float(i), "cells": [], "means": {}}
        )
    folder.write({"id": "s", "name": "s", "started": 1.0, "ended": 2.0, "trials": list(ids)})
    state = folder.path / STATE
    state.mkdir()
    (state / "tuner.pkl").write_bytes(pickle.dumps({"a": 1}))
    (state / "experiment_state-1.json").write_text(json.dumps({"trial_data": []}))
    (state / "searcher-state-1.pkl").write_bytes(pickle.dumps([1]))
    return folder


@pytest.mark.parametrize("damage", TORN)
def test_a_damaged_trial_is_set_aside_and_the_search_starts_again(folder, damage, caplog):
    ON_FILES[damage](folder.trial("a"))
    record = sweeps._mended(folder)
    assert record["ended"] is None and "same seeds" in caplog.text
    assert damage == "removed" or "trials/a.json is damaged" in caplog.text
    assert not (folder.path / STATE).exists()
    assert [trial["id"] for trial in folder.trials()] == [DEFAULT, "b"]


@pytest.mark.parametrize("damage", TORN)
def test_of_the_unchanged_settings_only_the_trial_is_computed_again(folder, damage):
    ON_FILES[damage](folder.trial(DEFAULT))
    assert sweeps._mended(folder)["ended"] is None
    assert (folder.path / STATE).exists()


@pytest.mark.parametrize("damage", TORN)
def test_a_damaged_record_is_written_again(folder, damage, caplog):
    ON_FILES[damage](folder.path / RECORD)
    assert sweeps._mended(folder) is None and folder.record is None
    assert damage == "removed" or "sweep.json is damaged" in caplog.text
    assert len(folder.trials()) == 3


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in ("tuner.pkl", "experiment_state-1.json", "searcher-state-1.pkl")
        for damage in ("emptied", "half", "removed")
    ],
)
def test_a_state_that_tune_cannot_read_is_set_aside(folder, name, damage, caplog):
    state = folder.path / STATE
    assert tuning._restorable(state, folder) == set()
    ON_FILES[damage](state / name)
    assert tuning._restorable(state, folder) is None and not state.exists()
    assert "cannot be read" in caplog.text and "same seeds" in caplog.text


def test_the_state_of_a_search_by_chance_is_read_as_tune_writes_it(folder):
    from ray.tune.search import BasicVariantGenerator

    state = folder.path / STATE
    (state / "searcher-state-1.pkl").unlink()
    BasicVariantGenerator(random_state=1).save_to_dir(str(state), session_str="1")
    (written,) = state.glob("basic-variant-state-*")
    assert tuning._restorable(state, folder) == set()
    written.write_bytes(written.read_bytes()[:-9])
    assert tuning._restorable(state, folder) is None


@pytest.mark.parametrize("status", ["PENDING", "PAUSED", "TERMINATED"])
def test_a_state_with_trials_is_read_before_tune_knows_what_they_run(folder, status):
    from ray.tune import PlacementGroupFactory
    from ray.tune.experiment import Trial

    trial = Trial("a_search_of_another_process", trial_id="a", stub=True)
    trial.placement_group_factory = PlacementGroupFactory([{"CPU": 1}])
    trial.set_status(status)
    written = {"trial_data": [list(trial.get_json_state())]}
    (folder.path / STATE / "experiment_state-1.json").write_text(json.dumps(written))
    assert tuning._restorable(folder.path / STATE, folder) == {"a"}
    folder.trial("a").unlink()
    lost = status == "TERMINATED"
    assert tuning._restorable(folder.path / STATE, folder) == (None if lost else {"a"})


def test_a_state_of_modules_that_are_no_more_is_set_aside(folder, caplog):
    text = b"cno_such_module\nThing\n."
    (folder.path / STATE / "tuner.pkl").write_bytes(text)
    assert tuning._restorable(folder.path / STATE, folder) is None
    assert "ModuleNotFoundError" in caplog.text


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    from tests.test_end_to_end import finish, relief
    from tests.test_sweep_end_to_end import SWEEP

    store = tmp_path_factory.mktemp("swept")
    finish(relief("sweep", *SWEEP, "--store", store, "--tracking", "none"))
    return store


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("sweep.json", "half"),
        ("trials/default.json", "null"),
        ("trials/[0-9a-f]*.json", "emptied"),
        ("tune/tuner.pkl", "emptied"),
        ("tune/experiment_state-*.json", "half"),
        ("sweep.html", "half"),
    ],
)
def test_the_same_command_ends_in_the_same_sweep(swept, name, damage, tmp_path):
    from tests.test_end_to_end import finish, relief
    from tests.test_sweep_end_to_end import SWEEP, outcome

    store = tmp_path / "store"
    shutil.copytree(swept, store)
    (folder,) = store.glob("sweeps/*")
    path = sorted(folder.glob(name))[0]
    if name.startswith("tune/"):  # of a sweep that was killed before its end
        found = SweepFolder(Store(store), folder.name)
        found.write(found.record | {"ended": None})
    ON_FILES[damage](path)
    told = finish(relief("sweep", *SWEEP, "--store", store, "--tracking", "none"))
    assert "Traceback" not in told
    assert outcome(store) == outcome(swept)
    assert name == "sweep.html" or "set aside" in told
    assert (folder / "sweep.html").stat().st_size == (
        next(swept.glob("sweeps/*")) / "sweep.html"
    ).stat().st_size or name != "sweep.html"
