"""relief sync and relief ui: what they write, and a line for what is in the way."""

import sqlite3

import pytest

from harness import tracking
from harness.store.sweeps import SweepFolder
from harness.tracking import client, content
from tests.harness.cli.test_errors import relief
from tests.reports.fake_store import build_launch

pytest.importorskip("mlflow")

ONE = dict(
    methods=(("das3d", ""),), settings=("rgb",), categories=("cookie",), seeds=(0,), arrays=False
)
WEIGHTS = {"das3d.loss.w_focal": {}, "das3d.p_z[1]": {}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A launch, and a sweep that nobody has written to MLflow; the unchanged settings first."""
    made, launch = build_launch(tmp_path_factory.mktemp("commands") / "store", **ONE)
    key = launch["cells"][0]["key"]
    record = dict(made.result(key).values)
    record["spec"]["settings"] |= {"loss": {"w_focal": 1.0}, "p_z": [0.1, 0.6]}
    made.set_aside(key, "a test")
    made.publish(key, {k: v for k, v in record.items() if k not in ("files", "schema")})
    folder, cell = SweepFolder(made, "found-1"), {"key": key, "scores": {"i_auroc": 0.5}}
    for name, values in (("default", {}), ("t1", {"das3d.loss.w_focal": 2.0, "das3d.p_z[1]": 0.9})):
        trial = {"id": name, "values": values, "settings": "", "status": "done", "reason": ""}
        scores = {"cells": [cell], "of": 1, "means": {"i_auroc": 0.5 + 0.1 * len(values)}}
        folder.write_trial(trial | scores | {"started": 1.7e9, "ended": 1.7e9 + 60})
    sweep = {"space": WEIGHTS, "modes": {"i_auroc": "max"}}
    sweep |= {"objective": {"metrics": ["i_auroc"], "on": "validation"}}
    record = {"id": "found-1", "name": "found", "started": 1.7e9, "ended": 1.7e9 + 60}
    folder.write(record | {"sweep": sweep, "best": "t1"})
    return made


def test_sync_catches_up_with_launches_and_sweeps(store, capsys, monkeypatch):
    code, out, _ = relief(capsys, monkeypatch, "sync", "--store", store.path)
    assert code == 0 and "found-1: 2 runs written" in out and "fake-00000000: 1 runs" in out
    code, out, _ = relief(capsys, monkeypatch, "sync", "found-1", "--store", store.path)
    assert code == 0 and out.strip() == "found-1: 0 runs written, 2 unchanged"


def test_every_trial_has_the_swept_settings_the_unchanged_ones_too(store):
    tracking.sync_sweep(store, "found-1")
    found, _ = client.connect(store, None)
    experiment = found.get_experiment_by_name("found")
    runs = found.search_runs([experiment.experiment_id])
    params = {r.info.run_name: r.data.params for r in runs if content.PARENT in r.data.tags}
    assert params == {
        "trial 0": {"das3d.loss.w_focal": "1.0", "das3d.p_z.1": "0.6"},
        "trial 1": {"das3d.loss.w_focal": "2.0", "das3d.p_z.1": "0.9"},
    }
    parent = next(r for r in runs if content.PARENT not in r.data.tags)
    assert parent.info.status == "FINISHED" and parent.data.metrics["best/i_auroc"] == 0.7
    for told in (parent.data.tags, experiment.tags):
        assert "| 1 |  | 70.0 | 1 of 1 |" in told[content.NOTE]
    assert "das3d.loss.w_focal" in experiment.tags["mlflow.sharedViewState.found-1"]


def test_no_run_of_a_sweep_that_ended_says_running_or_stands_twice(store):
    """A search that is begun again draws the same points under other names."""
    folder = SweepFolder(store, "found-1")
    record, trial = folder.known_record, folder.read_trial("t1")
    folder.write(record | {"ended": None, "best": None})
    folder.write_trial(trial | {"status": "running", "ended": None})
    tracking.sync_sweep(store, "found-1", running=True)
    folder.trial("t1").unlink()
    folder.write_trial(trial | {"id": "t2"})
    folder.write(record | {"best": "t2"})
    tracking.sync_sweep(store, "found-1")
    found, _ = client.connect(store, None)
    number = found.get_experiment_by_name("found").experiment_id
    runs = found.search_runs([number], run_view_type=3)  # deleted ones, too
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED", "KILLED"}
    alive = [run for run in runs if run.info.lifecycle_stage == "active"]
    keys = sorted(run.data.tags.get(content.KEY, "") for run in alive)
    assert keys == ["", "default", "t2"]
    assert tracking.sync_sweep(store, "found-1").written == 0


def test_a_description_that_somebody_wrote_stays(store):
    found, _ = client.connect(store, None)
    launch = store.launch()
    number = tracking.sync(store, launch).experiment_id
    found.set_experiment_tag(number, content.NOTE, "ours, by hand")
    tracking.sync(store, launch | {"marks": ["test-selected"]})
    assert found.get_experiment(number).tags[content.NOTE] == "ours, by hand"


def test_a_server_that_is_down_is_a_line_with_a_remedy(store, capsys, monkeypatch):
    uri = "http://me:hidden@127.0.0.1:9"
    options = "sync", "--tracking", uri, "--store", store.path
    code, out, err = relief(capsys, monkeypatch, *options)
    assert code == 2 and len(err.strip().splitlines()) == 1
    assert "http://me:***@127.0.0.1:9" in err and "start it" in err
    assert "hidden" not in out + err


def test_ui_of_another_version_of_mlflow_is_a_line_with_a_remedy(store, capsys, monkeypatch):
    tracking.sync(store, store.launch())
    other = type(store)(store.path.with_name("other"))
    other.path.mkdir()
    (other.path / "mlflow.db").write_bytes((store.path / "mlflow.db").read_bytes())
    with sqlite3.connect(other.path / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = '0123456789ab'")
    code, _, err = relief(capsys, monkeypatch, "ui", "--store", other.path, "--port", 5999)
    assert code == 2 and len(err.strip().splitlines()) == 1
    assert str(other.path / "mlflow.db") in err and "move it away" in err
