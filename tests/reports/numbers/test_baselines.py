import io

import pandas as pd
import pytest
from rich.console import Console

from reports.forms.latex import leaderboard_latex
from reports.forms.text import leaderboard_text
from reports.forms.words import below_sign, below_text
from reports.numbers.baselines import Below, below_baseline
from reports.numbers.evidence import NONE, read_evidence
from reports.numbers.frame import results_frame
from reports.numbers.leaderboard import leaderboards
from reports.page.render import write_report

METHODS = [("das3d", ""), ("das3d", "untrained"), ("baseline", ""), ("baseline", "plane")]
FEW = {"methods": METHODS, "settings": ["3d"], "categories": ["cookie", "dome", "foam"]}


def boards_of(store, launch, scored=True):
    frame = results_frame(store, launch)
    found = leaderboards(frame, read_evidence(store, frame) if scored else NONE)
    return {board.metric: board for board in found}


def below(board):
    return {(row.method, row.variant): row.below for row in board.rows}


def test_a_row_is_held_against_the_best_baseline_by_the_test_of_the_groups(build):
    board = boards_of(*build(**FEW, arrays=False))["i_auroc"]
    found = below(board)
    # the untrained network and the plane draw from nearly the same scores as good images
    assert found.pop(("das3d", "untrained")) == Below("", apart=True)
    assert set(found.values()) == {None}  # what is ahead, and baselines themselves
    rows = {(row.method, row.variant): row for row in board.rows}
    assert rows["das3d", "untrained"].group > rows["baseline", ""].group


def test_what_no_test_could_tell_apart_is_said_to_be_behind_by_its_mean_alone(build):
    values = {("das3d", "", None, None, None): {"metrics": {"i_auroc": 0.01, "p_auroc": 0.01}}}
    boards = boards_of(*build(**FEW, arrays=False, troubles=values))
    assert below(boards["p_auroc"])["das3d", ""] == Below("", apart=False)
    text = below_text(boards["p_auroc"])
    said = "\u2021 Baseline has a better mean {}; nothing here can test the difference."
    assert text == said.format("P-AUROC")
    without = boards_of(*build(**FEW | {"categories": ["cookie"]}, arrays=False), scored=False)
    assert below_text(without["i_auroc"]) == said.format("I-AUROC")


def test_without_a_baseline_nothing_is_said(build):
    boards = boards_of(*build(**FEW | {"methods": METHODS[:2]}, arrays=False))
    for board in boards.values():
        assert set(below(board).values()) == {None} and below_text(board) == ""
        assert {below_sign(row) for row in board.rows} == {""}


def test_a_baseline_that_lacks_a_cell_beats_nobody(build):
    missing = {("baseline", None, None, "dome", None): "failed"}
    board = boards_of(*build(**FEW, arrays=False, troubles=missing))["i_auroc"]
    assert set(below(board).values()) == {None}


@pytest.mark.parametrize(
    "ranks, better, wanted",
    [
        ([1, 2, 3], set(), [None, None, Below("plane", False)]),
        ([1, 2, 3], {(1, 2)}, [None, None, Below("plane", True)]),
        ([1, 1, 1], set(), [None, None, None]),  # level is not behind
    ],
)
def test_only_what_ranks_lower_is_behind(ranks, better, wanted):
    rows = [("das3d", ""), ("baseline", "plane"), ("m3dm", "")]
    assert below_baseline(rows, ranks, better) == wanted


def test_every_form_of_the_table_says_which_rows_a_baseline_beats(build, tmp_path):
    store, launch = build(**FEW)
    write_report(store, launch, tmp_path)
    signed, note = (
        "DAS3D (untrained) \u2020",
        "\u2020 Baseline has a better mean I-AUROC, and the paired",
    )
    markdown = (tmp_path / "leaderboard.md").read_text()
    assert f"| {signed} |" in markdown and note in markdown
    page = (tmp_path / "leaderboard.html").read_text()
    assert page.count(note) > 1 and '">\u2020</span></span></th>' in page
    latex = leaderboard_latex(list(boards_of(store, launch).values()))
    assert r"DAS3D (untrained)\,[demo]\,\textdagger{}" in latex
    assert r"\textdagger{} Baseline has a better mean" in latex and "\u2020" not in latex
    table = pd.read_csv(tmp_path / "leaderboard.csv", keep_default_na=False)
    said = table[(table["metric"] == "i_auroc") & (table["category"] == "mean")]
    assert dict(zip(said["variant"] + "|" + said["method"], said["below"])) == {
        "|das3d": "",
        "untrained|das3d": "baseline",
        "|baseline": "",
        "plane|baseline": "",
    }


def test_the_terminal_says_who_is_behind_and_claims_no_test(build):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(leaderboard_text(*build(**FEW, arrays=False)))
    text = console.export_text()
    assert "DAS3D (untrained) \u2021" in text and "\u2020" not in text
    assert "has a better mean; the page says whether beyond chance" in text
