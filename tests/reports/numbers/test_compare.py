import json

import numpy as np
import pytest

from harness.metrics import Scored, get
from harness.metrics.influence import influences
from harness.metrics.intervals import Influence
from harness.metrics.ranking import auroc
from harness.store import write_json
from harness.store.files import sealed
from reports.forms.compare_text import comparison_csv
from reports.numbers.compare import BETTER, OVERALL, SAME, UNTESTED, WORSE, chosen, compare
from reports.numbers.evidence import Evidence, of_scores, read_evidence
from reports.numbers.frame import read_scores, results_frame
from tests.reports.fake_store import build_launch

ONE = {
    "methods": [("das3d", "")],
    "settings": ["rgb"],
    "arrays": False,
    "demo": False,
    "categories": ["cookie", "dome", "ring"],
    "seeds": [0, 1],
}


def side(store, launch):
    frame = results_frame(store, launch)
    return frame, read_evidence(store, frame)


def compared(a, b, metrics=("i_auroc",), **choices):
    (frame_a, evidence_a), (frame_b, evidence_b) = a, b
    return compare(frame_a, frame_b, list(metrics), evidence_a, evidence_b, **choices)


def weakened(store, launch, amount):
    """The same cells with the scores of anomalous images moved down."""
    frame, found = results_frame(store, launch), {}
    for i, (key, table) in enumerate(read_scores(store, frame).items()):
        table.loc[table["label"] == 1, "score"] -= amount
        found[key] = of_scores(table)
        good = table["label"] == 0
        frame.loc[i, "i_auroc"] = auroc(table["score"][good], table["score"][~good])
    return frame, Evidence(found)


def overall(found, metric="i_auroc"):
    return next(c for c in found.changes if (c.category, c.metric) == (OVERALL, metric))


def test_a_side_compared_with_itself_has_not_changed(build):
    one = side(*build(**ONE))
    found = compared(one, one, ("i_auroc", "p_auroc"))
    assert found.pairs == 6 and not found.regressions and not found.lost
    assert {(c.by, c.verdict, c.p) for c in found.changes} == {(0.0, SAME, 1.0)}
    assert [c.category for c in found.changes[:4]] == [OVERALL, "cookie", "dome", "ring"]


def test_a_loss_is_a_regression_and_the_way_back_is_none(build):
    store, launch = build(**ONE)
    one, worse = side(store, launch), weakened(store, launch, 1.5)
    found = overall(compared(one, worse))
    assert found.verdict == WORSE and found.basis == "images" and found.p < 0.001
    assert found.by == pytest.approx(worse[0]["i_auroc"].mean() - one[0]["i_auroc"].mean())
    assert found.interval[0] < found.by < found.interval[1] < 0
    back = compared(worse, one)
    assert overall(back).verdict == BETTER and not back.regressions
    assert overall(back).interval == pytest.approx((-found.interval[1], -found.interval[0]))


def test_a_loss_smaller_than_the_margin_does_not_count(build):
    store, launch = build(**ONE)
    one, worse = side(store, launch), weakened(store, launch, 1.5)
    lost = -overall(compared(one, worse)).by
    assert overall(compared(one, worse, margin=lost * 1.1)).verdict == SAME
    assert overall(compared(one, worse, margin=lost / 10)).verdict == WORSE


@pytest.mark.parametrize("count, basis", [(5, ""), (6, "categories")])
def test_without_image_scores_seeds_decide_and_then_categories_if_there_are_enough(
    build, count, basis
):
    frame, _ = side(*build(**ONE | {"categories": list("abcdef")[:count]}))
    rng = np.random.default_rng(0)
    worse = frame.assign(p_auroc=frame["p_auroc"] - 0.05 - 0.001 * rng.random(len(frame)))
    found = compare(frame, worse, ["p_auroc"])
    assert overall(found, "p_auroc").basis == "seeds" and overall(found, "p_auroc").verdict == WORSE
    first, other = (f[f["seed"] == 0] for f in (frame, worse))
    found = compare(first, other, ["p_auroc"])
    assert overall(found, "p_auroc").basis == basis
    assert (overall(found, "p_auroc").interval is None) == (not basis)
    assert {c.verdict for c in found.changes[1:]} == {UNTESTED}


