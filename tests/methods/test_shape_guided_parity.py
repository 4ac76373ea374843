"""Shape-Guided against the recorded numbers: cutting, banks, codes, maps, the whole."""

import numpy as np
import pytest
import torch

from harness.metrics import PixelScores
from methods.blocks.maps import blurred_in_levels, enlarged
from methods.contract import settings_from
from methods.shape_guided import inference
from methods.shape_guided.memory import Builder, Memory, cells_of
from methods.shape_guided.method import Described, ShapeGuided
from methods.shape_guided.patches import (
    cut,
    foreground,
    normalise,
    number_of_patches,
    points_of,
    scaled,
)
from methods.shape_guided.sdf import queries_around, query_spread
from methods.shape_guided.settings import Patches, Settings
from tests.methods.shape_guided_parity import (  # noqa: F401 (fixtures)
    GRID,
    SIZE,
    close,
    normal,
    p,
    shape,
    statistics,
    unit,
)

pytestmark = pytest.mark.parity


def block_pixels(block):
    """Pixel ids of a block (r0, r1, c0, c1), row by row."""
    r0, r1, c0, c1 = map(int, block)
    ids = np.arange(r0, r1)[:, None] * SIZE + np.arange(c0, c1)
    return torch.from_numpy(ids.ravel())


def blurred(scores):
    return blurred_in_levels(scores[None], 4.0)[0]


def blocks_cells(blocks, **rule):
    return torch.cat([cells_of(block_pixels(b)[None], SIZE, GRID, **rule) for b in blocks])


# Patches


def test_foreground_scaling_and_patch_counts_match(p):
    f, shape = p.npz("cloud_points"), (400, 400)
    xyz = p.input("org_xyz", (*shape, 3), "unit") + np.float32(0.1)
    xyz[~(p.input("org_mask", shape, "unit") < 0.04)] = 0
    xyz[p.input("org_z0", shape, "unit") < 0.02, 2] = 0
    nearest = np.arange(SIZE) * 400 // SIZE
    xyz = torch.from_numpy(xyz[nearest][:, nearest])
    ids = foreground(xyz)
    assert len(ids) == f["n_points"]
    assert (ids.numpy() == f["pixel_index"]).all()
    points = xyz.reshape(-1, 3)[ids]
    close(points[:200], f["points_head"], 1e-6)
    close(scaled(points)[:200], f["normalised_head"], 1e-6)
    np.testing.assert_allclose(statistics(scaled(points)), f["normalised_stats"], rtol=1e-6)
    torch.testing.assert_close(points_of(xyz, ids[None])[0], scaled(points), rtol=0, atol=0)
    for r, K, count in f["group_counts"].tolist():
        assert number_of_patches(len(ids), Patches(points=K, overlap=float(r))) == count


def test_centres_and_neighbours_match(p):
    f = p.npz("fps_knn")
    points, table = unit(p, "fps_points", (1200, 3)), f["table"]
    for key in [k for k in f if k.startswith("fps_")]:
        start = int(key.removeprefix("fps_"))
        pixels = f[f"pixel_{start}"]
        count, K = pixels.shape
        patches = Patches(points=K, overlap=count * K / len(points))
        centres, members = cut(points, patches, start)
        assert (centres.numpy() == f[key]).all()
        got = table[members.numpy()]
        assert (np.sort(got) == np.sort(pixels)).all()
        assert (got == pixels).mean() > 0.999
        stats = f[f"grouped_stats_{start}"]
        np.testing.assert_allclose(statistics(points[members]), stats, rtol=1e-6)


def test_patch_normalisation_matches(p):
    f = p.npz("patch_norm")
    patches = p.input("norm_patches", (6, 500, 3), "normal")
    patches = patches * f["axis_scale"][:, None] + f["offset"][:, None]
    done, scale, mean = normalise(torch.from_numpy(patches))
    for i, tolerance in enumerate([2e-6] * 5 + [1e-4]):
        close(done[i, ::10], f["normalised"][i], tolerance)
        close(mean[i, 0], f["mean_after_scaling"][i], max(tolerance, 1e-6 * abs(mean[i]).max()))
    np.testing.assert_allclose(scale[:, 0, 0], f["scale"], rtol=1e-5)


