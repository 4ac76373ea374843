"""What was seen of trainings on the way, as a curve of each method."""

import numpy as np
import pandas as pd

from harness.store.curve import write_looks
from methods.validation import Look
from reports.numbers import breakdowns
from reports.numbers.frame import results_frame
from reports.page.render import write_report
from tests.reports.fake_store import build_launch


def look(share, value):
    return Look("train", round(100 * share), 100, share, {"i_auroc": value})


def looked_at(tmp_path):
    store, launch = build_launch(
        tmp_path / "store",
        methods=(("das3d", ""), ("m3dm", "")),
        settings=("rgb",),
        categories=("cookie",),
        seeds=(0, 1),
    )
    first, second = (c["key"] for c in launch["cells"] if c["method"] == "das3d")
    write_looks(store.folder(first), [look(0.5, 0.6), look(1.0, 0.8)])
    write_looks(store.folder(second), [look(0.25, 0.2), look(0.75, 0.6), look(1.0, 1.0)])
    return store, launch


def test_the_curve_is_the_mean_over_the_cells_that_were_looked_at(tmp_path):
    store, launch = looked_at(tmp_path)
    frame = results_frame(store, launch)
    shares, means = breakdowns.looks(store, frame[frame["method"] == "das3d"], "i_auroc")
    assert list(shares) == [0.5, 1.0]
    np.testing.assert_allclose(means, [0.5, 0.9])
    assert breakdowns.looks(store, frame[frame["method"] == "m3dm"], "i_auroc") is None
    assert breakdowns.looks(store, pd.DataFrame({"key": [], "status": []}), "i_auroc") is None


def test_the_page_shows_it_where_somebody_looked(tmp_path):
    store, launch = looked_at(tmp_path)
    write_report(store, launch, tmp_path / "report")
    assert (
        "on validation samples while training" in (tmp_path / "report/leaderboard.html").read_text()
    )
