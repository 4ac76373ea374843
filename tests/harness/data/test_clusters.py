import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from harness.data.views import clusters
from harness.data.views.clusters import dbscan, largest_cluster


def cloud(rng):
    """A few blobs or sheets of any density; every third cloud on a lattice, so distances tie."""
    n = rng.integers(1, 500)
    centres = rng.random((rng.integers(1, 5), 3)) * rng.choice([0.02, 0.1])
    spread = rng.choice([0.001, 0.003, 0.01]) * np.array([1, 1, rng.choice([0, 0.1, 1])])
    points = centres[rng.integers(0, len(centres), n)] + rng.normal(0, 1, (n, 3)) * spread
    return np.round(points, 3) if rng.random() < 0.33 else points


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        points, eps = cloud(rng), rng.choice([0.001, 0.003, 0.006])
        min_points = int(rng.choice([1, 2, 5, 10, 30]))
        expected = DBSCAN(eps=eps, min_samples=min_points).fit_predict(points)
        assert np.array_equal(dbscan(points, eps, min_points), expected)


def test_dense_sheets_are_joined_or_kept_apart_by_eps_alone():
    x, y = np.meshgrid(np.arange(60) * 2e-4, np.arange(60) * 2e-4)
    sheet = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    for gap, expected in ((0.00599, 1), (0.00601, 2)):
        both = np.concatenate([sheet, sheet + [x.max() + gap, 0, 0]])
        assert len(np.unique(dbscan(both, 0.006, 30))) == expected


def test_a_bridge_that_no_probe_sees_joins_two_sheets():
    rng = np.random.default_rng(0)
    left = rng.uniform([0, 0, 0], [0.004, 0.02, 0], (4000, 3))
    right = rng.uniform([0.0105, 0, 0], [0.0145, 0.02, 0], (4000, 3))
    bridge = np.array([[0.0070, 0.01, 0.0]])
    points = np.concatenate([left, right, bridge])
    assert dbscan(points[:-1], 0.006, 30).max() == 1
    assert np.array_equal(
        dbscan(points, 0.006, 30), DBSCAN(eps=0.006, min_samples=30).fit_predict(points)
    )


def test_small_chunks_change_nothing(monkeypatch):
    points = np.random.default_rng(3).random((800, 3)) * 0.02
    whole = dbscan(points, 0.003, 5)
    monkeypatch.setattr(clusters, "CHUNK", 64)
    assert np.array_equal(dbscan(points, 0.003, 5), whole)


@pytest.mark.parametrize("cells_a_point", [0, 10**9])
def test_counting_the_cells_and_sorting_them_are_the_same(monkeypatch, cells_a_point):
    points = np.random.default_rng(4).random((2000, 3)) * [0.05, 0.05, 0.004]
    expected = DBSCAN(eps=0.0025, min_samples=12).fit_predict(points)
    assert len(np.unique(expected)) > 2
    monkeypatch.setattr(clusters, "CELLS_A_POINT", cells_a_point)
    assert np.array_equal(dbscan(points, 0.0025, 12), expected)


def test_points_far_away_change_no_label():
    rng = np.random.default_rng(5)
    sheet = rng.random((3000, 3)) * [0.04, 0.04, 0.001]
    far = np.array([[30, 0, 0], [0, -30, 0], [0, 0, 30], [1e3, 1e3, 1e3]])
    labels = dbscan(np.concatenate([far, sheet]), 0.003, 10)
    assert labels[:4].tolist() == [-1] * 4
    assert np.array_equal(labels[4:], DBSCAN(eps=0.003, min_samples=10).fit_predict(sheet))


def test_a_border_point_between_two_clusters_goes_to_the_one_numbered_first():
    left = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0]])
    right = left + [1.5, 0, 0]
    middle = np.array([[0.9, 0, 0]])
    assert dbscan(np.concatenate([left, right, middle]), 0.61, 4)[-1] == 0
    assert dbscan(np.concatenate([middle, right, left]), 0.61, 4).tolist() == [0] * 5 + [1] * 4


def test_noise_counts_as_a_cluster_when_the_largest_is_chosen():
    assert largest_cluster(np.array([-1, -1, -1, 0, 0, 1])).tolist() == [True] * 3 + [False] * 3
    assert largest_cluster(np.array([0, -1, 1, 1, 0])).tolist() == [True, False, False, False, True]


def test_a_cloud_without_points_has_no_labels():
    assert len(dbscan(np.empty((0, 3)), 0.006, 30)) == 0


def test_an_eps_too_small_for_the_extent_is_refused():
    with pytest.raises(ValueError, match="eps 1e-12 is too small"):
        dbscan(np.array([[0.0, 0, 0], [1, 1, 1]]), 1e-12, 2)


def test_neighbours_by_the_million_fit_into_memory():
    x, y = np.meshgrid(np.arange(300) * 1.6e-4, np.arange(300) * 1.6e-4)
    z = 0.01 * np.sin(40 * x) + np.where(x > 0.024, 0.02, 0)  # a step of 20 mm parts the sheet
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    labels = dbscan(points, 0.006, 30)  # 4,400 neighbours a point: 400 million pairs
    assert np.bincount(labels + 1).tolist()[0] == 0 and labels.max() == 1
