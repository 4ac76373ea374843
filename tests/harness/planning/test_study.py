"""Published tables as plans, and their values beside ours."""

from pathlib import Path

import pandas as pd
import pytest

from harness.engine.driver import Driver
from harness.engine.executors import InProcess
from harness.planning import study
from harness.planning.config import ConfigError, shipped
from harness.store import DONE, Store
from reports.numbers.published import known_categories, published_cells
from reports.page.studies import coverage, ours_only, study_lines, write_study
from tests.reports.fake_store import build_launch

TINY = str(Path(__file__).parents[1] / "tiny.yaml")


def computed():
    found, unmet = {}, {}
    for one in map(study.read, shipped("studies")):
        found.setdefault((one.paper, one.table), set()).update(one.printed_names())
        unmet.setdefault((one.paper, one.table), []).extend(one.unmet)
    return found, unmet


def test_every_published_value_of_the_five_methods_has_a_study():
    values = coverage(*computed())
    assert len(values) > 1600
    assert values.loc[values["reason"] != "", ["paper", "table", "method", "reason"]].empty


def test_a_missing_study_row_or_reason_is_named():
    found, unmet = computed()
    table = ("das3d", "Table 6")
    gone = coverage({k: v for k, v in found.items() if k != table}, unmet)
    assert set(gone.loc[gone["reason"] != "", "table"]) == {"Table 6"}
    assert set(gone.loc[gone["reason"] != "", "reason"]) == {"no study of this table"}
    fewer = found | {table: {name for name in found[table] if name[1] != "skew_only"}}
    missing = coverage(fewer, unmet)
    assert set(missing.loc[missing["reason"] != "", "variant"]) == {"skew_only"}
    told = coverage(fewer, {table: [study.Unmet("not wanted", "skew_only")]})
    assert set(told.loc[told["reason"] != "", "reason"]) == {"not wanted"}


def test_studies_name_only_rows_that_their_table_prints():
    for name in shipped("studies"):
        one = study.read(name)
        cells = ours_only(published_cells(one.paper, one.table))
        printed = set(
            cells[["method_key", "variant", "setting"]].itertuples(index=False, name=None)
        )
        assert one.printed_names() <= printed, name
        assert set(cells["dataset"]) == {one.dataset}, name


def test_a_study_runs_and_sets_published_values_beside_ours(tmp_path):
    overrides = ["datasets.synthetic.categories=[cookie]", "das3d.train.steps=1"]
    plan, store = study.plan("das3d/table6", overrides, base=TINY), Store(tmp_path)
    assert len(plan.cells) == 4
    launch = plan.record(store)
    driver = Driver(plan, store, InProcess(), plan.config.schedule)
    assert set(driver.run().counts) == {DONE}
    page, lines = write_study(store, launch, tmp_path / "out")
    assert len(lines) == 8 and all(line.ours is not None for line in lines)
    first = lines[0]
    assert first.difference == pytest.approx(first.ours - first.published)
    assert "cookie" in first.note and first.verdict == ""  # other data: no verdict
    table = pd.read_csv(tmp_path / "out" / "study.csv")
    assert table["published"].tolist() == [line.published for line in lines]
    assert "Demo" not in page.read_text() or launch["demo"]


def test_on_the_papers_categories_values_get_a_verdict_and_an_interval(tmp_path):
    categories = known_categories("mvtec3d")
    store, launch = build_launch(tmp_path, (("das3d", ""),), ("rgb+3d",), categories, demo=False)
    cells = [cell | {"dataset": "mvtec3d", "printed": ["das3d", ""]} for cell in launch["cells"]]
    named = {"name": "das3d/table1", "paper": "das3d", "table": "Table 1", "dataset": "mvtec3d"}
    lines = study_lines(store, launch | {"cells": cells, "study": named})
    ours = {line.category: line for line in lines if line.ours is not None}
    assert set(ours) == {*categories, "mean"}
    assert all(line.verdict in ("within error", "above", "below") for line in ours.values())
    mean = ours["mean"]
    assert mean.low < mean.ours < mean.high and mean.std is not None and mean.note == ""
    assert {line.note for line in lines if line.ours is None} == {"no row of the study computes it"}


def test_few_shot_rows_are_kept_apart_by_the_name_of_their_data():
    overrides = ["m3dm.weights.rgb=random-init", "m3dm.weights.point=random-init"]
    plan = study.plan("m3dm/table6", overrides, base="demo")
    assert {cell["dataset"] for cell in plan.cells} == {
        "synthetic",
        "synthetic 5-shot",
        "synthetic 10-shot",
        "synthetic 50-shot",
    }
    assert {tuple(cell["printed"]) for cell in plan.cells} == {
        ("m3dm", ""),
        ("m3dm", "shot_5"),
        ("m3dm", "shot_10"),
        ("m3dm", "shot_50"),
    }


def test_an_unknown_study_is_answered_with_those_there_are():
    with pytest.raises(ConfigError, match="no study 'm3dm/table44'.*m3dm/table4"):
        study.plan("m3dm/table44")
