"""relief report and compare: which stores and launches, and what scripts read of them."""

import csv
import json

import pytest
from typer.testing import CliRunner

from harness.cli import reports, terminal
from harness.cli.app import built
from harness.store import write_text
from tests.harness.cli.test_cli import relief
from tests.reports.fake_store import build_launch


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    methods = (("das3d", ""), ("m3dm", ""))
    made = build_launch(tmp_path / "store", methods, ("rgb",), ("cookie",), (0, 1), arrays=False)
    return made[0].path


def test_a_launch_in_the_place_of_a_store_is_told_the_right_form(store):
    done = CliRunner().invoke(built(), ["report", str(store), "fake-00000000"])
    assert f"relief report {store} --launch fake-00000000" in str(done.exception)
    done = CliRunner().invoke(built(), ["report", "fake-00000000"])
    assert "`relief report --launch fake-00000000`" in str(done.exception)


def test_a_launch_in_the_place_of_a_store_to_compare_is_told_the_right_form(store):
    done = CliRunner().invoke(built(), ["compare", str(store), "fake-00000000"])
    assert "fake-00000000 is no folder: compare takes two stores" in str(done.exception)


def asked(*arguments):
    done = CliRunner().invoke(built(), [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_report_is_written_anew_where_its_results_changed_or_other_images_are_asked_for(
    store, capsys, monkeypatch
):
    asked_for = []

    def write(found, launch, folder, images=None):
        asked_for.append(images)
        write_text(folder / "leaderboard.html", f"{len(asked_for)}")
        terminal.console.print("told")
        return ["told"]

    monkeypatch.setattr(reports, "write", write)
    touched = next(store.glob("jobs/*/result.json"))
    for options, change, wanted in [
        ((), None, [None]),
        ((), None, []),  # printed as it was
        (("--images", "worst"), None, [["worst"]]),
        ((), None, [None]),  # the page has other images
        ((), touched.touch, [None]),
        ((), None, []),
    ]:
        if change:
            change()
        asked_for.clear()
        code, out, err = relief(capsys, monkeypatch, "report", "--store", store, *options)
        assert code == 0 and out == "told\n" and asked_for == wanted, err


def test_a_report_for_scripts_has_what_the_table_has(store, tmp_path):
    found = asked("report", store, "--out", tmp_path / "out")
    assert found["launch"] == "fake-00000000" and found["cells"] == {"done": 4}
    assert found["page"] == str(tmp_path / "out" / "leaderboard.html")
    rows = list(csv.DictReader((tmp_path / "out" / "leaderboard.csv").open()))
    assert len(rows) == len(found["leaderboard"])
    for row, wanted in zip(found["leaderboard"], rows):
        assert list(row) == list(wanted) and row["metric"] == wanted["metric"]
        assert row["value"] == pytest.approx(float(wanted["value"]), abs=1e-6)
    assert any("relief rescore fake-00000000" in line for line in found["told"])


def test_a_comparison_for_scripts_has_what_the_table_has(store, tmp_path):
    to = tmp_path / "changes.csv"
    given = ("--a", "method=das3d", "--b", "method=m3dm", "--csv", to)
    found = asked("compare", store, store, *given)
    assert found["protocol"] == "common" and found["pairs"] == 2 and found["lost"] == []
    rows = list(csv.DictReader(to.open()))
    assert [change["metric"] for change in found["changes"]] == [row["metric"] for row in rows]
    change = found["changes"][0]
    assert change["difference"] == change["b"] - change["a"] and list(change) == list(rows[0])


def test_a_comparison_has_whole_words_in_a_narrow_terminal(store):
    given = ["compare", str(store), str(store), "--a", "method=das3d", "--b", "method=m3dm"]
    done = CliRunner().invoke(built(), given, env={"COLUMNS": "80"})
    assert "AUPRO@0.3" in done.output and "95 % interval" in done.output and "…" not in done.output
