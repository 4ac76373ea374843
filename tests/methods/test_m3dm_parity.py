"""M3DM against the recorded numbers: extractors, alignment, fusion, banks, decision."""

import json

import numpy as np
import pytest
import torch
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from methods.blocks.backbones import ImageTokens
from methods.blocks.coreset import greedy_coreset
from methods.blocks.maps import enlarged
from methods.blocks.memory_bank import MemoryBank, reweighted_score
from methods.blocks.point_transformer import PointTransformer, encoder_keys
from methods.blocks.points import farthest_points, nearest_points, pack, take
from methods.contract import Run, Samples, settings_from
from methods.m3dm import pfa
from methods.m3dm.fusion import fit_svm, smooth_maps
from methods.m3dm.method import M3dm
from methods.m3dm.patches import Patches
from methods.m3dm.settings import Dlf, Score, Settings, Uff
from methods.m3dm.uff import FeatureFusion, contrastive_loss, updates

pytestmark = pytest.mark.parity


@pytest.fixture
def p(parity):
    return parity("m3dm")


def close(got, expected, atol=0.0, rtol=0.0):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=rtol, atol=atol)


def stats(values):
    values = np.asarray(values, np.float64)
    return np.array([values.mean(), values.std(), np.abs(values).sum()])


def cloud(p, name, n, scale=(0.05, 0.05, 0.01), off=(0, 0, 0.5)):
    """(1, n, 3)"""
    x = p.input(name, (1, 3, n)).astype(np.float64).transpose(0, 2, 1)
    return torch.from_numpy((x * scale + off).astype(np.float32))


def disc(p, name, radius):
    """An organised cloud (1, 224, 224, 3), zero outside a disc."""
    n = p.input(name, (3, 224, 224)).astype(np.float64)
    i, j = np.mgrid[:224, :224]
    xyz = np.stack(
        [
            0.0004 * (j - 111.5) + 1e-5 * n[0],
            0.0004 * (i - 111.5) + 1e-5 * n[1],
            0.5 + 0.002 * n[2],
        ]
    )
    xyz[:, (i - 111.5) ** 2 + (j - 111.5) ** 2 > radius**2] = 0
    return torch.from_numpy(xyz.astype(np.float32)).permute(1, 2, 0)[None].contiguous()


def grouped(points, count, size):
    valid = torch.ones(points.shape[:2], dtype=torch.bool)
    chosen = farthest_points(points, count, valid)
    centres = take(points, chosen)
    _, index = nearest_points(centres, points, size, valid)
    return chosen, centres, index, take(points, index) - centres[:, :, None]


@pytest.mark.parametrize(
    "tag, n, scale, off, count, size",
    [
        ("far", 2048, (0.05, 0.05, 0.01), (0, 0, 0.5), 64, 32),
        ("near", 1024, (0.05, 0.05, 0.05), (0, 0, 0), 48, 16),
    ],
)
def test_grouping_indices_are_exact(p, tag, n, scale, off, count, size):
    expected = p.npz("fps_knn")
    points = cloud(p, f"cloud_{tag}", n, scale, off)
    chosen, centres, index, groups = grouped(points, count, size)
    assert (chosen[0].numpy() == expected[f"{tag}_center_idx"]).all()
    assert (index[0].numpy() == expected[f"{tag}_knn_idx"]).all()
    close(centres[0], expected[f"{tag}_center"])
    close(groups[0, 0], expected[f"{tag}_neighborhood_first"])
    close(stats(groups), expected[f"{tag}_neighborhood_stat"], rtol=1e-5, atol=1e-8)
    near = (points[0].square().sum(1) <= 1e-3).nonzero()[:, 0].tolist()
    assert len(near) == expected[f"{tag}_skipped"]
    assert not set(near) & set(chosen[0, 1:].tolist())


