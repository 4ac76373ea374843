import csv
import math
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import t as student

from harness.data import eyecandies, mvtec3d
from harness.store import Record
from methods.marks import MADE_DATA, UNVERIFIED, meaning
from reports.forms.text import leaderboard_markdown
from reports.numbers import data, published
from reports.numbers.frame import read_results, unscored_lines
from reports.numbers.leaderboard import Row, Score
from reports.numbers.published import (
    ABOVE,
    BELOW,
    ROUNDING,
    UNJUDGED,
    UNKNOWN,
    WITHIN,
    Quote,
    Spread,
    quote,
    quoted_mean,
    verdict,
)
from reports.numbers.quoting import quoted
from reports.page.render import write_report
from tests.reports.fake_store import SIZE, TEST
from tests.reports.numbers.test_leaderboard import boards_of

BENCH = ("mvtec3d", "rgb+3d", "i_auroc")
MVTEC = published.known_categories("mvtec3d")


@pytest.mark.parametrize(
    ("method", "value"),
    [("dbrn", 0.921), ("3dsr", 0.978), ("das3d", 0.982), ("m3dm", 0.945), ("shape_guided", 0.947)],
)
def test_headline_values_of_the_papers_are_found(method, value):
    found = quote(method, "", *BENCH, "mean")
    assert found.value == value and found.source == method


def test_every_printed_value_is_a_cell_that_says_where_it_stands():
    cells = published.published_cells()
    assert set(cells["paper"]) == set(published.SOURCES) and len(cells) > 3000
    assert not cells.duplicated(["file", "row"]).any() and cells["value"].notna().all()
    for _, cell in cells.iloc[::97].iterrows():
        line = (published.FOLDER / cell["file"]).read_text().splitlines()[cell["row"] - 1]
        fields = next(csv.reader([line]))
        assert fields[:2] == [cell["paper"], cell["table"]] and float(fields[9]) == cell["value"]


def test_one_table_of_a_paper_is_found_by_its_name():
    found = published.published_cells("dbrn", "Table IV")
    assert set(found["table"]) == {"Table IV"} and set(found["paper"]) == {"dbrn"}
    with pytest.raises(ValueError, match="Table IV"):
        published.published_cells("dbrn", "Table X")
    with pytest.raises(ValueError, match="das3d"):
        published.published_cells("dbrm")


def test_a_mean_is_the_mean_of_its_categories_up_to_rounding():
    assert len(MVTEC) == 10 and len(published.known_categories("eyecandies")) == 10
    for method in ("dbrn", "3dsr", "das3d", "m3dm", "shape_guided"):
        cells = [quote(method, "", *BENCH, c).value for c in MVTEC]
        assert sum(cells) / 10 == pytest.approx(quote(method, "", *BENCH, "mean").value, abs=2e-3)


def test_names_that_papers_use_for_our_methods():
    assert quote("3dsr", "", "mvtec3d", "rgb", "i_auroc", "mean").method.startswith("DSR")
    assert quote("dbrn", "ms", *BENCH, "mean").value == 0.928
    assert quote("m3dm", "shot_5", *BENCH, "mean").value < 0.9


def test_what_no_paper_prints_has_no_quote():
    assert quote("das3d", "untrained", *BENCH, "mean") is None
    assert quote("das3d", "", "synthetic", "rgb+3d", "i_auroc", "mean") is None
    assert quoted_mean("das3d", "", *BENCH, ("bagel", "my_part")) is None


def test_the_mean_of_some_categories_is_compared_with_the_same_categories():
    two = ("bagel", "tire")
    cells = [quote("das3d", "", *BENCH, c).value for c in two]
    assert quoted_mean("das3d", "", *BENCH, two).value == pytest.approx(sum(cells) / 2)
    assert quoted_mean("das3d", "", *BENCH, MVTEC[::-1]) == quote("das3d", "", *BENCH, "mean")


def test_the_verdict_follows_the_spread_over_seeds():
    printed = Quote(0.9, "m3dm", "Table 1", "Ours")
    spread = Spread.pooled([0.01, 0.03], seeds=3)
    assert spread.std == pytest.approx(math.sqrt((0.01**2 + 0.03**2) / 2)) and spread.freedom == 4
    reach = student.ppf(0.975, 4) * spread.std * math.sqrt(4 / 3)
    assert spread.reach() == pytest.approx(reach)
    for difference, text in [(0.99 * reach, WITHIN), (1.1 * reach, ABOVE), (-1.1 * reach, BELOW)]:
        found = verdict(0.9 + difference, printed, spread)
        assert found.text == text and found.basis == "seeds"
    assert spread.of_mean(4).reach() == pytest.approx(reach / 2)


