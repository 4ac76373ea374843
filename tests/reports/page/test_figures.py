"""Charts as files of their own: whole SVG documents that need no page around them."""

import xml.etree.ElementTree as ElementTree

import pytest

from harness import tracking
from harness.tracking import client as shared
from harness.tracking import content
from reports.page.figures import Axis, Series, lines, standalone
from reports.page.render import write_report
from tests.reports.fake_store import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"
SMALL = {
    "methods": [("das3d", ""), ("m3dm", "")],
    "settings": ["rgb"],
    "seeds": [0],
    "arrays": False,
}


def test_a_file_has_its_caption_its_lines_and_a_legend():
    unit = Axis("x", 0, 1)
    chart = lines("t", [Series("one", [0, 1], [0, 1]), Series(HOSTILE, [0, 1], [1, 0])], unit, unit)
    root = ElementTree.fromstring(standalone(chart, HOSTILE, "word " * 30, ["one", HOSTILE]))
    texts = [e.text for e in root.iter(f"{SVG}text")]
    assert texts[0] == HOSTILE and texts[-2:] == ["one", HOSTILE]
    assert " ".join(texts[1:4]) == " ".join(["word"] * 30)  # in lines that fit the figure
    assert len(list(root.iter(f"{SVG}polyline"))) == 4 and not list(root.iter(f"{SVG}script"))
    drawn = {e.get("class") for e in root.iter(f"{SVG}polyline")}
    style = next(root.iter(f"{SVG}style")).text
    assert drawn == {"c0", "c1"} and all(f".{name}{{stroke:#" in style for name in drawn)


def test_every_chart_of_the_page_is_a_file_and_old_ones_go(build, tmp_path):
    store, launch = build(**SMALL, categories=["cookie"])
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("")
    page = write_report(store, launch, tmp_path).read_text(encoding="utf-8")
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == [
        f"synthetic-rgb-{name}.svg"
        for name in ("accuracy-speed", "aupro-limits", "roc", "scores-das3d", "scores-m3dm")
    ]
    assert page.count('<svg class="chart"') == len(names)
    for name in names:
        ElementTree.parse(tmp_path / "figures" / name)


def test_names_from_data_stay_inside_the_folder(build, tmp_path):
    store, launch = build(**SMALL, categories=["cookie"])
    cells = [cell | {"dataset": "../../up", "variant": HOSTILE} for cell in launch["cells"]]
    write_report(store, launch | {"cells": cells}, tmp_path / "a" / "report")
    found = list(tmp_path.rglob("*.svg"))
    assert found and {path.parent for path in found} == {tmp_path / "a" / "report" / "figures"}


def test_figures_are_artifacts_of_the_parent_run(build, tmp_path):
    pytest.importorskip("mlflow")
    store, launch = build(**SMALL, categories=["cookie"])
    page = write_report(store, launch, tmp_path / "report")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking.sync(store, launch, uri, page.parent)
    client, _ = shared.connect(store, uri)
    runs = client.search_runs([client.get_experiment_by_name(launch["name"]).experiment_id])
    parent = next(run for run in runs if content.PARENT not in run.data.tags)
    found = client.list_artifacts(parent.info.run_id, "leaderboard/figures")
    assert "leaderboard/figures/synthetic-rgb-roc.svg" in {item.path for item in found}
