import io
import re

import pandas as pd
import pytest
from rich.console import Console

from harness.store import Record, Store
from reports.forms.latex import leaderboard_latex
from reports.forms.text import leaderboard_markdown, leaderboard_text
from reports.forms.words import interval_text, unbounded_text
from reports.numbers.evidence import read_evidence, signatures_of
from reports.numbers.frame import results_frame
from reports.numbers.leaderboard import leaderboards
from reports.numbers.stores import Stores, gather
from reports.page.render import write_report
from tests.reports.fake_store import build_launch

ONE = {"methods": [("das3d", ""), ("m3dm", "")], "settings": ["rgb"], "arrays": False}
NASTY = r"50% a_b & {c} #1 \x ~^ $y$"


def boards_of(store, launch):
    frame = results_frame(store, launch)
    return leaderboards(frame, read_evidence(store, frame))


def test_latex_tables_are_balanced_and_no_text_of_data_is_a_command(build):
    text = leaderboard_latex(boards_of(*build(**ONE | {"categories": ["cookie", NASTY]})))
    assert text.count(r"\begin{tabular}{lrrrr}") == text.count(r"\end{tabular}") == 3
    assert (
        r"50\% a\_b \& \{c\} \#1 \textbackslash{}x \textasciitilde{}\textasciicircum{} \$y" in text
    )
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert rows and all(len(re.findall(r"(?<!\\)&", row)) == 4 for row in rows)
    assert text.count(r"\textbf") >= 9 and text.count(r"\toprule") == text.count(r"\bottomrule")


def test_every_form_has_the_interval_of_every_headline_value_and_how_it_was_scored(build):
    store, launch = build(methods=[("das3d", ""), ("m3dm", "")], settings=["rgb"])
    frame = results_frame(store, launch)
    boards = leaderboards(frame, read_evidence(store, frame))
    main = [b for b in boards if b.metric in ("i_auroc", "aupro_0.3", "p_auroc")]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(leaderboard_text(store, launch))
    terminal = console.export_text()
    markdown, latex = leaderboard_markdown(launch, frame, boards), leaderboard_latex(boards)
    assert len(main) == 3
    for board in main:
        for row in board.rows:
            assert interval_text(board.metric, row.interval) in terminal
            for category in ("cookie", "dome", None):
                text = interval_text(board.metric, row.bounds(category))
                assert "–" in text and text in markdown and text.replace("–", "--") in latex
        (signature,) = board.signatures
        assert signature in markdown and f"% signature: {signature}" in latex
        assert board.metric in signature


def test_a_row_whose_scores_are_all_alike_has_no_interval_and_every_form_says_why(build, tmp_path):
    rows = ONE | {"methods": [("das3d", "untrained"), ("m3dm", "")]}
    assert unbounded_text(boards_of(*build(**rows))) == ""
    flat = {("das3d", "untrained", None, None, None): {"score": 0.0}}
    store, launch = build_launch(tmp_path / "flat", **rows, troubles=flat)
    why = "DAS3D (untrained): scores or maps are the same everywhere"
    assert unbounded_text(boards_of(store, launch)).startswith(why)
    write_report(store, launch, tmp_path / "report")
    assert why in (tmp_path / "report/leaderboard.html").read_text(encoding="utf-8")
    assert why in (tmp_path / "report/leaderboard.md").read_text(encoding="utf-8")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(leaderboard_text(store, launch))
    assert f"No interval: {why}" in console.export_text()


def test_rows_of_image_metrics_are_scored_alike_whatever_their_maps_size(build):
    store, _ = build(methods=[("das3d", ""), ("m3dm", "")], settings=["rgb"])
    old = {"i_auroc": "i_auroc|curve:roc|thresholds:all|conn:none|res:224x224|mask:>0|v:1"}
    known = {record.key: signatures_of(record, "paper") for record in store.results()}
    first = next(store.results(iter(known)))
    values = dict(first.values) | {"signatures": first.signatures | old}
    texts = {
        signatures_of(Record(values, first.folder), "paper")["i_auroc"],
        known[first.key]["i_auroc"],
    }
    assert len(texts) == 1 and "res:" not in texts.pop()


def test_parquet_holds_what_the_csv_holds(build, tmp_path):
    store, launch = build(**ONE, troubles={("m3dm", "", "rgb", "dome", 1): "failed"})
    write_report(store, launch, tmp_path / "report")
    for name in ("cells", "leaderboard"):
        table = pd.read_parquet(tmp_path / "report" / f"{name}.parquet")
        text = pd.read_csv(tmp_path / "report" / f"{name}.csv", keep_default_na=False, dtype=str)
        assert list(table.columns) == list(text.columns) and len(table) == len(text)
    assert table.loc[table["category"] == "mean", "value"].max() <= 1


def test_stores_with_different_cells_make_one_report(build, tmp_path):
    one, launch = build(**ONE | {"seeds": [0]})
    other, more = build_launch(tmp_path / "other", **ONE | {"seeds": [1]})
    both, merged = gather([(one, launch), (other, more)])
    frame = results_frame(both, merged)
    assert len(frame) == 8 and (frame["status"] == "done").all() and set(frame["seed"]) == {0, 1}
    assert all(row.mean.seeds == 2 for row in boards_of(both, merged)[0].rows)
    assert write_report(both, merged, tmp_path / "report").exists()


def test_a_cell_that_failed_in_one_store_and_is_done_in_another_is_done(build, tmp_path):
    failing = {("m3dm", "", "rgb", None, None): "failed"}
    one, launch = build(**ONE, troubles=failing)
    other, same = build_launch(tmp_path / "other", **ONE)
    both, merged = gather([(one, launch), (other, same)])
    assert len(merged["cells"]) == len(launch["cells"])
    assert (results_frame(both, merged)["status"] == "done").all()


def test_other_work_under_the_same_names_is_told_apart_by_its_store(build, tmp_path):
    one, launch = build(**ONE)
    other, more = build_launch(tmp_path / "other", **ONE)
    for cell in more["cells"]:
        old, cell["key"] = other.folder(cell["key"]), cell["key"][::-1]
        old.rename(other.folder(cell["key"]))
    both, merged = gather([(one, launch), (other, more)])
    assert isinstance(both, Stores)
    assert set(results_frame(both, merged)["variant"]) == {"store", "other"}


def test_a_launch_that_is_not_there_says_which_are(build, tmp_path):
    store, launch = build(**ONE)
    assert store.launch()["id"] == store.launch("fake-00000000")["id"] == launch["id"]
    with pytest.raises(ValueError, match="there are fake-00000000"):
        store.launch("nope")
    with pytest.raises(FileNotFoundError, match="relief run"):
        Store(tmp_path / "none").launch()


def test_the_reports_csv_reads_back_as_numbers(build, tmp_path):
    store, launch = build(**ONE)
    write_report(store, launch, tmp_path / "report")
    table = pd.read_csv(io.StringIO((tmp_path / "report" / "leaderboard.csv").read_text()))
    means = table[(table["category"] == "mean") & (table["metric"] == "i_auroc")]
    assert (means["low"] < means["value"]).all() and (means["value"] < means["high"]).all()
    assert set(means["group"]) <= {1, 2}