def test_training_queries_match(p):
    f = p.npz("query_sampling")
    patch = unit(p, "query_patch", (500, 3)) * torch.tensor([1, 0.8, 0.1])
    noise = normal(p, "query_noise", (20, 500, 3))
    sigma = query_spread(patch[None], 50)
    close(sigma[0], f["sigma"], 1e-6)
    factor = torch.tensor([0.5] * 13 + [1.0] * 7)
    patches = patch.expand(20, -1, -1)
    points, queries, targets = queries_around(patches, sigma.expand(20, -1), factor, noise)
    close(points[0, ::10], f["points"], 1e-6)
    close(queries[:, ::10], f["samples"], 1e-6)
    close(targets[:, ::10], f["targets"], 1e-6)
    _, scale, mean = normalise(patch[None])
    close(mean[0, 0], f["mean_after_scaling"], 1e-6)
    assert scale.item() == pytest.approx(float(f["scale"]), abs=1e-6)
    raw = (queries + mean) / scale
    close(raw[:, ::20], f["samples_raw"], 2e-6)
    for t, index, unique in zip(targets, f["nearest_index"], f["unique_targets"]):
        assert torch.equal(t, points[0][torch.from_numpy(index.astype(np.int64))])
        assert len(t.unique(dim=0)) == unique


# Banks and scores


def test_cells_of_a_patch_match(p):
    f = p.npz("rgb_cells")
    for mask, cells in zip(blocks_cells(f["blocks"]), f["cells"]):
        assert mask.nonzero()[:, 0].tolist() == cells[cells >= 0].tolist()


@pytest.mark.parametrize("kind, n, d", [("sdf", 10, 128), ("rgb", 5, 768)])
def test_sparse_codes_match(p, kind, n, d):
    f = p.npz("omp")
    base = normal(p, f"omp_base_{kind}", (24, 1, d)).abs()
    atoms = (base + 0.3 * normal(p, f"omp_atoms_{kind}", (24, n, d))).clamp(min=0)
    queries = (base[:, 0] + 0.3 * normal(p, f"omp_query_{kind}", (24, d))).clamp(min=0)
    atoms[0, 1] = atoms[0, 2] = atoms[0, 0]
    queries[1] = atoms[1, 3]
    queries[2] = 0
    atoms[3, 1:] = 0
    atoms[4, :] = atoms[4, 0].clone()
    code = inference.sparse_code(queries, atoms)
    made, distances = inference.reconstruct(queries, atoms)
    distinct = [i for i in range(24) if i not in (0, 4)]
    for suffix in ("", "float32_"):
        close(code[distinct], f[f"code_{suffix}{kind}"][distinct], 1e-4)
        close(distances, f[f"distance_{suffix}{kind}"], 1e-5)
    close(made[:, ::4], f[f"reconstruction_{kind}"], 1e-5)
    assert (code[2] == 0).all() and ((code != 0).sum(dim=1) <= 3).all()


def method_with(memory, setting, **search):
    values = {"weights": {"rgb": "random-init"}, "rgb": {"backbone": "resnet18"}, "search": search}
    method = ShapeGuided(settings_from(Settings, values), setting)
    method.memory = memory
    return method


def described(**known):
    empty = dict.fromkeys(("pixels", "points", "sdf", "rgb", "cells"), torch.zeros(0, 0))
    return Described(**{**empty, **known})


@pytest.mark.parametrize("mode", ["testing", "alignment"])
def test_shape_neighbours_match(p, mode):
    f = p.npz("sdf_knn")
    bank = normal(p, "sdf_bank", (400, 128)).clamp(min=0)
    query = normal(p, "sdf_query", (16, 128)).clamp(min=0)
    query[:8] = bank[: 8 * 50 : 50]
    none = torch.zeros(400, 0)
    memory = Memory(bank, torch.zeros(400).long(), none.long(), none[:0], torch.zeros(0).long())
    method, x = method_with(memory, "3d"), described(sdf=query)
    rows = method._neighbours(x, None if mode == "testing" else 0)
    assert (rows.numpy() == f[f"neighbours_{mode}"]).all()
    made, errors = inference.reconstruct(query, bank[rows])
    close(made, f[f"reconstruction_{mode}"], 1e-5)
    assert errors.max().item() == pytest.approx(float(f[f"score_{mode}"]), abs=1e-5)
    close(inference.reconstruct(query, bank[rows], "nn")[0][:, ::8], f[f"nearest_{mode}"], 0)


@pytest.mark.parametrize("mode", ["testing", "alignment"])
@pytest.mark.parametrize("code", ["omp", "nn"])
def test_rgb_scores_and_map_match(p, mode, code):
    f = p.npz("rgb_map")
    features = unit(p, "rgb_train", (4 * GRID**2, 32)).view(4, GRID**2, 32)
    cells = blocks_cells(f["blocks"])
    builder = Builder()
    for i in range(4):
        builder.add(torch.zeros(10, 1), features[i], cells[10 * i : 10 * i + 10])
    memory = builder.join()
    assert len(memory.rgb) == f["bank_size"]
    torch.testing.assert_close(
        memory.rgb,
        features.flatten(0, 1)[torch.from_numpy(f["kept_rows"].astype(np.int64))],
        rtol=0,
        atol=0,
    )
    rows = torch.from_numpy(f["neighbour_patches"].astype(np.int64))
    assert len(memory.dictionary(rows)) == f["guided_size"]
    x = described(rgb=unit(p, "rgb_test", (GRID**2, 32)), cells=cells[40:])
    assert x.cells.any(dim=0).nonzero()[:, 0].tolist() == f["foreground_cells"].tolist()

    method = method_with(memory, "rgb+3d", code_rgb=code)
    scores = method._rgb(x, rows, None if mode == "testing" else 0)
    kind = f"{mode}_{code}"
    close(scores.view(GRID, GRID), f[f"cells_{kind}"], 1e-5)
    assert scores.max().item() == pytest.approx(float(f[f"score_{kind}"]), abs=1e-5)
    whole = enlarged(scores[None], SIZE)[0]
    close(whole[::4, ::4], f[f"map_{kind}"], 1e-5)
    np.testing.assert_allclose(statistics(whole), f[f"map_stats_{kind}"], rtol=1e-5)


