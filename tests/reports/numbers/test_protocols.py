"""Both protocols in every table, what is not scored is told, and one signature ranks."""

import csv
import io
import json

import pytest

from harness.metrics import Metric, find, known_metrics, register, registry, signatures
from harness.store import COMMON, PAPER, Store
from harness.store.files import sealed, write_json
from harness.store.rescored import keep
from reports.forms.latex import leaderboard_latex
from reports.forms.text import leaderboard_markdown
from reports.numbers import comparison, evidence
from reports.numbers.evidence import Evidence
from reports.numbers.frame import read_results, results_frame, unscored_lines
from reports.numbers.leaderboard import boards_of_all, in_protocol, leaderboard_csv
from reports.numbers.stores import checked, gather
from reports.page.render import write_report
from tests.reports.fake_store import build_launch

MIXED = "not all scored the same way"


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Two methods whose views have other sizes; at the sensor m3dm finds a tenth more pixels."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
    store, launch = build_launch(
        tmp_path / "store", (("das3d", ""), ("m3dm", "")), ("rgb",), ("cookie", "dome"), (0,)
    )
    for cell in launch["cells"]:
        path = store.folder(cell["key"]) / "result.json"
        values = json.loads(path.read_text())
        more, size = (0.1, 224) if cell["method"] == "m3dm" else (0.0, 256)
        values["metrics"]["p_auroc"] = 0.7
        values["protocols"][COMMON]["metrics"]["p_auroc"] = 0.7 + more
        for name, text in values["signatures"].items():
            values["signatures"][name] = text.replace("res:48x48", f"res:{size}x{size}")
        write_json(path, sealed(values))
    return Store(store.path), launch


def boards(store, launch):
    results = read_results(store, launch)
    frames = {p: results_frame(store, launch, results, p) for p in (COMMON, PAPER)}
    return boards_of_all(frames)


def board(found, metric, protocol):
    return next(b for b in found if (b.metric, b.protocol) == (metric, protocol))


def test_tables_rank_by_the_scores_at_the_sensor(launch):
    found = boards(*launch)
    common, paper = (board(found, "p_auroc", p) for p in (COMMON, PAPER))
    assert [row.method for row in common.rows] == ["m3dm", "das3d"]
    assert common.best() == pytest.approx(0.8) and paper.best() == pytest.approx(0.7)
    assert [row.rank for row in paper.rows] == [1, 1]


def test_metrics_of_images_are_the_same_in_both(launch):
    found = boards(*launch)
    common, paper = (board(found, "i_auroc", p) for p in (COMMON, PAPER))
    assert common.rows == paper.rows


def test_every_export_has_both(launch, tmp_path):
    store, of = launch
    write_report(store, of, tmp_path / "report")
    rows = csv.DictReader(io.StringIO((tmp_path / "report" / "leaderboard.csv").read_text()))
    assert {row["protocol"] for row in rows} == {COMMON, PAPER}
    cells = csv.DictReader(io.StringIO((tmp_path / "report" / "cells.csv").read_text()))
    values = {(row["protocol"], row["method"]): row["p_auroc"] for row in cells}
    assert float(values[COMMON, "m3dm"]) == pytest.approx(0.8)
    assert float(values[PAPER, "m3dm"]) == pytest.approx(0.7)
    assert "papers' own protocol" in (tmp_path / "report" / "leaderboard.md").read_text()
    latex = (tmp_path / "report" / "leaderboard.tex").read_text()
    assert "P-AUROC, synthetic, RGB, common protocol" in latex
    assert "P-AUROC, synthetic, RGB, papers' own protocol" in latex
    assert latex.count("I-AUROC, synthetic, RGB}") == 1
    page = (tmp_path / "report" / "leaderboard.html").read_text()
    assert "P-AUROC, papers&#39; own protocol" in page


def test_only_tables_of_several_signatures_say_so(launch, tmp_path):
    page = write_report(*launch, tmp_path / "report").read_text()
    tables = [part.partition("</h4>") for part in page.split("<h4>")[1:]]
    told = {title for title, _, table in tables if MIXED in table}
    assert told and all("own protocol" in title for title in told)