@pytest.mark.parametrize("family", ["point_mae", "point_bert"])
def test_point_extractors_match_in_every_mode(p, family):
    name, expected = family.replace("_", ""), p.npz("point_extractor")
    net = PointTransformer(family).eval()
    layout = [[k, list(v.shape)] for k, v in net.state_dict().items()]
    assert layout == p.state_dict_list(f"{name}_extractor")
    p.fill(net)
    _, centres, _, groups = grouped(cloud(p, "cloud_mae", 1024), 64, 32)
    keep = torch.from_numpy(p.input("droppath_keep", (12, 2), "unit") >= 0.3)
    assert (keep.numpy() == expected["keep"]).all()
    cases = {
        "eval": ("eval", None),
        "trainbn": ("batchstat", None),
        "traindrop": ("official", net.drop_weights(keep[None])),
    }
    for case, (mode, weights) in cases.items():
        with torch.inference_mode():
            found = net(groups, centres, mode, weights)[0].T.numpy()  # (1152, 64)
            token = net.tokens(groups, mode != "eval")[0].numpy()
        close(found[::3, ::2], expected[f"{name}_{case}"], atol=2e-5)
        close(stats(found), expected[f"{name}_{case}_stat"], rtol=1e-5, atol=2e-6)
        if case != "traindrop":
            close(token[::4, ::4], expected[f"{name}_{case}_token"], atol=2e-5)


def test_stochastic_depth_changes_features_as_much_as_published(p):
    net = PointTransformer().eval()
    p.fill(net)
    _, centres, _, groups = grouped(cloud(p, "cloud_mae", 1024), 64, 32)
    rates = net.drop_rates()[:, None]
    changes = []
    with torch.inference_mode():
        tokens = net.tokens(groups, True)
        net.tokens = lambda *_: tokens
        plain = net(groups, centres)
        for seed in range(60):
            draw = torch.rand(12, 2, generator=torch.Generator().manual_seed(seed))
            found = net(groups, centres, "official", net.drop_weights((draw >= rates)[None]))
            changes.append(((found - plain).norm() / plain.norm()).item())
    expected = p.npz("point_extractor")["droppath_rel_change_quantiles_n200"]
    close(np.quantile(changes, 0), expected[0], rtol=1e-3)  # no branch dropped
    assert 0.5 * expected[3] < np.median(changes) < 1.5 * expected[3]


@pytest.mark.slow
@pytest.mark.parametrize("case, mode", [("eval", "eval"), ("trainbn", "batchstat")])
def test_the_point_extractor_matches_at_full_size(p, case, mode):
    expected = p.npz("point_extractor_full")
    net = PointTransformer().eval()
    p.fill(net)
    points = cloud(p, "cloud_full", 4096)
    chosen, centres, _, groups = grouped(points, 1024, 128)
    assert (chosen[0].numpy() == expected["center_idx"]).all()
    with torch.inference_mode():
        found = net(groups, centres, mode)
    close(found[0].T[::16, ::16], expected[case], atol=2e-5)
    close(stats(found), expected[f"{case}_stat"], rtol=1e-5, atol=2e-6)
    valid = torch.ones(points.shape[:2], dtype=torch.bool)
    weights, index = pfa.interpolation(points, valid, centres)
    some = index[:, ::64]
    each = (take(found, some) * weights[:, ::64, :, None]).sum(2)[0].T[::16]
    assert (each - torch.from_numpy(expected[f"{case}_interp"])).abs().mean() < 1e-3


@pytest.mark.parametrize(
    "name, key",
    [
        ("vit_base_patch8_224_dino", "b8"),
        ("vit_small_patch8_224_dino", "s8"),
    ],
)
def test_image_backbones_match(p, name, key):
    expected = p.npz("dino_vit")
    net = ImageTokens(name, 224)
    layout = [[k, list(v.shape)] for k, v in net.net.state_dict().items()]
    assert layout == p.state_dict_list(f"dino_vit_{key}")
    p.fill(net.net)
    with torch.inference_mode():
        found = net(torch.from_numpy(p.input("vit_image", (1, 3, 224, 224))))[0].numpy()
    close(found[::6, ::2, ::2], expected[key], atol=1e-4)
    close(stats(found), expected[f"{key}_stat"], rtol=1e-5, atol=1e-5)


