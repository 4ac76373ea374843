import itertools

import numpy as np
import pytest

from harness.metrics.ranking import auroc
from reports.numbers.paired import Placements, auroc_difference, better, groups, holm, sign_flip

N, M, CATEGORIES = 22, 60, 4


def tables(rng, shift_one, shift_other, categories=CATEGORIES):
    """Two methods' placements on the same images, whose scores share half their variance."""
    one, other = {}, {}
    for c in range(categories):
        shared = rng.normal(size=N + M)
        for found, shift in ((one, shift_one), (other, shift_other)):
            scores = shared + rng.normal(size=N + M)
            scores[N:] += shift
            found[str(c)] = Placements.of(scores[None, :N], scores[None, N:])
    return one, other


def test_placements_average_to_the_area_and_seeds_to_their_mean():
    rng = np.random.default_rng(0)
    normal, anomalous = rng.integers(0, 6, (3, 12)), rng.integers(2, 9, (3, 9))  # with ties
    found = Placements.of(normal, anomalous)
    expected = np.mean([auroc(n, a) for n, a in zip(normal, anomalous)])
    assert found.anomalous.mean() == pytest.approx(expected)
    assert found.normal.mean() == pytest.approx(expected)


def test_the_standard_error_equals_that_of_simulated_test_sets():
    rng = np.random.default_rng(1)
    found = [auroc_difference(*tables(rng, 1.0, 1.6)) for _ in range(400)]
    spread = np.std([d.value for d in found])
    assert np.mean([d.error for d in found]) == pytest.approx(spread, rel=0.1)


def test_without_a_difference_the_test_finds_one_in_about_5_of_100():
    rng = np.random.default_rng(2)
    p_values = np.array([auroc_difference(*tables(rng, 1.4, 1.4)).p for _ in range(1000)])
    assert 0.03 <= (p_values < 0.05).mean() <= 0.07
    assert 0.06 <= (p_values < 0.10).mean() <= 0.14


def test_a_real_difference_is_found_more_often_in_pairs_than_apart():
    rng = np.random.default_rng(3)
    paired = [auroc_difference(*tables(rng, 1.0, 1.6)).p < 0.05 for _ in range(200)]
    apart = [
        auroc_difference(tables(rng, 1.0, 1.0)[0], tables(rng, 1.6, 1.6)[0]).p < 0.05
        for _ in range(200)
    ]
    assert np.mean(paired) > np.mean(apart) + 0.1


def test_different_images_are_not_paired():
    rng = np.random.default_rng(4)
    one, _ = tables(rng, 1.0, 1.0)
    scores = rng.normal(size=(1, N + M))
    other = {c: Placements.of(scores[:, :N], scores[:, N:], ("x",)) for c in one}
    assert auroc_difference(one, other) is None and auroc_difference(one, {}) is None


def test_equal_scores_do_not_differ():
    one, _ = tables(np.random.default_rng(5), 1.0, 1.0)
    found = auroc_difference(one, one)
    assert (found.value, found.error, found.p) == (0.0, 0.0, 1.0)


def test_sign_flips_equal_counting_them_one_by_one():
    differences = np.array([0.03, -0.01, 0.02, 0.05, 0.0])
    reached = [
        abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-12
        for signs in itertools.product((-1, 1), repeat=5)
    ]
    assert sign_flip(differences) == pytest.approx(np.mean(reached))
    assert sign_flip(np.full(10, 0.01)) == pytest.approx(2 / 2**10)
    assert sign_flip(np.zeros(3)) == 1.0


def test_sign_flips_of_many_categories_are_sampled():
    assert sign_flip(np.full(20, 0.01)) < 0.001
    assert sign_flip(np.tile([0.01, -0.01], 10)) > 0.9


def test_sign_flips_find_nothing_in_about_95_of_100_when_there_is_nothing():
    rng = np.random.default_rng(6)
    found = [sign_flip(rng.normal(size=10)) < 0.05 for _ in range(1000)]
    assert 0.03 <= np.mean(found) <= 0.07


def test_holm_matches_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]


def test_holm_keeps_the_chance_of_any_false_claim_low():
    rng = np.random.default_rng(7)
    wrong = [min(holm(rng.uniform(size=10).tolist())) < 0.05 for _ in range(2000)]
    assert np.mean(wrong) < 0.065


def test_rows_that_nothing_separates_share_a_group():
    def grouped(means, p_values):
        return groups(len(means), better(means, p_values))

    p_values = {(0, 1): 0.6, (0, 2): 0.001, (1, 2): 0.002}
    assert grouped([0.9, 0.89, 0.8], p_values) == [1, 1, 3]
    assert grouped([0.9, 0.89, 0.8], dict.fromkeys(p_values, 0.9)) == [1, 1, 1]
    assert grouped([0.8, 0.9], {(0, 1): 0.01}) == [2, 1]
    assert better([0.8, 0.9], {(0, 1): 0.01}) == {(1, 0)}
    assert not better([0.9, 0.9], {(0, 1): 0.01})