def test_one_seed_is_judged_by_its_images_and_without_them_not_at_all():
    printed = Quote(0.9, "m3dm", "Table 1", "Ours")
    assert Spread.pooled([None, None], seeds=1) is None
    assert verdict(0.93, printed, None, (0.89, 0.96)).text == WITHIN
    assert verdict(0.93, printed, None, (0.91, 0.96)).text == ABOVE
    assert verdict(0.93, printed, None).text == UNKNOWN


def test_rounding_in_the_paper_is_no_difference():
    printed = Quote(0.9, "m3dm", "Table 1", "Ours")
    steady = Spread.pooled([0.0, 0.0], seeds=2)
    assert verdict(0.9 + 0.9 * ROUNDING, printed, steady).text == WITHIN
    assert verdict(0.9 + 1.1 * ROUNDING, printed, steady).text == ABOVE


def test_few_shot_rows_stand_beside_what_papers_print_for_as_few():
    scores, known = {c: Score(0.8, None, 1) for c in MVTEC}, dict.fromkeys(MVTEC, "mvtec3d")

    def row_of(marks):
        row = Row("m3dm", "", marks, scores, Score(0.8), data=known)
        return quoted(row, *BENCH[1:], MVTEC)

    for marks, variant in [((), ""), (("5-shot",), "shot_5"), (("demo", "50-shot"), "shot_50")]:
        row = row_of(marks)
        assert row.published.quote == quote("m3dm", variant, *BENCH, "mean")
        assert row.quotes["tire"].quote == quote("m3dm", variant, *BENCH, "tire")
    assert row_of(("7-shot",)).published is None


FACTS = data.Facts(
    {"test": dict(TEST), "train": {"good": 40}, "validation": {"good": 3}},
    (SIZE, SIZE),
    (".png", ".tiff"),
)
GENUINE = {
    "made": False,
    "files": [".png", ".tiff"],
    "samples": {"train": 40, "validation": 3, "test": sum(dict(TEST).values())},
    "sizes": [[SIZE, SIZE]],
}


@pytest.fixture
def as_published(monkeypatch):
    """What `build` writes has the counts of the published data."""
    known = {("mvtec3d", name): FACTS for name in MVTEC}
    monkeypatch.setattr(data, "published_facts", lambda: known)


def test_papers_values_are_found_by_what_the_data_call_their_categories():
    for dataset in data.PUBLISHED:
        names = {name for of, name in data.published_facts() if of == dataset}
        assert names == set(published.known_categories(dataset))
    found = published.quote("3dsr", "", "eyecandies", "3d", "i_auroc", "CandyCane")
    assert found.value == 0.6


def test_the_facts_are_those_that_the_readers_know():
    for (dataset, category), facts in data.published_facts().items():
        reader = {"mvtec3d": mvtec3d, "eyecandies": eyecandies}[dataset]
        assert facts.counts == reader.published(category)
        assert facts.size == reader.published_size(category)
    assert len(data.published_facts()) == 20


def of_bagel(known, made=None, **test):
    """Whose the data of a cell are: bagel's own, with such changes."""
    counts = data.published_facts()["mvtec3d", "bagel"].counts["test"] | test
    defects = [defect for defect, count in counts.items() for _ in range(count)]
    record = Record({"spec": {"category": "bagel"}, "status": "done", **known}, Path())
    return data.published_data(record, pd.DataFrame({"defect": defects}), made)


BAGEL = {
    "made": False,
    "files": [".png", ".tiff"],
    "samples": {"train": 244, "validation": 22, "test": 110},
    "sizes": [[800, 800]],
}


@pytest.mark.parametrize(
    "change, whose",
    [
        ({}, "mvtec3d"),
        ({"sizes": [[500, 500]]}, ""),
        ({"sizes": [[500, 500], [800, 800]]}, ""),
        ({"files": [".png", ".png"]}, ""),
        ({"samples": {"train": 244, "validation": 4, "test": 110}}, ""),
        ({"samples": {"train": 240, "validation": 22, "test": 110}}, ""),
        ({"made": True}, data.MADE),
    ],
)
def test_data_are_the_published_ones_by_all_that_is_recorded_of_them(change, whose):
    assert of_bagel({"data": BAGEL | change}) == whose


@pytest.mark.parametrize("change", [{"hole": 20}, {"stain": 1}, {"good": 21}])
def test_data_with_other_counts_of_test_images_are_not_the_published_ones(change):
    assert of_bagel({"data": BAGEL}, **change) == of_bagel({}, **change) == ""


