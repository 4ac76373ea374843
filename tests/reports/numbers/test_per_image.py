import io

import pandas as pd
import pytest

from harness.metrics.ranking import auroc
from reports.numbers.frame import read_scores, results_frame
from reports.numbers.per_image import DEFECTS, IMAGES, defects_table, images_table
from reports.page.render import write_report

SMALL = {"methods": [("das3d", "")], "settings": ["rgb"], "categories": ["cookie"]}


def test_every_image_and_defect_type_of_every_cell_has_a_row(build):
    store, launch = build(**SMALL, arrays=False)
    frame = results_frame(store, launch)
    scores = read_scores(store, frame)
    images, defects = images_table(frame, scores), defects_table(frame, scores)
    assert len(images) == 2 * 18 and tuple(images.columns) == IMAGES  # two seeds
    area = 1 - images.groupby("seed")["wrong"].apply(lambda w: w[:8].mean())
    assert area.tolist() == pytest.approx(frame["i_auroc"].tolist())
    assert tuple(defects.columns) == DEFECTS and defects["defect"].tolist() == ["bump", "stain"]
    row, values = defects.iloc[0], []
    for table in scores.values():
        good, bad = (table.loc[table["defect"] == kind, "score"] for kind in ("good", "bump"))
        values.append(auroc(good.to_numpy(), bad.to_numpy()))
    assert row["i_auroc"] == pytest.approx(sum(values) / 2) and row["seeds"] == 2
    assert (row["images"], row["good"]) == (5, 8) and row["low"] < row["i_auroc"] < row["high"]


def test_a_report_holds_them_as_files(build, tmp_path):
    store, launch = build(**SMALL)
    write_report(store, launch, tmp_path)
    for name, columns in (("images.csv", IMAGES), ("defects.csv", DEFECTS)):
        table = pd.read_csv(io.StringIO((tmp_path / name).read_text()))
        assert tuple(table.columns) == columns and len(table)


def test_without_image_scores_the_tables_are_empty(build):
    frame = results_frame(*build(**SMALL, arrays=False))
    assert images_table(frame, {}).empty and defects_table(frame, {}).empty
