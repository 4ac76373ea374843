"""What a reader must know of a row stands beside it in every table."""

import html
import json
from pathlib import Path

import pandas as pd
import pytest

from harness import tracking
from harness.tracking import client as shared
from harness.tracking import content
from methods.marks import (
    IMPORTED,
    MEANING,
    NOTED,
    OLD_CODE,
    RANDOM_INIT,
    TEST_SELECTED,
    UNTRAINED,
    meaning,
)
from reports.numbers.frame import results_frame
from reports.numbers.stores import gather
from reports.page.render import write_report
from tests.harness.conftest import planned
from tests.reports.page.test_page import shown

SMALL = {
    "methods": [("das3d", ""), ("m3dm", "")],
    "settings": ["rgb"],
    "seeds": [0],
    "arrays": False,
}
FORMS = (
    "leaderboard.html",
    "leaderboard.md",
    "summary.md",
    "leaderboard.tex",
    "leaderboard.csv",
    "cells.csv",
    "cost.csv",
)


def in_every_form(mark, folder):
    """That of M3DM's row, and of no row of DAS3D. -> the page"""
    for form in FORMS:
        text = (folder / form).read_text(encoding="utf-8")
        assert mark in text, form
    page = (folder / "leaderboard.html").read_text(encoding="utf-8")
    assert f'M3DM <span class="mark">{mark}</span>' in page
    assert f'DAS3D <span class="mark">{mark}</span>' not in page
    return page


@pytest.mark.parametrize("mark", [*NOTED, "5-shot", "demo"])
def test_a_mark_of_a_result_stands_in_every_form(build, tmp_path, mark):
    store, launch = build(
        **SMALL, demo=False, troubles={("m3dm",): {"marks": [mark]}, (): {"marks": []}}
    )
    write_report(store, launch, tmp_path)
    assert meaning(mark) in html.unescape(in_every_form(mark, tmp_path))
    assert mark in pd.read_parquet(tmp_path / "leaderboard.parquet")["marks"].tolist()
    assert f"[{mark}]" in shown(store, launch)


def test_a_mark_that_a_launch_gives_a_cell_stands_in_every_form(build, tmp_path):
    store, launch = build(**SMALL, demo=False, troubles={(): {"marks": []}})
    for cell in launch["cells"]:
        cell |= {"marks": [OLD_CODE]} if cell["method"] == "m3dm" else {}
    write_report(store, launch, tmp_path)
    in_every_form(OLD_CODE, tmp_path)
    told = shown(store, launch)
    assert f"[{OLD_CODE}]" in told and meaning(OLD_CODE).split(":")[0] in " ".join(told.split())


def test_every_mark_of_the_contract_is_explained():
    assert set(NOTED) == {RANDOM_INIT, UNTRAINED, TEST_SELECTED, IMPORTED} <= set(MEANING)


def test_how_settings_were_chosen_marks_rows_that_another_launch_computed(build):
    store, launch = build(**SMALL)
    chosen = launch | {"id": "chosen", "marks": [TEST_SELECTED]}
    assert set(results_frame(store, chosen)["marks"]) == {f"demo;{TEST_SELECTED}"}
    one = [cell | {"marks": [TEST_SELECTED]} for cell in launch["cells"][:1]]
    marks = results_frame(store, launch | {"cells": one + launch["cells"][1:]})["marks"]
    assert marks.str.contains(TEST_SELECTED).tolist() == [True, False, False, False]
    rest = launch | {"cells": launch["cells"][1:]}
    both = gather([(store, chosen | {"cells": one}), (store, rest)])
    assert results_frame(*both)["marks"].str.contains(TEST_SELECTED).sum() == 1


def test_a_configuration_that_was_chosen_on_test_data_says_so():
    for on, marks in (("validation", []), ("test", [TEST_SELECTED])):
        plan = planned(f"selected_on={on}")
        assert plan.launch()["marks"] == marks
        # the choice is the launch's: another may compute the same cells for other reasons
        assert [plan.jobs[cell["key"]].place.marks for cell in plan.cells] == [()] * 2


def test_the_runs_in_mlflow_carry_the_marks(build, tmp_path):
    pytest.importorskip("mlflow")
    store, launch = build(**SMALL)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking.sync(store, launch, uri)
    tracking.sync(store, launch | {"marks": [TEST_SELECTED]}, uri)
    client, _ = shared.connect(store, uri)
    runs = client.search_runs([client.get_experiment_by_name(launch["name"]).experiment_id])
    children = [run for run in runs if content.PARENT in run.data.tags]
    assert {run.data.tags["marks"] for run in children} == {f"demo,{TEST_SELECTED}"}
    path = Path(client.download_artifacts(children[0].info.run_id, "result.json", str(tmp_path)))
    assert json.loads(path.read_text())["marks"] == ["demo"]  # the file says what the job knew
