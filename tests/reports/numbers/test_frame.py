import subprocess
import sys

import numpy as np
import pytest

from reports.numbers.frame import printable, results_frame
from reports.numbers.leaderboard import leaderboards


def test_every_cell_of_the_launch_has_its_row_in_the_launchs_order(build):
    store, launch = build(
        arrays=False,
        troubles={
            ("m3dm", None, "3d", "dome", 0): "pending",
            ("m3dm", None, "3d", "dome", 1): "failed",
        },
    )
    frame = results_frame(store, launch)
    assert list(frame["key"]) == [cell["key"] for cell in launch["cells"]]
    assert frame["status"].value_counts().to_dict() == {"done": 34, "pending": 1, "failed": 1}
    missing = frame[frame["status"] != "done"]
    assert missing["i_auroc"].isna().all() and frame["i_auroc"].notna().sum() == 34


def test_metrics_of_a_cell_that_is_not_done_are_not_read(build):
    lying = {("m3dm", "", "3d", "dome", 0): {"status": "failed"}}
    store, launch = build(arrays=False, troubles=lying)
    frame = results_frame(store, launch).set_index("key")
    cell = next(c for c in launch["cells"] if store.result(c["key"]).status == "failed")
    assert store.result(cell["key"]).metrics["i_auroc"] is not None
    assert np.isnan(frame.loc[cell["key"], "i_auroc"])


def test_two_names_for_the_same_work_keep_two_rows(build):
    store, launch = build(arrays=False, methods=[("das3d", "")], settings=["rgb"], seeds=[0])
    renamed = [cell | {"variant": "twin"} for cell in launch["cells"]]
    frame = results_frame(store, launch | {"cells": launch["cells"] * 2 + renamed})
    assert list(frame["variant"]) == ["", "", "twin", "twin"]
    twins = leaderboards(frame)[0].rows
    assert twins[0].mean == twins[1].mean and [row.rank for row in twins] == [1, 1]


def test_different_work_under_one_name_is_refused(build):
    store, launch = build(arrays=False, methods=[("das3d", "")], settings=["rgb"], seeds=[0, 1])
    cells = [cell | {"seed": 0} for cell in launch["cells"]]
    with pytest.raises(ValueError, match="another variant name"):
        results_frame(store, launch | {"cells": cells})


def test_an_empty_launch_has_an_empty_frame_with_all_columns(build):
    store, launch = build(arrays=False, methods=[])
    frame = results_frame(store, launch)
    assert frame.empty and {"dataset", "status", "fit_s", "speed_valid"} <= set(frame.columns)


def test_terminal_codes_and_broken_text_do_not_reach_a_report():
    assert printable("\x1b[31mred\x1b[0m\x07 \ud800 tab\t\n") == "red ? tab\t\n"


def test_reports_load_without_the_compute_side():
    code = (
        "import sys, reports.page.render; "
        "names = 'names marks seeds files code contents errors plugins validation'; "
        "light = [f'methods.{m}' for m in names.split()]; "
        "allowed = ('harness.store', 'harness.metrics', *light); "
        "bad = {'torch', 'ray', 'mlflow', 'omegaconf', 'optuna'} & set(sys.modules); "
        "ours = {m for m in sys.modules if m.startswith(('harness.', 'methods.'))}; "
        "ours = {m for m in ours if not m.startswith(allowed)}; "
        "sys.exit(str(bad | ours) if bad | ours else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