def test_the_published_point_mae_file_loads_completely(p):
    layout = p.state_dict_list("pointmae_pretrain")
    state = {f"module.{k}": torch.zeros(shape) for k, shape in layout}
    found = encoder_keys({"base_model": state}, "point_mae")
    own = PointTransformer().state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in own.items()}


def test_alignment_of_point_features_matches(p):
    expected = p.npz("pfa")
    xyz = disc(p, "pfa_cloud", 60)
    points, valid, pixel = pack(xyz)
    count = int(valid.sum())
    assert count == expected["nonzero_count"]
    assert (pixel[0, :8].numpy() == expected["nonzero_first"]).all()
    assert (np.arange(64) * (count // 64) == expected["center_sel"]).all()
    centres = points[:, expected["center_sel"]]
    features = torch.from_numpy(p.input("pfa_features", (1, 8, 64))).transpose(1, 2)
    weights, index = pfa.interpolation(points, valid, centres)
    each = (take(features, index) * weights[..., None]).sum(dim=2)[0].T
    close(each[:, ::7], expected["interpolated_ref_f64"], atol=1e-6)
    for grid, most in ((56, 0.03), (28, 0.03)):
        operators = pfa.operators(xyz, centres, grid, "nearest3")
        found = pfa.align(operators, features)[0].T.reshape(8, grid, grid)
        off = np.abs(found.numpy() - expected[f"pooled{grid}"])
        assert off.max() < most and off.mean() < 2e-4  # the official noise
        whole = torch.zeros(8, 224 * 224)
        whole[:, pixel[0]] = each
        K = pfa.pooling(224, grid)
        close(found, K @ whole.view(8, 224, 224) @ K.T, atol=2e-6)  # the noise is not ours
        assert (pfa.bins(222, grid).numpy() == expected[f"bins{grid}"]).all()
        given = torch.from_numpy(p.input("pool_map", (1, 4, 224, 224)))
        close((K @ given @ K.T)[0], expected[f"pool_only{grid}"], atol=1e-6)


def test_image_patches_and_their_published_misalignment_match(p):
    expected = p.npz("pfa")
    given = torch.from_numpy(p.input("rgb_map", (1, 6, 28, 28)))
    close(pfa.image_patches(given, 56)[0, ::5], expected["rgb56"])
    assert (pfa.misaligned(28, 56).numpy() == expected["saved_feature_rgb_index"]).all()
    right = pfa.image_patches(torch.arange(784.0).view(1, 1, 28, 28), 56)[0, :, 0].int()
    assert (right.numpy() == expected["correct_rgb_index"]).all()


def test_the_fusion_network_its_loss_and_gradients_match(p):
    expected = p.npz("uff")
    net = FeatureFusion()
    layout = [[k, list(v.shape)] for k, v in net.state_dict().items()]
    assert layout == p.state_dict_list("uff")
    p.fill(net)
    xyz = torch.from_numpy(p.input("uff_xyz", (2, 49, 1152)))
    xyz[0, 3:8] = xyz[1, 40:45] = xyz[1, 10, 17] = 0
    rgb = torch.from_numpy(p.input("uff_rgb", (2, 49, 768)))
    found = net(xyz, rgb).detach().numpy()
    close(found[:, ::6, ::8], expected["fused"], atol=1e-5)
    close(stats(found), expected["fused_stat"], rtol=1e-5, atol=1e-6)
    loss = net.loss(xyz.flatten(0, 1), rgb.flatten(0, 1))
    close(loss.item(), expected["loss"], rtol=1e-5)
    loss.backward()
    parameters = dict(net.named_parameters())
    names = json.loads((p._own / "uff.grad_norm_names.json").read_text())
    close([parameters[n].grad.norm().item() for n in names], expected["grad_norm"], rtol=1e-5)
    bias = parameters["xyz_head.bias"].grad[::8]
    close(bias, expected["grad_xyz_head_bias"], rtol=1e-4, atol=1e-7)


def test_the_contrastive_loss_and_the_schedule_match(p):
    expected = p.npz("uff")
    q, k = (torch.from_numpy(p.input(f"cl_{n}", (37, 256))) for n in "qk")
    close(contrastive_loss(q, k).item(), expected["contrastive_loss"], rtol=1e-5)
    rates = [lr for _, _, lr in updates(2656, Uff())]
    close(rates, expected["lr_updates"], rtol=1e-6)


def test_scores_and_maps_of_one_bank_match(p):
    expected = p.npz("scores")
    bank = torch.from_numpy(p.input("score_bank", (600, 48)))
    patch = torch.from_numpy(1.2 * p.input("score_patch", (784, 48)) + np.float32(0.3))

    def score_and_map(rows, patches, **options):
        memory = MemoryBank(rows)
        nearest = memory.nearest(patches)
        score = reweighted_score(memory, patches, nearest, **options)
        plain = enlarged(nearest.distance[None], 224)
        return nearest, score.item(), plain[0], smooth_maps(plain, Score())[0]

    mean, std = bank.mean(), bank.std()
    close(mean, expected["dino_mean"], atol=1e-7)
    close(std, expected["dino_std"], rtol=1e-6)
    _, score, _, found = score_and_map((bank - mean) / std, (patch - mean) / std, eps=1e-5)
    close(score, expected["dino_image_score"], rtol=1e-5)
    same_map(found, expected, "dino_map")

    nearest, score, plain, found = score_and_map(bank, patch, eps=1e-5)
    close(score, expected["point_image_score"], rtol=1e-5)
    close(nearest.distance, expected["point_min_val"], atol=1e-5)
    assert (nearest.index.numpy() == expected["point_min_idx"]).all()
    assert int(nearest.distance.argmax()) == expected["s_star_index"]
    memory = MemoryBank(bank)
    _, around = memory.neighbours(bank[nearest.index[nearest.distance.argmax()]], 3)
    assert (around.numpy() == expected["nn_idx"]).all()
    close(plain[::4, ::4], expected["point_upsampled"], atol=1e-5)
    same_map(found, expected, "point_map")

    _, score, _, found = score_and_map(bank, patch)
    for name in ("fusion_image_score", "add_s", "triple_s"):
        close(score, expected[name], rtol=1e-5)
    same_map(found, expected, "fusion_map")
    _, score, _, _ = score_and_map(bank, patch, divisor=1000.0)
    close(score, expected["double_s"], rtol=1e-5)


def same_map(found, expected, name):
    """Within one 8-bit level at a few pixels, equal elsewhere."""
    off = np.abs(found[::4, ::4].numpy() - expected[name])
    assert off.max() <= found.max().item() / 255 * 1.01 and (off > 1e-5).mean() < 0.01
    close(stats(found), expected[f"{name}_stat"], rtol=1e-4)


def test_coresets_are_exact(p):
    expected = p.npz("coreset")
    bank = torch.from_numpy(p.input("coreset_bank", (800, 256)))
    matrix = torch.from_numpy(expected["sign"] * expected["scale"])
    z = bank @ matrix.T
    close(z[::10, ::5], expected["projected"], atol=1e-5)
    close(stats(z), expected["projected_stat"], rtol=1e-5, atol=1e-6)
    small = torch.from_numpy(p.input("coreset_small", (400, 16)))
    for dtype in ("float32", "float16"):
        count = len(expected[f"idx_{dtype}"])
        assert (greedy_coreset(z, count, dtype).numpy() == expected[f"idx_{dtype}"]).all()
        wanted = expected[f"noproj_idx_{dtype}"]
        assert (greedy_coreset(small, len(wanted), dtype).numpy() == wanted).all()
    sizes = [int(johnson_lindenstrauss_min_dim(int(n), eps=0.9)) for n in expected["jl_n"]]
    assert sizes == expected["jl_dim"].tolist()


def test_the_blur_is_pillows(p):
    expected = p.npz("blur")
    given = torch.from_numpy(p.input("blur_map", (1, 1, 56, 56), "unit"))
    maps = enlarged((7 * given + 0.5).flatten(1), 224)
    close(maps.max(), expected["max_in"], rtol=1e-6)
    found = smooth_maps(maps, Score())[0]
    close(found[::2, ::2], expected["out"], atol=1e-6)
    close(stats(found), expected["out_stat"], rtol=1e-6)
    levels = (found / maps.max() * 255).round().int()
    assert (levels[::2, ::2].numpy() == expected["out_level"]).all()
    impulse = torch.zeros(1, 224, 224)
    impulse[0, 112, 112] = 1
    found = (smooth_maps(impulse, Score())[0, 92:133, 92:133] * 255).round().int()
    assert (found.numpy() == expected["impulse_level"]).all()
    step = torch.zeros(1, 224, 224)
    step[..., :112] = 2
    close(smooth_maps(step, Score())[0, 100], expected["step_row"], atol=1e-6)


def test_one_class_svms_match(p):
    expected = p.npz("dlf")
    s = np.float32(np.abs(p.input("dlf_s", (40, 3))) * 0.1 + np.array((1.0, 0.05, 0.7)))
    maps = np.abs(p.input("dlf_smap", (20000, 3))) * np.array((0.2, 0.03, 0.15))
    maps = np.float32(maps + np.array((0.1, 0.02, 0.2)))
    test = np.float32(np.abs(p.input("dlf_test", (64, 3))) * np.array((0.4, 0.05, 0.3)))
    for name, features in (("detect", s), ("seg", maps)):
        weights = fit_svm(features, Dlf())
        close(weights, expected[f"{name}_coef_f64"], rtol=1e-6)
        close(test @ weights, expected[f"{name}_score_samples_f64"], rtol=1e-6)
    close(test @ expected["given_coef_f64"], expected["given_scores_f64"], rtol=1e-6)


class GivenPatches(Patches):
    """Extractor outputs of the pipeline fixture: interpolated features instead of centres'."""

    def __init__(self, p, settings, uff):
        super().__init__(self.given, settings.pfa, uff)
        self.p = p

    def given(self, batch, late=False):
        maps, interp = [], []
        for tag in batch.ids:
            xyz = disc(self.p, f"pipe_{tag}_cloud", 50)
            _, valid, pixel = pack(xyz)
            shapes = {"interp": (1, 12, int(valid.sum())), "rgb": (1, 8, 28, 28)}
            x, rgb = (self.p.input(f"pipe_{tag}_{k}", shape) for k, shape in shapes.items())
            if late:
                x, rgb = (
                    given + np.float32(0.1) * self.p.input(f"pipe_{tag}_{k}_late", shape)
                    for given, (k, shape) in zip((x, rgb), shapes.items())
                )
            whole = torch.zeros(12, 224 * 224)
            whole[:, pixel[0]] = torch.from_numpy(x[0])
            interp.append(whole.view(12, 224, 224))
            maps.append(torch.from_numpy(rgb[0]))
        return {"interp": torch.stack(interp), "rgb": torch.stack(maps)}

    def on_grid(self, batch, found):
        K = pfa.pooling(224, self.pfa.grid)
        return (K @ found["interp"] @ K.T).flatten(2).transpose(1, 2)


PIPELINES = {
    "triple": {},
    "double": {"banks": "xyz,rgb"},
    "add": {"banks": "xyz,rgb", "decision": "sum"},
}


@pytest.mark.parametrize("percent", [100, 10])
@pytest.mark.parametrize("name", PIPELINES)
def test_whole_methods_match(p, name, percent, monkeypatch):
    expected = {k[len(name) + 1 :]: v for k, v in p.npz("pipeline").items() if k.startswith(name)}
    settings = settings_from(
        Settings,
        {
            **PIPELINES[name],
            "weights": {"rgb": "random-init", "point": "random-init"},
            "coreset": {"share": percent / 100, "dtype": "float16"},
        },
    )
    uff = FeatureFusion(12, 8)
    layout = [[k, list(v.shape)] for k, v in uff.state_dict().items()]
    assert layout == p.state_dict_list("pipeline_uff")
    p.fill(uff)
    uff.eval().requires_grad_(False)
    method = M3dm(settings, "rgb+3d", Run())
    method.patches = GivenPatches(p, settings, uff if name == "triple" else None)
    monkeypatch.setattr(method, "_fusion_network", lambda train: method.patches.uff)
    seen = {}
    if percent == 10:
        chosen = iter(expected[f"f10_coreset_{bank}"] for bank in method.names)

        def checked(z, count, dtype, report):
            found, wanted = greedy_coreset(z, count, dtype, report), next(chosen)
            assert (found.numpy() == wanted).all()
            return found

        monkeypatch.setattr("methods.m3dm.method.greedy_coreset", checked)
    original = fit_svm
    monkeypatch.setattr(
        "methods.m3dm.method.fit_svm",
        lambda x, s: seen.setdefault(("map" if len(x) > 4 else "score"), (x, original(x, s)))[1],
    )
    xyz = np.zeros((4, 1, 1, 1), np.float32)
    train = Samples({"xyz": xyz}, tuple(f"train{i}" for i in range(4)))
    method.fit(train, train)

    mean_std = np.array([*method.moments["xyz"], *method.moments["rgb"]])
    close(mean_std[[0, 1]], expected["mean_std"][[0, 3]], rtol=1e-5)
    assert method.moments["xyz"] == method.moments["rgb"]
    got = [len(method.banks[b]) if b in method.banks else 0 for b in ("xyz", "rgb", "fusion")]
    tag = f"f{percent}"
    assert got == expected[f"{tag}_bank_rows"].tolist()
    if name != "add":
        scores, weights = seen["score"]
        close(scores, expected[f"{tag}_s_lib"], rtol=1e-4, atol=1e-9)
        close(weights, expected[f"{tag}_detect_coef"], rtol=1e-4)
        maps, weights = seen["map"]
        columns = np.stack([stats(column) for column in maps.T])
        close(columns, expected[f"{tag}_s_map_lib_stat"], rtol=1e-3)
        top = maps.max(axis=0)
        assert (np.abs(maps[::4001] - expected[f"{tag}_s_map_lib"]) <= 5e-3 * top).all()
        close(weights, expected[f"{tag}_seg_coef"], rtol=5e-3)
    test = Samples({"xyz": xyz[:2]}, ("test0", "test1"))
    found = method.predict(test.batch(range(2)))
    close(found.scores, expected[f"{tag}_image_preds"], rtol=1e-4)
    top = found.maps.max().item()
    close(found.maps[0, ::8, ::8], expected[f"{tag}_pred_map0"], atol=5e-3 * top)
    for i in range(2):
        close(stats(found.maps[i]), expected[f"{tag}_pred_map_stat"][i], rtol=5e-3)


def test_patches_of_the_pipeline_match(p):
    expected = p.npz("pipeline")
    uff = FeatureFusion(12, 8)
    p.fill(uff)
    patches = GivenPatches(p, Settings(), uff)
    train = Samples({"xyz": np.zeros((1, 1))}, ("train0",)).batch([0])
    found = patches(train, ("xyz", "fusion"))
    for name in ("xyz", "fusion"):
        grid = found[name][0].reshape(56, 56, -1)
        close(grid[::4, ::4], expected[f"{name}_patch"], atol=1e-5)