def test_sdf_map_matches(p, shape):
    f = p.npz("sdf_map")
    features = normal(p, "map_features", (6, 128)).clamp(min=0)
    points = 0.25 * normal(p, "map_points", (6, 500, 3))
    signed = shape.distances(features, points)
    close(signed, f["signed"], 1e-6)
    pixels = torch.stack([block_pixels(b) for b in f["blocks"]])
    whole = inference.sdf_map(signed, pixels, SIZE)
    close(whole[76:124, 86:144], f["map_crop"], 1e-6)
    np.testing.assert_allclose(statistics(whole), f["map_stats"], rtol=1e-5)


def grey_close(got, expected, stats, every):
    """Within rounding, but for isolated pixels that may be one grey level off."""
    got = np.asarray(got, np.float64)
    top = got.max()
    off = np.abs(got[::every, ::every] - expected)
    assert off.max() <= 1.01 * top / 255
    assert (off <= 1e-6 * top + 1e-12).mean() > 0.99
    np.testing.assert_allclose(statistics(got), stats, rtol=2e-4)


def test_blur_matches_pillow_s_8_bit_one(p):
    f = p.npz("blur")
    dense = 37.5 * unit(p, "blur_map", (1, 1, SIZE, SIZE))[0, 0] ** 8
    sparse = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    sparse[60:150, 70:160] = 0.01 * unit(p, "blur_patch", (90, 90)).double() ** 4
    for name, scores in (("dense", dense), ("sparse", sparse)):
        grey_close(blurred(scores), f[name], f[f"{name}_stats"], 3)


def test_alignment_matches(p):
    f = p.npz("alignment")
    rgb = 40 * unit(p, "align_rgb", (20000,))
    rgb[unit(p, "align_rgb0", (20000,)) < 0.4] = 0
    sdf = 0.02 * unit(p, "align_sdf", (20000,)) ** 4
    sdf[unit(p, "align_sdf0", (20000,)) < 0.7] = 0
    a, b = inference.alignment(rgb, sdf)
    assert a == pytest.approx(float(f["weight"]), rel=2e-5)
    assert b == pytest.approx(float(f["bias"]), rel=2e-5)


@pytest.mark.parametrize("tag", ["negative_bias", "positive_bias"])
def test_fusion_matches(p, tag):
    f = p.npz("fusion")
    sdf = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    sdf[50:170, 60:160] = 0.03 * unit(p, "fuse_sdf", (120, 100)).double() ** 6
    cells = torch.zeros(GRID, GRID)
    cells[5:23, 6:21] = 40 * unit(p, "fuse_rgb", (18, 15))
    rgb = enlarged(cells.view(1, -1), SIZE)[0]
    moved = inference.aligned(rgb, float(f[f"weight_{tag}"]), float(f[f"bias_{tag}"]))
    maps = {"sdf": sdf, "rgb": rgb, "rgb_aligned": moved, "fused": torch.maximum(moved, sdf)}
    for name, scores in maps.items():
        grey_close(blurred(scores), f[f"{name}_{tag}"], f[f"{name}_stats_{tag}"], 4)
    assert pytest.approx(float(f[f"image_score_{tag}"])) == 1.75 * 33.5


def test_aupro_at_all_seven_limits_matches(p):
    f = p.npz("aupro")
    gt = np.zeros((8, 96, 96), np.uint8)
    for k, u in enumerate(p.input("pro_blocks", (6, 4), "unit")):
        r, c = int(np.float32(60) * u[0]), int(np.float32(60) * u[1])
        h, w = 6 + int(np.float32(20) * u[2]), 6 + int(np.float32(20) * u[3])
        gt[k, r : r + h, c : c + w] = 1
    gt[0, 80:84, 80:90] = gt[1, 90:94, 2:6] = gt[1, 94:96, 6:9] = 1
    scores = p.input("pro_scores", (8, 96, 96), "unit").astype(np.float64) ** 2
    scores = scores + 0.6 * gt * p.input("pro_boost", (8, 1, 1), "unit")
    pixels = PixelScores.of(scores, gt)
    for thresholds in (100, 1000):
        ours = [pixels.aupro(limit, thresholds) for limit in f["limits"]]
        close(ours, f[f"aupro_{thresholds}"], 1e-9)
    fpr, pro = pixels.pro_curve(100)
    close(fpr, f["fpr_100"], 1e-9)
    close(pro, f["pro_100"], 1e-9)


