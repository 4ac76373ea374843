import io
import re

import pandas as pd
import pytest

from harness.store import Store
from reports.forms.latex import leaderboard_latex
from reports.numbers.evidence import read_evidence
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
