"""Finished cells timed again by their kept models: what is kept, what is shown, what is refused."""

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

import methods
from harness.cli import unchanged
from harness.cli.app import built
from harness.cli.errors import describe
from harness.engine import timing
from harness.engine.alone import Alone
from harness.store import Store, timed
from harness.store.examine import examine
from harness.store.files import sealed, write_json
from harness.store.locks import Lock
from harness.store.processes import Process
from harness.tracking.cells import cell_content
from harness.tracking.launches import _seen, states_of
from methods.errors import UserError
from reports.numbers.frame import results_frame
from tests.harness.conftest import TINY, planned, run

CPU = torch.device("cpu")
BUSY = "other processes keep 1.5 of 2 CPUs busy"
BASELINE = "baseline={prep: {size: 48}, window: 5}"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A store with a launch of two cells, of which the first keeps its model."""
    store = Store(tmp_path_factory.mktemp("timed"))
    first = planned("methods=[baseline]", BASELINE, "protocol.keep_models=true")
    assert not run(first, store).failures
    both = planned("methods=[baseline,baseline/plane]", BASELINE)
    assert not run(both, store).failures
    both.record(store)
    return store


@pytest.fixture
def store(done, tmp_path):
    return Store(shutil.copytree(done.path, tmp_path / "store"))


@pytest.fixture
def others(monkeypatch):
    """What others do, one word after the other; nothing at the end."""
    said = []
    monkeypatch.setattr(Alone, "disturbed", lambda self: said.pop(0) if said else "")
    monkeypatch.setattr(timing, "LOOK_S", 0)
    return said


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def records(store):
    return [store.result(cell["key"]) for cell in store.launch()["cells"]]


def again(store, **how):
    protocol = timing.protocol_of(store.launch())
    return timing.time_again(store, records(store), protocol, CPU, **how)


def bench(store, *what):
    given = ["bench", "--cells", store.launch()["id"], "--store", str(store.path)]
    return CliRunner().invoke(built(), [*given, "--device", "cpu", "--tracking", "none", *what])


def bytes_of(record):
    return {p.name: p.read_bytes() for p in record.folder.rglob("*") if p.is_file()}


def test_a_kept_model_is_timed_and_nothing_of_its_cell_changes(store, others):
    kept, _ = records(store)
    before, key = bytes_of(kept), kept.key
    one, other = again(store)
    assert (one.state, other.state) == (timing.TIMED, timing.NO_MODEL)
    assert records(store)[0].key == key and bytes_of(kept) == before
    speed = timed.speed_of(kept)
    assert speed == one.after and speed["valid"] and one.before["valid"] is False
    assert speed.keys() == kept.speed.keys() and speed != kept.speed
    found = timed.timing_of(kept)
    assert found.environment["threads"] == kept.environment["threads"] and found.environment["host"]
    assert found.when > kept.ended and found.others == "" and found.load_average is not None
    assert [one.state for one in again(store)] == [timing.VALID, timing.NO_MODEL]
    assert timed.timing_of(kept) == found
    assert [one.state for one in again(store, anew=True)] == [timing.TIMED, timing.NO_MODEL]
    assert timed.timing_of(kept).when > found.when


def test_a_device_that_others_use_is_refused_or_its_times_are_marked(store, others):
    kept, _ = records(store)
    others[:] = [BUSY]
    with pytest.raises(UserError, match="1.5 of 2 CPUs.*--shared"):
        again(store)
    others[:] = ["", BUSY]  # they come while it is timed
    (one, _) = again(store)
    assert one.state == timing.DISTURBED and one.reason == BUSY and not timed.timing_of(kept)
    others[:] = [BUSY]
    assert again(store, shared=True)[0].state == timing.TIMED
    shared = timed.timing_of(kept)
    assert not shared.valid and shared.others == BUSY and timed.speed_of(kept)["valid"] is False
    assert again(store)[0].state == timing.TIMED and timed.timing_of(kept).valid
    others[:] = [BUSY]
    assert again(store, shared=True, anew=True)[0].state == timing.DISTURBED
    assert timed.timing_of(kept).valid


def test_what_the_first_prediction_compiles_is_not_work_of_others(store, others, monkeypatch):
    predicted, watched = [], []
    predict, watch = methods.get("baseline").predict, Alone.__init__
    monkeypatch.setattr(
        methods.get("baseline"), "predict", lambda *a: predicted.append(1) or predict(*a)
    )
    monkeypatch.setattr(Alone, "__init__", lambda *a: watched.append(len(predicted)) or watch(*a))
    again(store)
    assert watched[0] == 0 and watched[1] > 0


def test_tables_and_mlflow_show_the_later_speed(store, others):
    launch, (kept, other) = store.launch(), records(store)
    state, seen = unchanged.state_of(store, launch), mlflow(store, kept)
    assert list(results_frame(store, launch)["speed_valid"]) == [False, False]
    (one, _) = again(store)
    frame = results_frame(store, launch).set_index("key")
    assert frame["speed_valid"].to_dict() == {kept.key: True, other.key: False}
    assert frame["latency_p50_s"][kept.key] == one.after["latency_p50_s"]
    assert frame["fps"][other.key] == other.speed["fps"]
    assert frame["i_auroc"][kept.key] == kept.metrics["i_auroc"]
    assert unchanged.state_of(store, launch) != state
    content, mark = mlflow(store, kept)
    assert mark != seen[1] and content.tags["timed_again"] and "timed_again" not in seen[0].tags
    assert content.tags["timed_beside"] == "nobody"
    points, before = ({p.name: p for p in c.points} for c in (content, seen[0]))
    changed = {name for name in points if points[name] != before[name]}
    assert changed == {name for name in points if name.startswith("speed/")}
    latency = points["speed/latency_p50_s"]
    assert latency.value == one.after["latency_p50_s"]
    assert latency.at_ms > before["speed/latency_p50_s"].at_ms  # else the larger would be shown


def test_the_status_of_a_launch_tells_times_that_came_later(store, others):
    def notes():
        given = ["status", store.launch()["id"], "--store", str(store.path), "--json"]
        return [
            job["note"] for job in json.loads(CliRunner().invoke(built(), given).stdout)["jobs"]
        ]

    assert notes() == ["", ""]
    (one, _) = again(store)
    first, second = notes()
    assert first.startswith(f"{1000 * one.after['latency_p50_s']:.3g} ms an image") and not second


def mlflow(store, record):
    launch = store.launch()
    (cell,) = [cell for cell in launch["cells"] if cell["key"] == record.key]
    content = cell_content(store, launch, cell, record, 0.0, {})
    return content, _seen(launch, cell, states_of(store, [record.key])[record.key])


def test_times_of_another_device_do_not_stand_in_their_place(store, others):
    kept, _ = records(store)
    path = kept.folder / "result.json"
    values = json.loads(path.read_text())
    values["environment"]["device"] = "NVIDIA A"
    write_json(path, sealed(values))
    (one, _) = again(Store(store.path))
    assert (
        one.state == timing.ELSEWHERE and "it was computed on NVIDIA A, and this is" in one.reason
    )
    assert not (store.path / timed.FOLDER).exists()


def test_a_model_that_cannot_be_used_spares_the_others(store, others):
    kept, _ = records(store)
    file = next(path for path in (kept.folder / "model").rglob("*") if path.is_file())
    text = file.read_bytes()
    file.write_bytes(text[:-1] + bytes([text[-1] ^ 1]))
    one, other = again(store)
    assert one.state == timing.FAILED and file.name in one.reason
    assert other.state == timing.NO_MODEL


def test_a_damaged_timing_counts_as_none_and_the_check_finds_it(store, others, caplog):
    kept, _ = records(store)
    again(store)
    path = timed.path_of(kept)
    path.write_text(path.read_text().replace('"others": ""', '"others": "nobody"'))
    assert timed.speed_of(kept) == kept.speed and "relief bench --cells" in caplog.text
    (found,) = [one for one in examine(store) if one.kind == "damaged"]
    assert found.path == path and "relief bench --cells" in found.remedy
    assert again(store)[0].state == timing.TIMED and timed.timing_of(kept).valid


def test_a_timing_of_other_files_does_not_count(store, others):
    kept, _ = records(store)
    again(store)
    values = json.loads(timed.path_of(kept).read_text())
    values["files"]["scores.parquet"] = "0" * 16
    write_json(timed.path_of(kept), sealed(values))
    assert timed.timing_of(kept) is None


def test_one_process_times_at_once(store, others):
    name = f"timing-{Process.own().host}.lock"
    held = Lock(store.path / "locks" / name).hold()
    with held, pytest.raises(UserError, match=f"process {Process.own().pid} of .* times cells"):
        again(store)


def test_a_launch_that_does_not_time_is_timed_in_the_usual_way():
    given = {"latency_samples": 0, "latency_seconds": 0, "keep_models": True}
    assert timing.protocol_of({"config": {"protocol": given}}).latency_samples == 50
    given["latency_samples"] = 3
    found = timing.protocol_of({"config": {"protocol": given}})
    assert (found.latency_samples, found.latency_seconds, found.keep_models) == (3, 0, False)


def test_the_command_tells_what_it_did_and_writes_the_report(store, others):
    page = store.path / "reports" / store.launch()["id"] / "cost.csv"
    told = bench(store, "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert [cell["state"] for cell in found["cells"]] == [timing.TIMED, timing.NO_MODEL]
    assert found["machine"]["processor"] and page.is_file()
    asked = ["--cells", str(TINY), "methods=[baseline,baseline/plane]", BASELINE]
    told = bench(store, *asked)  # the same launch, by its configuration
    assert told.exit_code == 0 and "1 valid before, 1 no model" in told.output
    assert "protocol.keep_models=true" in told.output and "--anew" in told.output
    others[:] = ["", BUSY]
    told = bench(store, "--anew")
    assert told.exit_code == 1 and "disturbed" in told.output


def test_one_that_is_stopped_keeps_what_it_timed_and_the_next_writes_the_report(store, others):
    kept, _ = records(store)
    page = store.path / "reports" / store.launch()["id"] / "cost.csv"

    def stop(ended):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again(store, listen=stop)
    assert timed.timing_of(kept).valid and not page.exists()
    assert "1 valid before" in bench(store).output
    assert f"{timed.speed_of(kept)['fps']}"[:8] in page.read_text()


def test_what_cannot_be_timed_is_told_with_the_remedy(store, others):
    def why(*what):
        done = bench(store, *what)
        assert done.exit_code != 0
        return f"{done.output} {describe(done.exception).text if done.exception else ''}"

    assert "m3dm: no method of" in (text := why("m3dm")) and "baseline, baseline/plane" in text
    text = why("baseline/plane")
    assert "no finished cell" in text and "protocol.keep_models=true" in text
    assert "--size says nothing with --cells" in why("--size", "demo")
    alone = CliRunner().invoke(built(), ["bench", "--anew"])
    assert "--anew says nothing without --cells" in str(alone.exception)
