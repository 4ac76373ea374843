import itertools

import numpy as np
import pytest

from reports.numbers.paired import better, groups, holm, separable, sign_flip


@pytest.mark.parametrize("categories, pairs, could", [(2, 1, False), (6, 1, True), (6, 3, False)])
def test_signs_of_few_categories_can_tell_nothing_apart(categories, pairs, could):
    assert separable(categories, pairs) == could
    assert (min(holm([sign_flip(np.ones(categories))] * pairs)) < 0.05) == could


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
