"""Cells computed again, compared bit by bit with what is in the store."""

import json
import shutil

import pytest
import torch
import typer

import methods
from harness.cli import verify as command
from harness.engine.verify import sample, verify
from harness.store import Store
from harness.store.verified import badge, checks
from methods.contract import Prediction
from reports.page.render import write_report
from tests.harness.conftest import planned


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def store(tiny_store, tmp_path):
    return Store(shutil.copytree(tiny_store.path, tmp_path / "store"))


@pytest.fixture
def keys():
    """The trained cell's and the untrained one's."""
    return [cell["key"] for cell in planned().cells]


def files(store):
    return {
        p.relative_to(store.path): (p.stat().st_mtime_ns, p.stat().st_size)
        for p in (store.path / "jobs").rglob("*")
        if p.is_file()
    }


def test_cells_computed_again_are_identical_and_the_report_says_so(store, keys, tmp_path):
    before, launch = files(store), store.launch()
    plain = write_report(store, launch, tmp_path / "before").parent
    found = verify(store, launch, keys)
    assert [one.check.identical for one in found] == [True, True]
    assert not any(one.wrong for one in found)
    assert files(store) == before and not (store.path / "verify").exists()
    check = found[0].check
    assert (check.maps, check.pixels, check.metrics) == (0, 0, 0) and check.alike
    kept = json.loads((store.path / "verified" / f"{keys[0]}.json").read_text())
    assert kept[0]["machine"]["threads"] == 1 and kept[0]["host"] and kept[0]["when"]
    line = f"when computed again: 2 of 2 sampled cells (1 thread, {check.machine.processor})"
    page = write_report(store, launch, tmp_path / "after")
    assert line in page.read_text()
    told = (page.parent / "leaderboard.md").read_text()
    assert line in told and "computed again" not in (plain / "leaderboard.md").read_text()
    csv = "leaderboard.csv"
    assert (page.parent / csv).read_bytes() == (plain / csv).read_bytes()


def test_views_can_be_computed_again_too(store, keys):
    found = verify(store, store.launch(), keys[1:], deep=True)
    assert [(one.kind, one.identical) for one in found] == [("view", True), ("cell", None)]
    assert found[-1].check.identical


def test_other_bits_on_the_same_kind_of_machine_are_an_error(store, keys, monkeypatch, capsys):
    predict = methods.get("das3d").predict

    def other(self, batch):
        found = predict(self, batch)
        return Prediction(found.maps + 1e-3, found.scores)

    monkeypatch.setattr(methods.get("das3d"), "predict", other)
    with pytest.raises(typer.Exit) as ended:
        command.verify(sample=1, store=store.path)
    assert ended.value.exit_code == 1
    told = capsys.readouterr()
    assert "differs das3d" in told.out and "1 differ on the same kind" in told.err
    (check,) = [c for key in keys for c in checks(store.result(key))]
    assert not check.identical and check.maps > 0 and check.pixels == 1
    assert "0 of 1 sampled cells" in badge([store.result(check.key)])


def test_another_number_of_threads_is_told_apart_and_no_error(store, keys):
    (found,) = verify(store, store.launch(), keys[1:], cpus=2)
    assert found.check.machine.threads == 2 and found.check.before.threads == 1
    assert not found.check.alike and not found.wrong
    verify(store, store.launch(), keys[1:])
    assert sorted(c.machine.threads for c in checks(store.result(keys[1]))) == [1, 2]


def test_a_check_counts_only_for_the_files_that_it_compared_with(store, keys):
    verify(store, store.launch(), keys[1:])
    path = store.folder(keys[1]) / "result.json"
    values = json.loads(path.read_text())
    values["files"]["maps.npy"][1] = "0" * 16
    path.write_text(json.dumps(values))
    assert checks(store.result(keys[1])) == [] and badge([store.result(keys[1])]) == ""


def test_a_damaged_check_is_none(store, keys):
    (store.path / "verified").mkdir()
    for text in ("", "[{}]", "null", '[{"key": 1, "machine": 3}]'):
        (store.path / "verified" / f"{keys[0]}.json").write_text(text)
        assert checks(store.result(keys[0])) == []


def test_damaged_files_are_named_and_nothing_is_computed(store, keys, monkeypatch):
    monkeypatch.setattr("harness.engine.verify.run_job", None)
    view = store.result(keys[0]).spec.needs.view
    path = store.folder(view) / "train" / "depth.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (found,) = verify(store, store.launch(), keys[:1])
    assert found.check is None and "depth.npy has other bytes" in found.reason


def test_a_sample_is_drawn_by_seed_and_keeps_the_order():
    keys = [f"{i:02}" for i in range(20)]
    drawn = [sample(keys, 6, seed) for seed in range(5)]
    assert all(one == sorted(one) and len(set(one)) == 6 for one in drawn)
    assert drawn[0] == sample(keys, 6, 0) and len({tuple(one) for one in drawn}) > 1
    assert sample(keys, None) == sample(keys, 99) == keys


def test_a_launch_without_a_finished_cell_says_so(store, keys):
    for key in keys:
        shutil.rmtree(store.folder(key))
    with pytest.raises(ValueError, match="no cell of .* is done"):
        command.verify(store=store.path)