def test_no_difference_is_called_one_in_about_5_of_100():
    import pandas as pd

    rng, wrong = np.random.default_rng(0), 0
    names = {
        "dataset": "d",
        "setting": "rgb",
        "method": "m",
        "variant": "",
        "category": "c",
        "seed": 0,
        "status": "done",
    }
    labels = np.repeat([0, 1], [30, 60])
    for _ in range(200):
        sides = []
        shared = rng.normal(size=90)
        for key in "ab":
            score = shared + rng.normal(size=90) + 1.5 * labels
            area = auroc(score[:30], score[30:])
            values = influences(Scored(score, labels), [get("i_auroc")])["i_auroc"]
            known = Evidence({key: {"i_auroc": Influence.of(values, labels)}})
            sides.append((pd.DataFrame([names | {"key": key, "i_auroc": area}]), known))
        (one,) = [c for c in compared(*sides).changes if c.category == OVERALL]
        wrong += one.p < 0.05
    assert wrong / 200 <= 0.08


def test_a_result_that_b_lost_is_named(build, tmp_path):
    one = side(*build(**ONE))
    failing = {("das3d", "", "rgb", "dome", 1): "failed"}
    found = compared(one, side(*build_launch(tmp_path / "other", **ONE, troubles=failing)))
    assert found.lost == ("synthetic rgb das3d dome 1",)
    assert found.pairs == 5


def test_two_settings_of_one_store_are_compared(build):
    frame, known = side(*build(**ONE | {"settings": ["rgb", "rgb+3d"]}))
    sides = [(chosen(frame, {"setting": s}), known) for s in ("rgb", "rgb+3d")]
    found = compared(*sides, ignore=("setting",))
    assert found.pairs == 6 and overall(found).b > overall(found).a


def test_choices_that_match_nothing_say_what_there_is(build):
    frame, _ = side(*build(**ONE))
    with pytest.raises(ValueError, match="there are 'rgb'"):
        chosen(frame, {"setting": "3d"})
    with pytest.raises(ValueError, match="cannot choose cells by 'colour'"):
        chosen(frame, {"colour": "red"})


def test_csv_has_a_line_a_change(build):
    one = side(*build(**ONE))
    lines = comparison_csv(compared(one, one)).splitlines()
    assert lines[0].endswith(",signature") and all("i_auroc|" in line for line in lines[1:])
    assert len(lines) == 5 and lines[0].startswith("dataset,setting,method,variant,metric,category")


def test_the_command_fails_on_a_regression_only_when_asked(build, tmp_path, capsys, monkeypatch):
    from harness.cli import app as cli

    monkeypatch.setattr("os.fsync", lambda handle: None)
    a, _ = build(**ONE)
    b, launch = build_launch(tmp_path / "b", **ONE)
    for cell in launch["cells"]:
        path = b.folder(cell["key"]) / "result.json"
        result = json.loads(path.read_text())
        result["protocols"]["common"]["metrics"]["p_auroc"] -= 0.2
        write_json(path, sealed(result))

    def code(*arguments):
        monkeypatch.setattr("sys.argv", ["relief", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0

    assert code(a.path, b.path, "--csv", tmp_path / "found.csv") == 0
    assert "worse" in capsys.readouterr().out and (tmp_path / "found.csv").exists()
    assert code(a.path, b.path, "--fail-on-regression") == 3
    assert code(b.path, a.path, "--fail-on-regression") == 0
    assert code(a.path, b.path, "--fail-on-regression", "--margin", "30") == 0
    assert code(a.path, b.path, "--fail-on-regression", "--metric", "i_auroc") == 0
    assert code(a.path, b.path, "--metric", "nonsense") == 2