# The whole


def scene(p, name):
    """rgb (3, 224, 224) and xyz (224, 224, 3) of the recorded runs."""
    r, c = np.mgrid[0:SIZE, 0:SIZE]
    n, ph = p.input(f"{name}_xyz", (SIZE, SIZE, 3), "unit"), p.input(f"{name}_phase", (2,), "unit")
    x = 0.001 * (c + 0.4 * n[..., 0]) + 0.1
    y = 0.001 * (r + 0.4 * n[..., 1]) + 0.1
    z = 0.4 + 0.006 * np.sin(r / 9 + ph[0]) * np.cos(c / 11 + ph[1]) + 0.0003 * n[..., 2]
    if name == "test1":
        z = z + 0.012 * np.exp(-((r - 110) ** 2 + (c - 105) ** 2) / 50)
    m = (r - 112) ** 2 / 30**2 + (c - 112) ** 2 / 26**2 < 1
    xyz = (np.stack([x, y, z], axis=-1) * m[..., None]).astype(np.float32)
    low = p.input(f"{name}_rgb_low", (3, GRID, GRID), "normal").repeat(8, 1).repeat(8, 2)
    rgb = low * 0.3 + 0.1 * p.input(f"{name}_rgb", (3, SIZE, SIZE), "normal") + 0.5
    return torch.from_numpy((rgb * m - 2 * (1 - m)).astype(np.float32)), torch.from_numpy(xyz)


def described_scene(p, method, name):
    rgb, xyz = scene(p, name)
    ids = foreground(xyz)
    pixels = ids[cut(scaled(xyz.reshape(-1, 3)[ids]), method.settings.patches, 0)[1]]
    (x,) = method.describe(method.appearance(rgb[None]), xyz[None], [pixels])
    return x


@torch.no_grad()
def test_whole_method_matches_end_to_end(p):
    f = p.npz("end_to_end")
    method = ShapeGuided(settings_from(Settings, {"weights": {"rgb": "random-init"}}), "rgb+3d")
    p.fill(method.shape)
    p.fill(method.appearance.backbone)
    train = [described_scene(p, method, f"train{i}") for i in range(3)]
    test = [described_scene(p, method, f"test{i}") for i in range(2)]
    assert [len(x.pixels) for x in train + test] == f["patches"].tolist()
    first = train[0].pixels[0].numpy()
    assert (np.sort(first) == np.sort(f["train0_first_patch_pixels"])).all()

    builder = Builder()
    for x in train:
        builder.add(x.sdf, x.rgb, x.cells)
    method.memory = builder.join()
    assert len(method.memory.sdf) == f["sdf_bank_size"]
    assert len(method.memory.rgb) == f["rgb_bank_size"]
    scores = [method._maps(x, i, SIZE)[1] for i, x in enumerate(train)]
    for name in ("sdf", "rgb"):
        np.testing.assert_allclose([s[name] for s in scores], f[f"align_{name}_scores"], rtol=5e-5)
    maps = [method._left_out(x, i, SIZE) for i, x in enumerate(train)]
    rgb, sdf = (torch.stack([m[name] for m in maps]) for name in ("rgb", "sdf"))
    method.a, method.b = inference.alignment(rgb, sdf)
    assert method.a == pytest.approx(float(f["weight"]), rel=1.2e-4)
    assert method.b == pytest.approx(float(f["bias"]), rel=3e-4)

    for i, x in enumerate(test):
        maps, scores = method._maps(x, None, SIZE)
        fused, score = method.assess(x, SIZE)
        for name in ("sdf", "rgb"):
            assert scores[name].item() == pytest.approx(f[f"{name}_scores"][i], rel=5e-5)
        assert score.item() == pytest.approx(f["image_scores"][i], rel=1e-4)
        aligned = inference.aligned(maps["rgb"], method.a, method.b)
        soft = {
            "sdf": blurred(maps["sdf"]),
            "rgb": blurred(maps["rgb"]),
            "rgb_aligned": blurred(aligned),
            "fused": fused,
        }
        for name, got in soft.items():
            expected, top = f[f"{name}_map"][i], float(got.max())
            off = np.abs(got[::4, ::4].numpy() - expected)
            assert off.max() <= 1.02 * top / 255 and (off <= 1.2e-4 * top).mean() > 0.99, name
            np.testing.assert_allclose(statistics(got), f[f"{name}_map_stats"][i], rtol=1e-3)
