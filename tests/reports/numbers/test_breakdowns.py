import numpy as np
import pytest
from sklearn.metrics import roc_curve

from methods.errors import UserError
from reports.numbers.breakdowns import FPR, Category, agreement, hardest, histogram, modalities, roc
from reports.numbers.choice import check_known, chosen
from reports.numbers.frame import read_scores, results_frame
from reports.page.figures import Axis, Series, lines, scatter
from tests.reports.fake_store import HOSTILE


def category(scores, anomalous=4, defect="hole"):
    scores = np.atleast_2d(np.asarray(scores, float))
    flags = np.arange(scores.shape[1]) >= scores.shape[1] - anomalous
    ids = np.array([f"{i:03d}" for i in range(len(flags))])
    return Category(ids, np.where(flags, defect, "good"), flags, scores)


@pytest.mark.parametrize("levels", [None, 3])
def test_roc_equals_scikit_learn_with_and_without_ties(levels):
    scores = np.random.default_rng(0).normal(size=30) + np.arange(30) / 20
    scores = scores if levels is None else np.round(scores * levels / 3)
    found = category(scores, 12)
    fpr, tpr, _ = roc_curve(found.anomalous, scores, drop_intermediate=False)
    assert roc({"c": found}) == pytest.approx(np.interp(FPR, fpr, tpr))


def test_an_image_on_the_right_side_of_all_others_is_not_wrong():
    found = category([0, 1, 2, 3, 4, 5, 2.5, 9], 4)
    assert found.wrong.tolist() == [0, 0, 0, 0.25, 0, 0, 0.25, 0]


def test_what_each_modality_finds_adds_up():
    good = [0.0] * 20
    rgb, depth = category([*good, 1, 1, -1, -1]), category([*good, 1, -1, 1, -1])
    whole, hole = modalities({"c": rgb}, {"c": depth})
    assert (whole.defect, whole.images, hole.defect) == ("all", 4, "hole")
    assert (whole.both, whole.only_rgb, whole.only_3d, whole.neither) == (0.25,) * 4
    assert modalities({"c": rgb}, {"d": depth}) == []


def test_agreement_and_hardest_images():
    one, same = category([0, 1, 2, 3, 4, 5]), category([0, 2, 4, 6, 8, 9])
    other = category([5, 4, 3, 2, 1, 0])
    methods = {("a", ""): {"c": one}, ("b", ""): {"c": same}, ("c", ""): {"c": other}}
    expected = np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    assert agreement(methods).to_numpy() == pytest.approx(expected)
    first = hardest(methods, lambda method, variant: method)[0]
    assert first.wrong == pytest.approx(1 / 3) and first.best == "a" and first.least == 0


def test_histograms_hold_every_image():
    for share in histogram({"c": category([0, 1, 2, 99, -99, 3])}):
        assert share.sum() == pytest.approx(1)


def test_charts_escape_names_and_hold_no_broken_number():
    axes = Axis(HOSTILE, 0, 1), Axis("y", 0, 1)
    drawn = lines(HOSTILE, [Series(HOSTILE, [0, 0.5, 1], [0, float("nan"), 1])], *axes)
    drawn += scatter("t", [Series(HOSTILE, [0.5], [0.5])], Axis("x", 0.1, 10, log=True), axes[1])
    assert "<script" not in drawn and "nan" not in drawn and drawn.count("&lt;script") >= 4


def test_rules_choose_images_by_how_wrong_methods_have_them(build):
    one = {"methods": [("das3d", "")], "settings": ["rgb"], "categories": ["cookie"], "seeds": [0]}
    store, launch = build(**one, arrays=False)
    (table,) = read_scores(store, results_frame(store, launch)).values()
    listed = table.copy()
    bumps = listed[listed["defect"] == "bump"].sort_values("score")["id"].tolist()
    everything = set(listed["id"])

    def picked(rule, stored=everything):
        rows = chosen(listed, [table], [rule], stored)
        return rows.loc[rows["defect"] == "bump", "id"].tolist()

    assert picked("worst") and picked("best")
    good, score = table.loc[table["label"] == 0, "score"], table.set_index("id")["score"]
    wrong = {id: (good > score[id]).mean() for id in bumps}
    assert wrong[picked("worst")[0]] == max(wrong.values())
    assert wrong[picked("best")[0]] == min(wrong.values())
    assert picked("worst", {bumps[2]}) == [bumps[2]]
    assert picked(bumps[1]) == [bumps[1]]
    check_known(["worst", bumps[1]], [table])
    with pytest.raises(UserError, match="'wrost' is none of middle.*did you mean worst"):
        check_known(["wrost"], [table])
    with pytest.raises(UserError, match="'foo' is none of .*such as good/000"):
        check_known(["foo"], [table])
