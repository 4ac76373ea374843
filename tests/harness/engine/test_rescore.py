"""Finished cells are scored again from what they stored, and nothing is trained for it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from harness import metrics
from harness.cli.app import built
from harness.engine import rescore as engine
from harness.engine.executors import InProcess
from harness.metrics import Metric, known_metrics, registry
from harness.metrics.outside import join
from harness.store import COMMON, DONE, FAILED, PAPER, SKIPPED, Store, influences
from harness.store.examine import examine
from harness.store.files import checksum, sealed, write_json
from harness.store.rescored import path_of, scores_of
from methods import plugins
from methods.errors import UserError
from reports.numbers.frame import unscored_lines
from tests.harness.conftest import planned
from tests.harness.engine.test_job import cells


@pytest.fixture
def store(tiny_store, tmp_path):
    """A copy of the store with two finished cells of the tiny plan, to be changed."""
    shutil.copytree(tiny_store.path, tmp_path / "store", dirs_exist_ok=True)
    return Store(tmp_path / "store")


def launch():
    return planned().launch()


def before_the_common_protocol(store):
    """The cells as a version wrote them that knew of no other protocol."""
    for record in cells(store, planned()):
        path = record.folder / "result.json"
        values = json.loads(path.read_text())
        shutil.rmtree(store.folder(values.pop("truth")), ignore_errors=True)
        del values["protocols"]
        write_json(path, sealed(values))
    return Store(store.path)


def again(store, names=None, protocols=(COMMON, PAPER), anew=False):
    wanted = [metrics.get(name) for name in names] if names else known_metrics()
    records = [record for record in cells(store, planned()) if record.done]
    jobs = engine.jobs_for(store, launch(), records, wanted, protocols, anew)
    engine.lay_truths(store, launch(), jobs, None)
    return engine.rescore(store, jobs, InProcess(engine.rescore_cell))


def test_an_old_cell_gains_the_common_protocol_and_its_record_stays(store, tiny_store):
    store = before_the_common_protocol(store)
    records = cells(store, planned())
    whole = [(record.folder / "result.json").read_bytes() for record in records]
    assert [one.status for one in again(store)] == [DONE] * len(records)
    for record, before, text in zip(records, cells(tiny_store, planned()), whole):
        found = scores_of(record, COMMON)
        assert found.metrics == pytest.approx(before.protocols[COMMON]["metrics"], nan_ok=True)
        assert found.signatures == before.protocols[COMMON]["signatures"]
        assert (record.folder / "result.json").read_bytes() == text
    assert again(store) == []  # nothing is lacking any more


def without_influences(store):
    """The cells as a version wrote them that kept no influences of images."""
    for record in cells(store, planned()):
        values = json.loads((record.folder / "result.json").read_text())
        del values["files"][influences.FILE]
        (record.folder / influences.FILE).unlink()
        write_json(record.folder / "result.json", sealed(values))
    return Store(store.path)


def test_an_old_cell_gains_what_intervals_are_made_of(store):
    had = {
        (record.key, p): influences.influences_of(record, p)
        for record in cells(store, planned())
        for p in (COMMON, PAPER)
    }
    store = without_influences(store)
    records = {record.key: record for record in cells(store, planned())}
    (line,) = unscored_lines(launch(), records)
    assert "2 of 2 finished cells lack what intervals" in line and "`relief rescore" in line
    assert {one.status for one in again(store)} == {DONE}
    assert unscored_lines(launch(), records) == [] == again(store)
    for (key, protocol), before in had.items():
        found = influences.influences_of(records[key], protocol)
        assert found.keys() == before.keys() and len(found) == 17
        for name, values in before.items():
            assert np.array_equal(found[name], values, equal_nan=True), name


def test_influences_that_cannot_be_read_are_told_and_computed_again(store, caplog):
    store = without_influences(store)
    again(store)
    record = cells(store, planned())[0]
    influences.path_of(record).write_bytes(b"PK torn")
    assert influences.influences_of(record, COMMON) == {} and "relief rescore" in caplog.text
    assert influences.path_of(record) in [finding.path for finding in examine(store)]
    assert [one.key for one in again(store)] == [record.key]
    assert influences.influences_of(record, COMMON)


def test_influences_count_only_beside_values_of_their_signature(store, monkeypatch):
    raised = dataclasses.replace(metrics.get("p_ap"), version=2)
    monkeypatch.setitem(registry._METRICS, "p_ap", raised)
    record = cells(store, planned())[0]
    before = influences.influences_of(record, PAPER)["p_ap"]
    again(store)
    found = influences.influences_of(record, PAPER)
    assert np.array_equal(found["p_ap"], before, equal_nan=True)
    influences.path_of(record).unlink()
    assert "p_ap" not in influences.influences_of(record, PAPER)  # the cell's own are of version 1


def test_everything_comes_out_as_the_cells_had_it(store):
    again(store, anew=True)
    for record in cells(store, planned()):
        assert scores_of(record, PAPER).metrics == pytest.approx(record.metrics, nan_ok=True)
        assert scores_of(record, PAPER).signatures == record.signatures


def test_any_limit_and_any_resolution_can_be_had(store):
    again(store, ["aupro_0.15", "p_auroc"], [PAPER, COMMON, "common@32"])
    for record in cells(store, planned()):
        assert "|thresholds:100|" in scores_of(record, PAPER).signatures["aupro_0.15"]
        assert "|res:sensor@32|" in scores_of(record, "common@32").signatures["p_auroc"]
        assert "|res:sensor|" in scores_of(record, COMMON).signatures["aupro_0.15"]
        assert scores_of(record, COMMON).metrics["aupro_0.15"] is not None


def test_a_new_metric_is_computed_for_finished_cells(store):
    metrics.register(Metric("i_spread", "spread", lambda s: float(np.ptp(s.scores)), "scores"))
    try:
        assert {one.status for one in again(store)} == {DONE}
        for record in cells(store, planned()):
            scores = record.scores()["score"].to_numpy()
            for protocol in (COMMON, PAPER):  # image scores are the same in both
                found = scores_of(record, protocol)
                assert found.metrics["i_spread"] == np.ptp(scores)
                assert found.signatures["i_spread"] == "i_spread|v:1"
    finally:
        registry.forget("i_spread")


def test_a_formula_that_raises_is_a_failure_with_its_place_and_spares_the_others(store, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from harness.metrics import Metric\n\n\ndef wrong(scored):\n    return 1 / 0\n\n\n"
        'BAD = Metric("i_bad", "bad", wrong, needs="scores")\n'
    )
    plugins.use([str(tmp_path / "bad.py")])
    join()
    try:
        ended = again(store, ["i_bad", "aupro_0.15"], [PAPER])
        assert {one.status for one in ended} == {FAILED}
        assert f"i_bad: ZeroDivisionError: division by zero ({tmp_path}/bad.py, line 5)" == (
            ended[0].reason
        )
        for record in cells(store, planned()):
            found = scores_of(record, PAPER)
            assert "aupro_0.15" in found.metrics and "i_bad" not in found.metrics
            assert "bad.py, line 5" in found.failures["i_bad"]
        (tmp_path / "bad.py").write_text(
            (tmp_path / "bad.py").read_text().replace("1 / 0", "1 / 4")
        )
        join()
        assert {one.status for one in again(store, ["i_bad"], [PAPER])} == {DONE}
        found = scores_of(cells(store, planned())[0], PAPER)
        assert found.metrics["i_bad"] == 0.25 and not found.failures
        assert found.outside["i_bad"]["label"] == "bad"
    finally:
        plugins.use([])
        join()


def test_the_command_takes_the_plug_ins_of_the_launch(store, tmp_path, monkeypatch):
    """So that what a report offers computes what was mended, without --plugin."""
    file = tmp_path / "third.py"
    file.write_text(
        'from harness.metrics import Metric\n\nTHIRD = Metric("i_third", "third", '
        'lambda scored: 1 / 3, needs="scores")\n'
    )
    monkeypatch.setattr(plugins, "_given", ())
    known = planned(f"plugins=[{file}]")
    known.record(store)
    plugins.use([])
    join()
    try:
        done = CliRunner().invoke(
            built(), ["rescore", known.launch_id, "--serial", "--store", str(store.path)]
        )
        assert done.exit_code == 0, done.output
        assert scores_of(cells(store, known)[0], PAPER).metrics["i_third"] == 1 / 3
    finally:
        plugins.use([])
        join()


def test_more_pixels_than_the_sensor_has_are_refused(store):
    ended = again(store, ["p_auroc"], ["common@100000"])
    assert {one.status for one in ended} == {SKIPPED}
    assert "its images have 64 px on the longer side, and common@100000 only" in ended[0].reason


def test_a_raised_version_is_computed_again_and_nothing_else(store, monkeypatch):
    raised = dataclasses.replace(metrics.get("p_ap"), version=2, formula=lambda scored: 0.25)
    monkeypatch.setitem(registry._METRICS, "p_ap", raised)
    keys = list(planned().jobs)
    record = cells(store, planned())[0]
    assert [m.name for m in engine.lacking(record, PAPER, known_metrics())] == ["p_ap"]
    again(store)
    for record in cells(store, planned()):
        found = scores_of(record, COMMON)
        assert found.metrics["p_ap"] == 0.25 and found.signatures["p_ap"].endswith("|v:2")
        assert found.metrics["p_auroc"] == record.protocols[COMMON]["metrics"]["p_auroc"]
    assert keys == list(planned().jobs)


def test_a_cell_without_all_its_maps_says_so_and_spares_the_others(store):
    store = before_the_common_protocol(store)
    first, second = cells(store, planned())
    values = json.loads((first.folder / "result.json").read_text())
    ids, some = first.maps().ids[:2], np.array(first.maps().values[:2])
    np.save(first.folder / "maps.npy", some)
    write_json(first.folder / "maps.json", {"ids": list(ids)})
    for name in ("maps.npy", "maps.json"):
        path = first.folder / name
        values["files"][name] = [path.stat().st_size, checksum(path)]
    write_json(first.folder / "result.json", sealed(values))
    store = Store(store.path)
    ended = {one.key: one for one in again(store, protocols=[COMMON])}
    assert ended[first.key].status == SKIPPED
    assert "2 of its" in ended[first.key].reason and "keep_maps" in ended[first.key].reason
    assert ended[second.key].status == DONE
    # AUPRO of the papers' form needs the curve alone, in the papers' protocol
    assert [one.status for one in again(store, ["aupro_0.15"], [PAPER])] == [DONE, DONE]


def test_what_was_scored_from_other_files_does_not_count(store):
    again(store, ["aupro_0.15"], [PAPER])
    record = cells(store, planned())[0]
    assert "aupro_0.15" in scores_of(record, PAPER).metrics
    values = json.loads((record.folder / "result.json").read_text())
    values["files"]["maps.npy"][1] = "0" * 16
    write_json(record.folder / "result.json", sealed(values))
    changed = Store(store.path).finished(record.key)
    assert "aupro_0.15" not in scores_of(changed, PAPER).metrics


def test_a_damaged_file_is_told_and_computed_again(store, caplog):
    again(store, ["aupro_0.15"], [PAPER])
    record = cells(store, planned())[0]
    path_of(record).write_text('{"protocols": {}', encoding="utf-8")
    assert "aupro_0.15" not in scores_of(record, PAPER).metrics
    assert "relief rescore" in caplog.text
    assert [one.key for one in again(store, ["aupro_0.15"], [PAPER])] == [record.key]
    assert "aupro_0.15" in scores_of(record, PAPER).metrics


def test_without_ground_truth_and_data_the_command_says_what_is_missing(store):
    store = before_the_common_protocol(store)
    records = cells(store, planned())
    lost = launch() | {"config": {}}
    with pytest.raises(UserError, match="ground truth .* not in the store and cannot be read"):
        engine.jobs_for(store, lost, records, known_metrics(), [COMMON])
