from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from harness.data.views import background, m3dm
from harness.data.views.clusters import dbscan
from harness.data.views.plane import border_points
from methods.shape_guided.patches import foreground, scaled
from methods.views import M3dmView, ShapeGuidedView
from tests.harness.data.scans import sample, scan

VIEW = ShapeGuidedView()
NONE = ShapeGuidedView(background="none")
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])  # ImageNet's


def statistics(array):
    array = np.asarray(array, float)
    return [array.mean(), array.std(), np.abs(array).sum()]


@pytest.mark.parity
def test_the_background_goes_as_recorded(parity, monkeypatch):
    given = parity("shape_guided")
    want = given.npz("preprocess")
    xyz = want["xyz"]
    rgb = (given.input("pre_rgb", xyz.shape, "unit") * 255).astype(np.uint8)
    scene = sample(rgb, xyz, np.zeros(xyz.shape[:2], np.uint8))
    border = border_points(xyz, VIEW.plane_border_px)
    assert len(border) == want["edge_points"]
    assert np.allclose(border.sum(axis=0), want["edge_sum"], rtol=1e-6)

    monkeypatch.setattr(background, "border_plane", lambda *_: want["plane"])
    rgb, xyz, _ = background.cut(scene, replace(VIEW, dbscan=False, pad=False), 0)
    assert np.array_equal(np.packbits((xyz != 0).all(axis=2)), want["planeless_mask"])
    assert rgb.sum() == want["planeless_rgb_sum"]

    _, xyz, _ = background.cut(scene, replace(VIEW, dbscan=False), 0)
    valid = (xyz != 0).all(axis=2)
    assert xyz.shape == tuple(want["padded_shape"])
    assert np.array_equal(np.packbits(valid), want["padded_mask"])
    labels = dbscan(xyz[valid], VIEW.dbscan_eps_m, VIEW.dbscan_min_points)
    ids, sizes = np.unique(labels, return_counts=True)
    assert sorted(zip(ids, sizes)) == sorted(zip(want["cluster_ids"], want["cluster_sizes"]))

    rgb, xyz, _ = background.cut(scene, VIEW, 0)
    assert np.array_equal(np.packbits((xyz != 0).all(axis=2)), want["clean_mask"])
    assert rgb.sum() == want["clean_rgb_sum"]
    assert np.allclose(xyz.sum(axis=(0, 1), dtype=float), want["clean_xyz_sum"], rtol=1e-6)


@pytest.mark.parity
def test_image_and_truth_come_out_as_recorded(parity):
    given = parity("shape_guided")
    want = given.npz("image_input")
    rgb = np.floor(given.input("image_uint8", (400, 400, 3), "unit") * 256).astype(np.uint8)
    gt = given.input("gt_uint8", (400, 400), "unit") < 0.3
    got = m3dm.prepare(sample(rgb, np.zeros((400, 400, 3), np.float32), gt), NONE, seed=0)
    image = ((got["rgb"] / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)
    assert np.abs(image[:, ::6, ::6] - want["image"]).max() <= 1e-6
    assert np.allclose(statistics(image), want["image_stats"], rtol=1e-5)
    assert np.array_equal(np.packbits(got["mask"]), want["mask"])
    assert got["mask"].sum() == want["mask_sum"]


@pytest.mark.parity
def test_the_points_of_the_cloud_are_the_recorded_ones(parity):
    given = parity("shape_guided")
    want = given.npz("cloud_points")
    xyz = given.input("org_xyz", (400, 400, 3), "unit") + np.float32(0.1)
    xyz[given.input("org_mask", (400, 400), "unit") >= 0.04] = 0
    xyz[given.input("org_z0", (400, 400), "unit") < 0.02, 2] = 0
    blank = np.zeros((400, 400, 3), np.uint8)
    got = m3dm.prepare(sample(blank, xyz, blank[..., 0]), NONE, seed=0)
    cloud = torch.from_numpy(got["xyz"])
    pixel = foreground(cloud)
    points = cloud.reshape(-1, 3)[pixel]
    assert len(points) == want["n_points"]
    assert np.array_equal(pixel, want["pixel_index"])
    head = len(want["points_head"])
    assert np.array_equal(points[:head], want["points_head"])
    normalised = scaled(points)
    assert np.abs(normalised[:head].numpy() - want["normalised_head"]).max() <= 1e-6
    assert np.allclose(statistics(normalised), want["normalised_stats"], rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"mask_rgb": False, "dbscan": False}, {"background": "none"}]
)
def test_the_view_is_that_of_m3dm(options):
    dome = sample(*scan(96, 128))
    ours, theirs = (m3dm.prepare(dome, v(**options), seed=2) for v in (ShapeGuidedView, M3dmView))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)


def test_points_are_those_of_a_loop_over_the_pixels():
    xyz = np.random.default_rng(0).integers(0, 4, (7, 9, 3)).astype(np.float32)
    pixel = foreground(torch.from_numpy(xyz))
    points = xyz.reshape(-1, 3)[pixel]
    want = [(r * 9 + c, xyz[r, c]) for r in range(7) for c in range(9) if all(xyz[r, c])]
    assert pixel.tolist() == [p for p, _ in want]
    assert np.array_equal(points, [p for _, p in want])


def test_a_cloud_is_one_wide_and_keeps_its_proportions():
    points = torch.from_numpy(np.random.default_rng(0).random((50, 3)) * (2, 3, 1))
    moved = scaled(points)
    assert moved.amin(dim=0).tolist() == [0, 0, 0] and moved[:, 0].max() == 1
    assert np.allclose(pdist(moved), pdist(points) / np.ptp(points[:, 0].numpy()))
