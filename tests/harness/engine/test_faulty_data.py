"""A dataset of which one category cannot be read and one is odd: what a run and a report say."""

import json

import numpy as np
import tifffile

from harness.store import Store
from tests.harness.cli.test_cli import relief
from tests.harness.conftest import planned, run
from tests.harness.data.scans import write_category, write_cloud


def plant(root):
    write_category(root, "sound", 24, 32)
    odd = write_category(root, "odd", 24, 32).folder
    for path in odd.rglob("xyz/*.tiff"):
        xyz = tifffile.imread(path)
        write_cloud(path, np.where(xyz == 0, np.float32(-1), xyz))
    broken = write_category(root, "broken", 24, 32).folder / "train/good/xyz/001.tiff"
    broken.write_bytes(b"II*\0")
    return broken


def test_a_run_goes_on_with_what_can_be_read_and_its_report_says_what_is_wrong(
    tmp_path, capsys, monkeypatch
):
    broken = plant(tmp_path / "parts")
    only = ("methods=[baseline/plane]", "settings=[3d]", "protocol.latency_samples=0")
    store, plan = Store(tmp_path / "store"), planned(*only, data=tmp_path / "parts")
    plan.record(store)
    summary = run(plan, store)
    view, cell = sorted(summary.failures, key=lambda record: record.kind, reverse=True)
    assert (view.status, cell.status) == ("failed", "skipped")
    assert str(broken) in view.reason and "broken" in cell.reason

    code, out, _ = relief(capsys, monkeypatch, "report", store.path, "--json")
    found = json.loads(out)
    assert code == 0 and found["cells"] == {"done": 2, "skipped": 1}
    rows = {row["category"]: row for row in found["leaderboard"] if row["metric"] == "i_auroc"}
    assert rows["sound"]["status"] == rows["odd"]["status"] == "done"
    assert rows["broken"]["status"] == "skipped" and rows["broken"]["value"] is None
    assert {row["marks"] for row in found["leaderboard"]} == {"view-suspect"}  # of the whole row
    cells = {cell["category"]: cell["key"] for cell in plan.cells}
    marks = {name: store.finished(cells[name]).marks for name in ("sound", "odd")}
    assert marks == {"sound": [], "odd": ["view-suspect"]}
    page = (store.path / found["page"]).read_text()
    assert "view-suspect" in page and "a number stands for no depth" in page
    assert "001.tiff" in page