def test_cells_of_earlier_versions_are_judged_by_what_they_have():
    assert of_bagel({}) == of_bagel({"counts": {"train_available": 244}}) == "mvtec3d"
    assert of_bagel({"counts": {"train_available": 243}}) == ""

    def view(size, needs=(), **samples):
        summary = {"samples": BAGEL["samples"] | samples, "frames": [[*size, 0, 0, *size]]}
        return Record({"spec": {"needs": dict(needs)}, "summary": summary}, Path())

    assert of_bagel({}, view((800, 800))) == "mvtec3d"
    assert of_bagel({}, view((500, 500))) == of_bagel({}, view((800, 800), validation=4)) == ""
    assert of_bagel({}, view((800, 800), {"dataset": "abc"})) == data.MADE


def test_a_report_says_which_cells_are_judged_by_little(build, as_published):
    counts = {"counts": {"train_available": 40, "test": 18}}
    store, launch = built(build, "mvtec3d", troubles={(None,) * 5: counts})
    (line,) = [one for one in told(store, launch) if "did not record sizes" in one]
    assert line.startswith("4 of 4 finished cells")
    store, launch = built(build, "mvtec3d", troubles={(None,) * 5: counts | {"data": GENUINE}})
    assert not any("did not record sizes" in one for one in told(store, launch))


def told(store, launch):
    return unscored_lines(launch, read_results(store, launch))


def built(build, dataset, demo=False, **choices):
    store, launch = build(
        methods=[("m3dm", "")],
        settings=["rgb"],
        categories=["bagel", "tire"],
        arrays=False,
        demo=demo,
        seeds=[0, 1],
        **choices,
    )
    launch["cells"] = [cell | {"dataset": dataset} for cell in launch["cells"]]
    return store, launch


def the_row(store, launch):
    boards = boards_of(store, launch)
    return next(b for b in boards if b.metric == "i_auroc").rows[0]


REAL = {(None,) * 5: {"marks": [], "data": GENUINE}}


def test_published_values_attach_to_the_published_data_in_any_folder(build, as_published):
    row = the_row(*built(build, "scans_2026", troubles=REAL))
    assert row.published.quote.source == "m3dm" and set(row.quotes) == {"bagel", "tire"}
    assert row.published.text != UNJUDGED and row.marks == ()


def test_other_data_by_a_published_name_are_marked_and_have_no_published_value(build):
    row = the_row(*built(build, "mvtec3d", troubles=REAL))
    assert row.published is None and not row.quotes and row.marks == (UNVERIFIED,)


@pytest.mark.parametrize("dataset", ["mvtec3d", "scans_2026"])
def test_a_look_alike_with_the_right_counts_and_another_size_is_unverified(
    build, as_published, dataset
):
    alike = {"marks": [], "data": GENUINE | {"sizes": [[SIZE, SIZE + 1]]}}
    row = the_row(*built(build, dataset, troubles={(None,) * 5: alike}))
    assert row.published is None and not row.quotes and row.marks == (UNVERIFIED,)


@pytest.mark.parametrize("dataset", ["mvtec3d", "synthetic"])
def test_data_that_relief_made_are_never_judged_whatever_they_are_called(
    build, as_published, dataset, tmp_path
):
    made = {"marks": [], "data": GENUINE | {"made": True}}
    store, launch = built(build, dataset, troubles={(None,) * 5: made})
    row = the_row(store, launch)
    assert row.published is None and not row.quotes and row.marks == (MADE_DATA,)
    write_report(store, launch, tmp_path)
    for form in ("leaderboard.html", "leaderboard.md", "leaderboard.tex", "leaderboard.csv"):
        assert MADE_DATA in (tmp_path / form).read_text(encoding="utf-8"), form
    assert meaning(MADE_DATA) in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("marks, altered", [(["demo"], []), (["random-init"], []), ([], ["m3dm"])])
def test_a_row_that_is_no_try_at_the_published_result_is_not_judged(
    build, as_published, marks, altered
):
    store, launch = built(build, "mvtec3d", troubles={(None,) * 5: {"marks": marks}})
    row = the_row(store, launch | {"altered": altered})
    assert row.published.text == UNJUDGED and row.published.difference
    assert {found.text for found in row.quotes.values()} == {UNJUDGED}


def test_a_board_stands_beside_the_papers_and_marks_what_differs(build, as_published):
    store, launch = build(
        methods=[("m3dm", "")],
        settings=["rgb"],
        categories=["bagel", "tire"],
        arrays=False,
        demo=False,
        seeds=[0, 1],
    )
    launch["cells"] = [cell | {"dataset": "mvtec3d"} for cell in launch["cells"]]
    boards = boards_of(store, launch)
    board = next(b for b in boards if b.metric == "i_auroc")
    (row,) = board.rows
    assert row.published.quote.value == pytest.approx((0.944 + 0.767) / 2, abs=0.02)
    assert row.published.difference == pytest.approx(row.mean.value - row.published.quote.value)
    assert set(row.quotes) == {"bagel", "tire"}
    text = leaderboard_markdown(launch, pd.DataFrame({"status": ["done"]}), boards)
    assert "what the paper prints" in text
