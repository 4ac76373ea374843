"""What changed is found by listings, and written as MLflow itself would have written it."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import tracking
from harness.store import Record, Store
from harness.store.at_work import lock_of
from harness.store.processes import Process
from harness.tracking import client, content, database, known, mirror, write
from harness.tracking.cells import cell_content
from harness.tracking.database import artifacts_of, default_uri
from tests.reports.fake_store import build_launch

pytest.importorskip("mlflow")

FEW = dict(
    methods=(("das3d", ""), ("m3dm", "")),
    settings=("rgb",),
    categories=("cookie",),
    seeds=(0,),
    arrays=False,
)
ALTERED = {"das3d.loss.w_focal": 20.0, "das3d.p_z[1]": 0.6, "das3d.texture.source": "auto"}


@pytest.fixture(scope="module")
def synced(tmp_path_factory):
    store, launch = build_launch(tmp_path_factory.mktemp("synced") / "store", **FEW)
    launch |= {"parameters": {"das3d": ALTERED}}
    store.write_launch(launch)
    tracking.sync(store, launch)
    return store, launch


def copied(store, path):
    shutil.copytree(store.path, path)
    return Store(path)


def runs_of(store, launch, uri=None):
    found, _ = client.connect(store, uri)
    experiment = found.get_experiment_by_name(launch["name"])
    return found, found.search_runs([experiment.experiment_id])


def status_of(store, launch):
    return known.in_file(default_uri(store), launch["name"], launch["id"])[1][""].status


def test_settings_that_differ_from_the_defaults_are_parameters(synced):
    _, runs = runs_of(*synced)
    run = next(r for r in runs if r.data.tags.get("method") == "das3d")
    params = {k: v for k, v in run.data.params.items() if k.startswith("das3d.")}
    assert params == {
        "das3d.loss.w_focal": "20.0",
        "das3d.p_z.1": "0.6",
        "das3d.texture.source": "auto",
    }


def test_all_settings_are_an_artifact_as_a_configuration_writes_them(synced):
    import yaml

    store, launch = synced
    found, runs = runs_of(store, launch)
    run = next(r for r in runs if r.data.tags.get("method") == "das3d")
    path = found.download_artifacts(run.info.run_id, "settings.yaml")
    assert yaml.safe_load(Path(path).read_text()) == {
        "das3d": {"train": {"steps": 2000}, "width": 32}
    }


def test_tags_name_what_users_filter_by(synced):
    store, launch = synced
    found, runs = runs_of(store, launch)
    chosen = found.search_runs(
        [runs[0].info.experiment_id],
        "tags.method = 'm3dm' and tags.setting = 'rgb' and tags.category = 'cookie' and "
        "tags.commit = '0123456789ab' and tags.status = 'done' and tags.marks = 'demo'",
    )
    assert len(chosen) == 1
    assert chosen[0].data.tags["mlflow.source.git.commit"] == "0123456789ab"


def test_a_cell_of_another_step_or_fewer_samples_has_name_parameters_and_tags_of_its_own(synced):
    store, launch = synced
    cell = next(cell for cell in launch["cells"] if cell["method"] == "das3d")
    plain = store.result(cell["key"])
    best = {"selection": {"metric": "aupro_0.3", "every": 0.1}, "train_samples": 4}
    other = Record(plain.values | {"spec": plain.values["spec"] | best}, plain.folder)
    last, found = (cell_content(store, launch, cell, one, 1.0, {}) for one in (plain, other))
    assert found.name == f"{last.name} best_validation aupro_0.3 4 samples"
    assert last.params["training.selection"] == last.tags["selection"] == "last"
    assert found.params["training.selection"] == found.tags["selection"] == "best_validation"
    assert found.params["training.metric"] == "aupro_0.3" and found.tags["train_samples"] == "4"
    assert "training.metric" not in last.params and "train_samples" not in last.params
    assert content.FORM == 3  # so that the runs of earlier versions are written again


def test_an_unchanged_launch_imports_no_mlflow(synced):
    store, _ = synced
    code = (
        "import sys\nfrom harness.store import Store\nfrom harness import tracking\n"
        f"store = Store({str(store.path)!r})\n"
        "done = tracking.sync(store, store.launch())\n"
        "assert 'mlflow' not in sys.modules and 'pandas' not in sys.modules\n"
        "print(done.written, done.unchanged)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "2"], done.stderr


def test_only_the_cell_that_changed_is_written(synced, tmp_path):
    store, launch = copied(synced[0], tmp_path / "store"), synced[1]
    key = launch["cells"][0]["key"]
    record = dict(store.result(key).values)
    for name in ("files", "schema"):
        del record[name]
    store.set_aside(key, "a test")
    store.publish(key, record | {"metrics": {"i_auroc": 0.25}, "ended": record["ended"] + 1})
    done = tracking.sync(store, launch)
    assert (done.written, done.unchanged) == (1, 1)
    _, runs = runs_of(store, launch)
    run = next(r for r in runs if r.data.tags.get(content.KEY) == key)
    assert run.data.metrics["i_auroc"] == 0.25
    assert tracking.sync(store, launch).written == 0


def test_rows_are_what_mlflows_client_would_have_written(synced, tmp_path):
    store, launch = synced
    server = f"sqlite:///{tmp_path / 'by_client.db'}"
    with client.launched(store, launch, server) as runs:
        for cell in launch["cells"]:
            told = {content.PARENT: runs.parent.id, content.SEEN: "x"}
            made = cell_content(store, launch, cell, store.result(cell["key"]), 0.0, told)
            write.update(runs.client, write.create(runs.client, runs.experiment, made), made)
    by_rows, by_client = (shown(store, launch, uri) for uri in (None, server))
    assert by_rows == by_client and len(by_rows) == 2


def shown(store, launch, uri):
    """Key of a cell -> all that MLflow says of its run."""
    found, runs = runs_of(store, launch, uri)
    told = {}
    for run in (r for r in runs if content.KEY in r.data.tags):
        name, info = run.info.run_id, run.info
        history = {
            metric: [(m.step, m.timestamp, m.value) for m in found.get_metric_history(name, metric)]
            for metric in run.data.metrics
        }
        told[run.data.tags[content.KEY]] = (
            (info.run_name, info.status, info.start_time, info.end_time, info.lifecycle_stage),
            {k: v for k, v in run.data.tags.items() if k not in (content.PARENT, content.SEEN)},
            run.data.params,
            run.data.metrics,
            history,
            sorted(artifact.path for artifact in found.list_artifacts(name)),
        )
    return told


def test_a_moved_store_has_its_artifacts(synced, tmp_path):
    store, launch = copied(synced[0], tmp_path / "elsewhere"), synced[1]
    found, runs = runs_of(store, launch)
    assert all(run.info.artifact_uri.startswith(artifacts_of(store)) for run in runs)
    child = next(run for run in runs if content.KEY in run.data.tags)
    path = found.download_artifacts(child.info.run_id, "result.json", str(tmp_path))
    assert json.loads(Path(path).read_text())["status"] == "done"


def test_sync_of_a_moved_store_leads_to_its_artifacts_where_nothing_else_changed(synced, tmp_path):
    store, launch = copied(synced[0], tmp_path / "there"), synced[1]
    uri = default_uri(store)
    assert database.moved(store, uri)
    tracking.sync(store, launch)
    assert not database.moved(store, uri)


def test_a_copy_of_a_store_writes_no_run_again(synced, tmp_path):
    store, launch = copied(synced[0], tmp_path / "copy"), synced[1]
    for path in store.path.glob("jobs/*/result.json"):
        os.utime(path, (1, 1))
    _, before = runs_of(store, launch)
    tracking.sync(store, launch)
    _, after = runs_of(store, launch)
    ours = content.SEEN
    for old, new in zip(before, after):
        if content.KEY in old.data.tags:
            assert old.data.tags[ours] != new.data.tags[ours]
            assert old.info == new.info and old.data.metrics == new.data.metrics


@pytest.mark.parametrize(
    ("troubles", "held", "status"),
    [
        ({}, False, "FINISHED"),
        ({("m3dm", None, None, None, None): "failed"}, False, "FAILED"),
        ({("m3dm", None, None, None, None): "pending"}, False, "KILLED"),
        ({("m3dm", None, None, None, None): "pending"}, True, "RUNNING"),
    ],
)
def test_a_launch_says_how_it_stands(tmp_path, troubles, held, status):
    store, launch = build_launch(tmp_path / "store", **FEW, troubles=troubles)
    lock = lock_of(store, launch["id"])
    if held:
        with lock.hold():
            tracking.sync(store, launch)
    else:
        tracking.sync(store, launch)
    assert status_of(store, launch) == status


def wait_for(what, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.2)
    raise AssertionError("it did not come to that")


@pytest.fixture
def pending(tmp_path):
    """A launch with a cell to do, synced once: its database is made."""
    troubles = {("m3dm", None, None, None, None): "pending"}
    store, launch = build_launch(tmp_path / "store", **FEW, troubles=troubles)
    tracking.sync(store, launch)
    assert status_of(store, launch) == "KILLED"
    return store, launch


@pytest.mark.slow
def test_a_launch_runs_in_mlflow_while_it_runs(pending):
    from harness.cli.launch import mirrored

    store, launch = pending
    beside = mirrored(store, "launch", launch["id"], None)
    try:
        wait_for(lambda: status_of(store, launch) == "RUNNING")
        wait_for(lambda: os.getpriority(os.PRIO_PROCESS, beside.process.pid) > 10)
    finally:
        beside.stop()
    assert beside.process.returncode == 0
    tracking.sync(store, launch)
    assert status_of(store, launch) == "KILLED"


def test_that_a_launch_runs_is_written_before_its_mirror_steps_back(monkeypatch, tmp_path):
    store, did = Store(tmp_path), []
    store.write_launch({"id": "toy", "started": 1.0, "cells": []})

    def sync(*about, running, check, **options):
        did.append("launch")
        check()
        did.append("cells")

    monkeypatch.setattr(mirror, "sync", sync)
    monkeypatch.setattr(mirror.os, "nice", lambda by: did.append(f"nice {by}"))
    monkeypatch.setattr(mirror, "DYING_S", 0.0)
    about = {"store": str(tmp_path), "kind": "launch", "name": "toy", "uri": None, "every_s": 0.0}
    pipe = io.StringIO(json.dumps(about | {"driver": Process.own().plain()}) + "\n")
    monkeypatch.setattr("sys.stdin", pipe)  # and then it ends, as that of a killed driver
    mirror.run_mirror(str)
    assert did[:3] == ["launch", "nice 19", "cells"] and did.count("nice 19") == 1


@pytest.mark.slow
def test_a_launch_that_is_killed_is_killed_in_mlflow_and_leaves_no_process(pending):
    store, launch = pending
    code = (
        "import sys, time\nfrom harness.store import Store\n"
        "from harness.cli.launch import mirrored\n"
        f"mirror = mirrored(Store({str(store.path)!r}), 'launch', {launch['id']!r}, None)\n"
        "print(mirror.process.pid, flush=True)\ntime.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(driver.stdout.readline())
    wait_for(lambda: status_of(store, launch) == "RUNNING")
    driver.kill()
    driver.wait()
    wait_for(lambda: status_of(store, launch) == "KILLED")

    def ended():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(ended)


@pytest.mark.slow
def test_a_mirror_that_cannot_write_says_so_once_without_the_password(pending, capsys):
    from harness.cli.launch import mirrored

    store, launch = pending
    mirror = mirrored(store, "launch", launch["id"], "http://me:hidden@127.0.0.1:9")
    arguments = Path(f"/proc/{mirror.process.pid}/cmdline").read_text()
    said = []
    mirror.say = said.append
    wait_for(lambda: said)
    mirror.stop()
    assert len(said) == 1 and "hidden" not in said[0] + arguments
    assert "http://me:***@127.0.0.1:9" in said[0] and "relief sync" in said[0]