def test_what_an_old_cell_lacks_is_told_with_the_command(launch, tmp_path):
    store, of = launch
    path = store.folder(of["cells"][0]["key"]) / "result.json"
    values = json.loads(path.read_text())
    del values["protocols"]
    write_json(path, sealed(values))
    store = Store(store.path)
    found = board(boards(store, of), "p_auroc", COMMON)
    lacking = found.row("das3d", "")
    assert lacking.scores["cookie"].status == "unscored" and lacking.rank is None
    assert "not scored" in lacking.scores["cookie"].note
    assert board(boards(store, of), "i_auroc", COMMON).row("das3d", "").rank is not None
    lines = unscored_lines(of, read_results(store, of))
    assert any("common protocol" in line and f"relief rescore {of['id']}" in line for line in lines)
    assert "relief rescore" in write_report(store, of, tmp_path / "report").read_text()
    text = leaderboard_markdown(of, results_frame(store, of), boards(store, of), "", lines)
    assert "relief rescore" in text and "relief rescore" not in leaderboard_latex(boards(store, of))


def test_a_metric_that_no_cell_has_is_told_and_one_computed_later_is_shown(launch):
    store, of = launch
    register(Metric("i_new", "I-new", lambda scored: 0.5, needs="scores"))
    try:
        lines = unscored_lines(of, read_results(store, of))
        assert any(line.startswith("4 of 4 finished cells lack") for line in lines)
        for record in read_results(store, of).values():
            keep(
                record, PAPER, {"metrics": {"i_new": 0.5}, "signatures": {"i_new": "i_new|v:1"}}, ""
            )
        found = boards(store, of)
        assert board(found, "i_new", COMMON).best() == board(found, "i_new", PAPER).best() == 0.5
        assert "i_new,common,mean,0.500000" in leaderboard_csv(found)
    finally:
        registry.forget("i_new")


def test_scores_at_other_pixels_have_tables_of_their_own(launch, tmp_path):
    store, of = launch
    signature = "p_auroc|curve:roc|thresholds:all|conn:none|res:sensor@32|mask:>0|v:1"
    for record in read_results(store, of).values():
        found = {"metrics": {"p_auroc": 0.625}, "signatures": {"p_auroc": signature}}
        keep(record, "common@32", found, "")
    page = write_report(store, of, tmp_path / "report")
    rows = csv.DictReader(io.StringIO((tmp_path / "report" / "leaderboard.csv").read_text()))
    shrunk = [row for row in rows if row["protocol"] == "common@32"]
    assert {row["metric"] for row in shrunk} == {"p_auroc"}
    assert {float(row["value"]) for row in shrunk} == {0.625}
    text = (tmp_path / "report" / "leaderboard.md").read_text()
    assert "RGB, common protocol at 32 px" in text and "62.5" in text
    latex = (tmp_path / "report" / "leaderboard.tex").read_text()
    assert "P-AUROC, synthetic, RGB, common protocol at 32 px" in latex
    assert "res:sensor@32" in page.read_text()  # among the signatures
    cells = (tmp_path / "report" / "cells.csv").read_text()
    assert "common@32" in cells and "0.625" in cells


def test_values_of_a_plug_in_are_shown_without_it(launch):
    store, of = launch
    rate = Metric("i_miss_rate", "I-miss", lambda s: 0.5, needs="scores", smaller_is_better=True)
    for i, record in enumerate(read_results(store, of).values()):
        found = {
            "metrics": {rate.name: 0.2 + 0.1 * i},
            "signatures": {rate.name: "i_miss_rate|v:1"},
        }
        keep(
            record, PAPER, found | {"outside": {rate.name: json.loads(json.dumps(rate.about))}}, ""
        )
    try:
        shown = board(boards(store, of), "i_miss_rate", COMMON)
        assert [row.method for row in shown.rows] == ["das3d", "m3dm"]  # the smaller first
        assert shown.rows[0].mean.value == pytest.approx(0.3)
        assert "I-miss" not in " ".join(unscored_lines(of, read_results(store, of)))
        assert find("i_miss_rate").label == "I-miss"
    finally:
        registry._STORED.clear()


def test_values_of_which_nothing_is_known_are_named(launch):
    store, of = launch
    record = next(iter(read_results(store, of).values()))
    keep(record, PAPER, {"metrics": {"i_old": 0.5}, "signatures": {"i_old": "i_old|v:1"}}, "")
    line = unscored_lines(of, read_results(store, of))[-1]
    assert "i_old" in line and "--plugin" in line


def test_a_metric_that_failed_is_told_with_its_reason_and_not_as_lacking(launch):
    store, of = launch
    register(Metric("i_new", "I-new", lambda scored: 1 / 0, needs="scores"))
    try:
        records = read_results(store, of)
        for record in records.values():
            keep(record, PAPER, {"failures": {"i_new": "ZeroDivisionError (mine.py, line 8)"}}, "")
        line = unscored_lines(of, records)[-1]
        assert line.startswith("I-new failed in 4 of 4 finished cells: ZeroDivisionError (mine.py")
        value = {"metrics": {"i_new": 0.5}, "signatures": {"i_new": "i_new|v:1"}}
        for record in records.values():
            keep(record, PAPER, value, "")
        assert "I-new" not in " ".join(unscored_lines(of, records))
    finally:
        registry.forget("i_new")


