import json
import time
from pathlib import Path

import pytest

from harness import tracking
from harness.store import Store
from harness.store.curve import Curve
from harness.tracking import client as shared
from harness.tracking import content
from methods.contract import Progress
from tests.harness.conftest import planned

pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def synced(tiny_store, tmp_path_factory):
    """(uri, counts of the first sync) of the tiny launch in a database of its own."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    return uri, tracking.sync(tiny_store, planned().record(tiny_store), uri)


def runs(store, uri):
    client, _ = shared.connect(store, uri)
    experiment = client.get_experiment_by_name(planned().config.name)
    return client, client.search_runs([experiment.experiment_id])


def test_every_cell_becomes_a_child_run_with_its_metrics_and_key(tiny_store, synced):
    uri, counts = synced
    assert counts.written == 2
    _client, found = runs(tiny_store, uri)
    parents = [r for r in found if content.PARENT not in r.data.tags]
    children = {r.data.tags[content.KEY]: r for r in found if content.PARENT in r.data.tags}
    assert len(parents) == 1 and len(children) == 2
    for cell in planned().cells:
        run, result = children[cell["key"]], tiny_store.result(cell["key"])
        assert run.data.tags[content.PARENT] == parents[0].info.run_id
        assert run.info.status == "FINISHED"
        expected = {k: v for k, v in result.metrics.items() if v is not None}
        assert {k: run.data.metrics[k] for k in expected} == pytest.approx(expected)
        assert run.data.params["category"] == "cookie"


def test_syncing_again_changes_nothing(tiny_store, synced):
    uri, _ = synced
    client, before = runs(tiny_store, uri)
    counts = tracking.sync(tiny_store, planned().record(tiny_store), uri)
    assert (counts.written, counts.unchanged) == (0, 2)
    _, after = runs(tiny_store, uri)
    assert len(after) == len(before)
    for run in after:
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            assert len({(m.step, m.timestamp) for m in history}) == len(history)


def test_losses_of_a_cell_and_its_stages_are_curves_over_steps(tmp_path):
    store, plan = Store(tmp_path), planned()
    launch, key, stage = plan.record(store), plan.cells[0]["key"], "5" * 16
    common = {"status": "done", "started": 1.0, "ended": 5.0, "metrics": {"i_auroc": 0.5}}
    for name, needs, losses in (
        (key, {"stage:expert": stage}, [3.0, 2.0, 1.0]),
        (stage, {}, [9.0]),
    ):
        curve = Curve(store.work(name))
        for step, loss in enumerate(losses, 1):
            curve.add(Progress("train", step, 3, loss))
        curve.write()
        store.publish(name, common | {"key": name, "spec": {"needs": needs}})
    for _ in range(2):  # the second adds nothing
        tracking.sync(store, launch)
    client, found = runs(store, None)
    run = next(r for r in found if r.data.tags.get(content.KEY) == key)
    history = client.get_metric_history(run.info.run_id, "loss/train")
    assert [(m.step, m.value) for m in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert run.data.metrics["loss/expert-train"] == 9.0
    assert "curve.csv" in {item.path for item in client.list_artifacts(run.info.run_id)}


def test_a_launch_of_known_results_does_not_end_before_it_starts(tiny_store, tmp_path):
    launch = planned().launch() | {"id": "later", "name": "later"}
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking.sync(tiny_store, launch, uri)
    client, _ = shared.connect(tiny_store, uri)
    found = client.search_runs([client.get_experiment_by_name("later").experiment_id])
    assert all(run.info.end_time >= run.info.start_time for run in found)


def test_a_server_that_is_down_is_reported_soon_and_later_caught_up_with(tiny_store):
    start = time.monotonic()
    with pytest.raises(Exception, match="127.0.0.1"):
        tracking.sync(tiny_store, planned().record(tiny_store), "http://127.0.0.1:9")
    assert time.monotonic() - start < 30


def test_failed_cells_are_failed_runs_with_their_reason(tmp_path):
    store, plan = Store(tmp_path), planned()
    launch, key = plan.record(store), plan.cells[0]["key"]
    store.fail(
        key,
        {
            "key": key,
            "status": "failed",
            "reason": "DataError: 001.tiff",
            "ended": 5.0,
            "spec": plan.jobs[key].spec,
            "labels": {},
        },
    )
    tracking.sync(store, launch)
    _client, found = runs(store, None)
    child = next(r for r in found if r.data.tags.get(content.KEY) == key)
    assert child.info.status == "FAILED" and child.data.tags["reason"] == "DataError: 001.tiff"
    assert (tmp_path / "mlflow.db").exists()


def test_the_parent_carries_the_leaderboard_as_files_table_and_metrics(tiny_store, tmp_path):
    from reports.page.render import write_report

    launch = planned().launch() | {"id": "told", "name": "told"}
    page = write_report(tiny_store, launch, tmp_path / "report")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking.sync(tiny_store, launch, uri, page.parent)
    client, _ = shared.connect(tiny_store, uri)
    found = client.search_runs([client.get_experiment_by_name("told").experiment_id])
    parent = next(run for run in found if content.PARENT not in run.data.tags)
    child = next(run for run in found if content.PARENT in run.data.tags)
    names = {item.path for item in client.list_artifacts(parent.info.run_id, "leaderboard")}
    assert {"leaderboard/leaderboard.html", "leaderboard/leaderboard.tex"} <= names
    path = client.download_artifacts(parent.info.run_id, "leaderboard.json", str(tmp_path))
    assert {"method", "value", "published"} <= set(json.loads(Path(path).read_text())["columns"])
    assert "leaderboard.json" in parent.data.tags["mlflow.loggedArtifacts"]  # the UI's tables
    assert any(name.endswith("/i_auroc") for name in parent.data.metrics)
    assert all("+" not in name for name in parent.data.metrics)
    kept = {item.path for item in client.list_artifacts(child.info.run_id)}
    assert {"result.json", "scores.parquet"} <= kept
