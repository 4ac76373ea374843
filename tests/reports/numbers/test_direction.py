"""A metric of which less is better is ranked, marked, grouped and compared the right way round."""

import pytest

from harness.metrics import Metric, register, registry
from harness.planning import space
from reports.forms.compare_text import comparison_csv
from reports.forms.text import score_text
from reports.forms.words import unbounded_text
from reports.numbers.compare import BETTER, WORSE, compare
from reports.numbers.frame import metric_names, results_frame
from reports.numbers.leaderboard import leaderboards
from reports.numbers.names import metric_label
from reports.page.render import write_report
from tests.reports.fake_store import build_launch
from tests.reports.page.test_page import shown

DISTANCE = Metric(
    "p_distance",
    "P-distance",
    lambda scored: 0.0,
    needs="maps",
    smaller_is_better=True,
    unit="px",
)
CATEGORIES = tuple("abcdefgh")


@pytest.fixture(autouse=True)
def known():
    yield register(DISTANCE)
    registry.forget(DISTANCE.name)


def launch(path, offsets, **options):
    """Values 10 + offset (+ a little by category and seed) of p_distance for each method."""
    troubles = {}
    for method, offset in offsets.items():
        for i, category in enumerate(CATEGORIES):
            for seed in (0, 1, 2):
                value = 10 + offset + 0.01 * i + 0.005 * seed
                values = {"metrics": {"p_distance": value, "i_auroc": 0.9}}
                troubles[method, None, None, category, seed] = values
    methods = tuple((method, "") for method in offsets)
    return build_launch(
        path, methods, ("rgb",), CATEGORIES, (0, 1, 2), troubles, arrays=False, **options
    )


def board(path):
    frame = results_frame(*launch(path, {"das3d": 3.0, "m3dm": 0.0, "dbrn": 1.0}))
    assert "p_distance" in metric_names(frame)
    return next(b for b in leaderboards(frame) if b.metric == "p_distance")


def test_the_smallest_leads_and_is_the_best(tmp_path):
    found = board(tmp_path)
    assert [row.method for row in found.rows] == ["m3dm", "dbrn", "das3d"]
    assert [row.rank for row in found.rows] == [1, 2, 3]
    assert [row.group for row in found.rows] == [1, 2, 3]
    assert found.best() == found.rows[0].mean.value
    assert found.second() == found.rows[1].mean.value
    assert found.lead.by == pytest.approx(1.0)


def test_its_values_are_printed_in_its_unit(tmp_path):
    assert score_text(board(tmp_path).rows[0].mean, "p_distance").startswith("10 ± ")
    assert metric_label("p_distance") == "P-distance, px"


def test_every_form_says_why_it_has_no_interval_and_says_so_of_no_other(tmp_path):
    store, of = launch(tmp_path / "store", {"das3d": 0.0})
    write_report(store, of, tmp_path)
    why = "P-distance: a formula that does not say"
    assert why in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert why in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert why in " ".join(shown(store, of).split())
    assert unbounded_text([]) == ""


def test_a_rise_is_a_regression(tmp_path):
    frames = [
        results_frame(*launch(tmp_path / name, offsets))
        for name, offsets in {"a": {"das3d": 0.0}, "b": {"das3d": 0.3}}.items()
    ]
    worse = compare(*frames, ["p_distance"])
    better = compare(*reversed(frames), ["p_distance"])
    assert {c.verdict for c in worse.changes if c.category == "mean"} == {WORSE}
    assert {c.verdict for c in better.changes if c.category == "mean"} == {BETTER}
    assert "p_distance" in comparison_csv(worse)


def test_a_search_makes_it_small():
    sweep = space.Sweep("x", {}, objective=space.Objective(["p_distance"]))
    assert sweep.mode("p_distance") == "min"
    assert sweep.mode("i_auroc") == "max"


def test_a_metric_that_nobody_knows_is_in_no_table(tmp_path):
    store = launch(tmp_path, {"das3d": 0.0})
    registry.forget(DISTANCE.name)
    assert "p_distance" not in metric_names(results_frame(*store))