def test_cells_that_lack_anything_are_counted_once_and_the_command_names_each_launch(launch):
    store, of = launch
    lacks = ("p_ap", "p_ap", "i_f1max", "")  # of each cell
    for record, lacking in zip(read_results(store, of).values(), lacks):
        known = [metric for metric in known_metrics() if metric.name != lacking]
        found = {"metrics": {m.name: 0.5 for m in known}}
        for protocol in (COMMON, PAPER):
            keep(record, protocol, found | {"signatures": signatures(48, metrics=known)}, "")
    common, paper = unscored_lines(of, read_results(store, of))
    for line in (common, paper):
        assert line.startswith("3 of 4 finished cells lack P-AP, I-F1max in ")
    both = gather([(store, of), (store, of | {"id": "other"})])[1]
    line = unscored_lines(both, read_results(store, both))[0]
    for name in (of["id"], "other"):
        assert f"`relief rescore {name} --store {store.path}`" in line


def test_a_value_of_another_version_is_told(launch):
    store, of = launch
    record = read_results(store, of)[of["cells"][0]["key"]]
    old = {"metrics": {"p_ap": 0.4}, "signatures": {"p_ap": "p_ap|curve:f1|res:sensor|v:0"}}
    keep(record, COMMON, old, "")
    lines = unscored_lines(of, read_results(store, of))
    assert any("another version of P-AP" in line for line in lines)


def test_published_numbers_stand_beside_the_papers_own_protocol_alone(launch):
    store, of = launch
    cell = next(cell for cell in of["cells"] if cell["method"] == "m3dm")
    of = of | {"cells": [cell | {"dataset": "mvtec3d", "category": "bagel"}]}
    frames = {p: results_frame(store, of, protocol=p) for p in (COMMON, PAPER)}
    known = Evidence(data={cell["key"]: "mvtec3d"})
    found = boards_of_all(frames, dict.fromkeys(frames, known))
    assert board(found, "p_auroc", PAPER).rows[0].quotes
    assert not board(found, "p_auroc", COMMON).rows[0].quotes
    assert board(found, "i_auroc", COMMON).rows[0].quotes
    assert in_protocol(found, PAPER)


def test_verdicts_that_rest_on_inferred_settings_are_marked_in_every_form(
    launch, tmp_path, monkeypatch
):
    store, of = launch
    monkeypatch.setattr(evidence, "published_data", lambda *given: "mvtec3d")
    of_das3d = tuple(rule for rule in comparison._rules() if "das3d" in rule["method_key"])
    monkeypatch.setattr(comparison, "_rules", lambda: of_das3d)
    cells = [c for c in of["cells"] if c["category"] == "cookie"]  # of DAS3D and of M3DM
    of = of | {"cells": [c | {"dataset": "mvtec3d", "category": "bagel"} for c in cells]}
    page = write_report(store, of, tmp_path / "report").read_text()
    rows = csv.DictReader(io.StringIO((tmp_path / "report" / "leaderboard.csv").read_text()))
    inferred = {row["method"]: row["inferred"] for row in rows if row["verdict"]}
    assert "prints no optimiser" in inferred["das3d"] and inferred["m3dm"] == ""
    text = (tmp_path / "report" / "leaderboard.md").read_text().splitlines()
    marked = [line for line in text if "°)" in line]
    assert marked and all("DAS3D" in line for line in marked)
    assert any("M3DM" in line and " ·)" in line for line in text)
    assert any("° a part of the paper's protocol" in line for line in text)
    latex = (tmp_path / "report" / "leaderboard.tex").read_text()
    assert r"$^{\circ}$" in latex and "ours is inferred" in latex
    assert "Inferred: DAS3D prints no optimiser" in page and "ours is inferred" in page


def test_influences_on_metrics_of_images_are_computed_once_for_both_protocols(launch, monkeypatch):
    store, of = launch
    asked, own = [], evidence.of_scores
    monkeypatch.setattr(evidence, "of_scores", lambda table: asked.append(1) or own(table))
    one = checked(store)
    frames = {protocol: results_frame(one, of, None, protocol) for protocol in (COMMON, PAPER)}
    found = [evidence.read_evidence(one, frame) for frame in frames.values()]
    assert len(asked) == len(of["cells"]) == 4
    for key in found[0].influences:
        common, paper = (each.influences[key] for each in found)
        assert {"i_auroc", "i_ap", "i_f1max"} <= common.keys() & paper.keys()
        assert "p_auroc" in common
