import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.metrics.pareto import pareto_front
from harness.metrics.ranking import auroc, share_below, share_wrong


def scores(normal, anomalous, levels=None):
    rng = np.random.default_rng(3)
    n, a = rng.normal(size=normal), rng.normal(1.0, size=anomalous)
    return (n, a) if levels is None else (np.round(n * levels), np.round(a * levels))


@pytest.mark.parametrize("levels", [None, 2])
def test_auroc_equals_scikit_learn_with_and_without_ties(levels):
    n, a = scores(30, 20, levels)
    expected = roc_auc_score(np.repeat([0, 1], [30, 20]), np.concatenate([n, a]))
    assert auroc(n, a) == pytest.approx(expected, abs=1e-12)


def test_auroc_of_one_class_is_undefined():
    none, some = np.array([]), np.array([1.0])
    assert np.isnan(auroc(none, some)) and np.isnan(auroc(some, none))


@pytest.mark.parametrize("levels", [None, 2])
def test_shares_are_those_of_a_loop_over_the_pairs(levels):
    n, a = scores(12, 9, levels)
    below = [np.mean([(x < v) + (x == v) / 2 for x in n]) for v in a]
    assert share_below(np.sort(n), a) == pytest.approx(below, abs=1e-15)
    wrong = share_wrong(np.concatenate([n, a]), np.repeat([False, True], [12, 9]))
    above = [np.mean([(x < v) + (x == v) / 2 for x in a]) for v in n]
    assert wrong == pytest.approx([*above, *(1 - np.array(below))], abs=1e-15)
    assert wrong[:12].mean() == pytest.approx(1 - auroc(n, a))
    assert wrong[12:].mean() == pytest.approx(1 - auroc(n, a))


def test_of_one_class_nothing_is_wrong():
    assert share_wrong(np.array([1.0, 2.0]), np.array([True, True])).tolist() == [0, 0]


def test_the_front_holds_what_nothing_beats():
    points = [(1, 0.5), (2, 0.4), (3, 0.9), (3, 0.8), (9, 0.9)]  # cost, quality
    front = pareto_front([(-cost, quality) for cost, quality in points])
    assert [points[i] for i in front] == [(1, 0.5), (3, 0.9)]


def test_of_equals_the_front_holds_the_first_and_the_best_comes_first():
    assert pareto_front([(1, 2), (2, 1), (1, 2), (2, 1), (0, 3), (0, 2)]) == [1, 0, 4]
    assert pareto_front([]) == []
