"""M3DM as a plug-in: exact beside the plain version, shared features, clear faults."""

import argparse
from functools import partial

import numpy as np
import pytest
import torch

from methods.blocks import bank_of_products
from methods.blocks.at_once import AtOnce
from methods.blocks.bank_of_products import BankOfProducts
from methods.blocks.coreset import greedy_coreset, projection_matrix
from methods.blocks.memory_bank import MemoryBank, distinct
from methods.blocks.point_transformer import PointTransformer
from methods.blocks.weights import fit_own, load
from methods.contract import Run, settings_from
from methods.m3dm import pfa
from methods.m3dm.features import Cache, PointFeatures, RgbFeatures
from methods.m3dm.fusion import fit_svm, smooth_maps
from methods.m3dm.method import M3dm
from methods.m3dm.settings import Dlf, Score, Settings, Uff
from methods.m3dm.uff import FeatureFusion, sample_order, updates
from methods.m3dm.uff_stage import UffStage
from methods.m3dm.weights import make_uff, point_network, rgb_network
from methods.marks import RANDOM_INIT
from reports.numbers.published import published
from tests.harness.conftest import checkpoint
from tests.methods import m3dm_oracle as oracle
from tests.methods.tiny import SAMPLES, SIZES, Killed, Stages, kill_at, tiny_of

SIZE, tiny = SIZES["m3dm"], partial(tiny_of, "m3dm")


@pytest.fixture(scope="module")
def samples():
    return SAMPLES["m3dm"]()


def without_ids(batch):
    return type(batch)(batch.arrays, tuple(f"no/{i}" for i in range(len(batch))))


@pytest.fixture(scope="module")
def stages(samples, tmp_path_factory):
    return Stages("m3dm", samples, tmp_path_factory.mktemp)


def fitted(samples, stages, settings, setting="rgb+3d", **run):
    method = M3dm(settings, setting, Run(category="disc", stages=stages(settings, setting), **run))
    method.fit(samples, samples)
    return method


ROWS = [
    ("rgb", ""),
    ("3d", ""),
    *(("rgb+3d", v) for v in ("wo_uff", "w_uff", "wo_dlf", "w_dlf", "")),
]


@pytest.mark.parametrize("setting, variant", ROWS)
def test_every_row_of_table_4_is_exact_and_independent_of_batching(
    samples, stages, setting, variant, tmp_path
):
    settings = tiny(variant)
    method = fitted(samples, stages, settings, setting)
    many = method.predict(samples.batch(range(9)))
    assert many.maps.shape == (9, SIZE, SIZE) and many.scores.shape == (9,)
    assert many.maps.dtype == many.scores.dtype == torch.float32
    assert torch.isfinite(many.maps).all() and (many.maps >= 0).all()
    for i in (0, 5):
        one = method.predict(samples.batch([i]))
        close(one.maps[0], many.maps[i], 0.02)  # 8-bit levels may tip
        close(one.scores[0], many.scores[i], 1e-4)
        computed = method.predict(without_ids(samples.batch([i])))
        close(computed.scores[0], many.scores[i], 1e-3)
        slow = slow_prediction(method, samples.batch([i]))
        close(slow[0], many.scores[i], 1e-4)
        close(slow[1], many.maps[i], 0.02)

    method.save(tmp_path)
    loaded = M3dm(settings, setting, Run(category="disc", stages=stages(settings, setting)))
    loaded.load(tmp_path)
    again = loaded.predict(samples.batch(range(9)))
    assert torch.equal(again.maps, many.maps) and torch.equal(again.scores, many.scores)


def close(got, expected, share):
    """Within a share of the largest value."""
    assert (got - expected).abs().max() <= share * expected.abs().max()


def slow_prediction(method, batch):
    found = method.patches.features(batch)
    s, scores, maps = method.settings, [], []
    for name in method.names:
        if name != "rgb":
            xyz = oracle.xyz_patches(batch["xyz"][0], found["centres"][0], found["point"][0], 12)
        if name == "rgb":
            x = oracle.rgb_patches(found["rgb"][0], found["rgb"].shape[2])
        elif name == "xyz":
            x = xyz
        else:
            rgb = oracle.rgb_patches(found["rgb"][0], 12)
            uff = method.patches.uff
            x = torch.cat([xyz, rgb], 1) if uff is None else uff(xyz, rgb)
        eps = 1e-5 if method.names in (("xyz",), ("rgb",)) else 0.0
        two = method.names == ("xyz", "rgb") and s.decision == "dlf"
        x = method._normalised(name, x)
        score, image = oracle.score(
            x, method.banks[name].rows, SIZE, s.score, eps, 1000.0 if two else 1.0
        )
        scores.append(score)
        maps.append(image)
    if not method.decision:
        return sum(scores), sum(maps)
    weights = [dict(xyz=1.0, rgb=0.1, fusion=1.0)[name] for name in method.names]
    a, b = (method.decision[k].tolist() for k in ("scores", "maps"))
    return (
        sum(w * c * s for w, c, s in zip(weights, a, scores)),
        sum(w * c * m for w, c, m in zip(weights, b, maps)),
    )


def test_another_seed_draws_another_projection():
    matrices = [projection_matrix(500, 400, 0.9, seed) for seed in (1, 1, 2)]
    assert (matrices[0] == matrices[1]).all() and (matrices[0] != matrices[2]).any()


def test_no_random_projection_where_it_would_not_shrink():
    assert projection_matrix(1000, 50, 0.9, 0) is None


@pytest.mark.parametrize("half", [False, True])
def test_the_coreset_is_that_of_the_plain_loop(half):
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1500, 6, generator=generator)
    z = torch.tanh(latent) @ torch.randn(6, 90, generator=generator)
    z += 0.03 * torch.randn(1500, 90, generator=generator)
    z[::4] = z[0]  # empty patches are all alike
    dtype = "float16" if half else "float32"
    assert torch.equal(greedy_coreset(z, 600, dtype), oracle.coreset(z, 600, half))


def test_the_coreset_does_not_know_of_shift_and_scale_and_bad_sizes_are_refused():
    z = torch.randn(300, 20, generator=torch.Generator().manual_seed(1))
    assert torch.equal(greedy_coreset(z, 50), greedy_coreset((z + 0.5) * 4, 50))
    with pytest.raises(ValueError, match="301 rows out of 300"):
        greedy_coreset(z, 301)


@pytest.mark.parametrize("kind", [MemoryBank, BankOfProducts])
@pytest.mark.parametrize("rank", [4, 300])
def test_the_nearest_rows_are_those_of_all_distances(rank, kind, monkeypatch):
    """rank 4: the bound leaves few rows; 300: white noise, which the products must settle."""
    g = torch.Generator().manual_seed(rank)
    mix = torch.randn(rank, 300, generator=g)
    rows, queries = (torch.randn(n, rank, generator=g) @ mix for n in (3000, 200))
    queries[:20] = rows[100:120]
    queries[20:60] = queries[20]
    rows[2000] = rows[7]
    queries[60] = rows[7]
    if kind is BankOfProducts:  # of several blocks
        monkeypatch.setattr(bank_of_products, "ENTRIES", AtOnce(1 << 18, 1 << 18))
    found = kind(rows).nearest(queries)
    plainly = {"compute_mode": "donot_use_mm_for_euclid_dist"}
    exact = torch.cdist(queries.double(), rows.double(), **plainly)
    expected = exact.min(dim=1)
    torch.testing.assert_close(found.distance.double(), expected.values, rtol=1e-5, atol=1e-5)
    assert (found.index == expected.indices).float().mean() > 0.99
    assert found.distance[:20].eq(0).all() and found.index[60] == 7


@pytest.mark.parametrize("kind", [MemoryBank, BankOfProducts])
def test_neighbours_of_a_row_are_itself_and_the_nearest_others(kind):
    g = torch.Generator().manual_seed(2)
    rows = torch.randn(2000, 5, generator=g) @ torch.randn(5, 90, generator=g)
    bank = kind(rows)
    exact = (rows.double() - rows[40].double()).norm(dim=1).sort()
    distance, index = bank.neighbours(rows[40], 4)
    assert index.tolist() == exact.indices[:4].tolist() and index[0] == 40
    torch.testing.assert_close(distance.double(), exact.values[:4], rtol=1e-5, atol=1e-5)
    assert len(kind(rows[:2]).neighbours(rows[0], 3)[1]) == 2


def test_distinct_rows_make_up_all_rows():
    g = torch.Generator().manual_seed(3)
    rows = torch.randn(40, 7, generator=g)[torch.randint(40, (300,), generator=g)]
    some, which = distinct(rows)
    assert torch.equal(rows[some][which], rows) and len(some) == len(rows.unique(dim=0))


@pytest.mark.parametrize("rule", ["nearest3", "all"])
def test_alignment_matches_the_whole_map(samples, rule):
    xyz = torch.from_numpy(samples.arrays["xyz"][:2])
    g = torch.Generator().manual_seed(0)
    centres = 0.03 * torch.randn(2, 20, 3, generator=g) + torch.tensor([0, 0, 0.5])
    features = torch.randn(2, 20, 5, generator=g)
    for grid in (12, 7):
        found = pfa.align(pfa.operators(xyz, centres, grid, rule), features)
        for i in range(2):
            if rule == "nearest3":
                slow = oracle.xyz_patches(xyz[i], centres[i], features[i], grid)
            else:
                flat = xyz[i].flatten(0, 1)
                pixel = (flat != 0).all(1).nonzero()[:, 0]
                weights = 1 / ((flat[pixel][:, None] - centres[i]).norm(dim=2) + 1e-8)
                whole = torch.zeros(5, len(flat))
                whole[:, pixel] = (weights / weights.sum() @ features[i]).T
                K = pfa.pooling(SIZE, grid)
                slow = (K @ whole.view(5, SIZE, SIZE) @ K.T).flatten(1).T
            close(found[i], slow, 1e-4)


@pytest.mark.parametrize(
    "variant, setting",
    [
        ("paper", "rgb+3d"),
        ("authors_literal", "rgb+3d"),
        ("authors", "3d"),
        ("pfa_s64_n784_group", "3d"),
        ("pfa_s64_n784_group", "rgb"),
        ("pfa_s128_n1024_group", "3d"),
        ("pfa_s64_n784_patch28", "3d"),
        ("pfa_s128_n1024_patch28", "3d"),
        ("backbone_vit_b8_imagenet1k", "rgb"),
        ("backbone_vit_b8_imagenet21k", "rgb"),
        ("backbone_vit_s8_dino", "rgb"),
        ("backbone_point_bert", "3d"),
    ],
)
def test_presets_and_table_rows_run(samples, stages, variant, setting):
    size = {"pfa__grid": 6} if "patch28" in variant else {}
    size |= {"point__groups": 20, "point__group_size": 8} if "pfa_" in variant else {}
    size |= {"uff__iterations": 3} if variant == "paper" else {}
    method = fitted(samples, stages, tiny(variant, **size), setting)
    found = method.predict(samples.batch(range(3)))
    assert torch.isfinite(found.maps).all() and found.scores.shape == (3,)


def test_every_row_that_the_paper_prints_of_it_is_a_variant_or_few_shot():
    rows = published()
    printed = set(rows[(rows["source"] == "m3dm") & (rows["method_key"] == "m3dm")]["variant"])
    assert printed <= {"", "shot_5", "shot_10", "shot_50", *M3dm.variants} and len(printed) > 15


@pytest.mark.parametrize("variant", ["pfa_s64_n784_group", "pfa_s128_n1024_group"])
def test_banks_of_groups_go_with_the_fusion_of_patches(samples, stages, variant):
    small = {"point__groups": 24, "point__group_size": 8}
    method = fitted(samples, stages, tiny(variant, **small))
    whole = fitted(samples, stages, tiny(**small))
    assert torch.equal(method.patches.uff.xyz_head.weight, whole.patches.uff.xyz_head.weight)
    found = method.patches(samples.batch([0]), method.names)
    expected = whole.patches(samples.batch([0]), whole.names)
    assert found["xyz"].shape[1] == 24 and expected["xyz"].shape[1] == 144
    assert torch.equal(found["fusion"], expected["fusion"])
    assert torch.isfinite(method.predict(samples.batch([0])).maps).all()


def test_group_scores_reach_the_pixels(samples, stages):
    method = fitted(samples, stages, tiny(pfa__level="group", score__blur="none"), "3d")
    assert method.banks["xyz"].rows.shape[1] == 72
    batch = samples.batch(range(2))
    found = method.predict(batch)
    empty = (batch["xyz"] == 0).any(dim=3)
    assert (found.maps[empty] == 0).all() and (found.maps[~empty] > 0).any()


def test_features_kept_in_half_precision_give_what_computed_ones_give(samples, stages):
    method = fitted(samples, stages, tiny(cache="float16"), "3d")
    batch = samples.batch(range(3))
    kept, computed = (method.patches.features(b) for b in (batch, without_ids(batch)))
    assert torch.equal(kept["centres"], computed["centres"])
    close(kept["point"], computed["point"], 2e-3)
    assert torch.equal(kept["point"], kept["point"].half().float())


def test_stochastic_depth_draws_anew_in_the_second_pass_and_repeats(samples, stages):
    settings = tiny(point__mode="official", point__drop_path=0.8)
    method = fitted(samples, stages, settings, "3d")
    features, batch = method.patches.features, samples.batch([2])
    first, late = features(batch)["point"], features(batch, late=True)["point"]
    assert not torch.equal(first, late)
    options = M3dm.stage_settings(method.settings, "3d")["point_features"]
    extract = PointFeatures.extractor(options, "cpu")
    torch.testing.assert_close(extract(batch, "disc", True)["point"], late)


def test_a_killed_feature_stage_goes_on_and_gives_the_same_files(samples, tmp_path):
    options = M3dm.stage_settings(tiny(), "rgb")["rgb_features"]

    def stage(folder, **run):
        folder.mkdir(exist_ok=True)
        run = Run(category="disc", folder=folder, checkpoint_every_s=0.0, **run)
        return RgbFeatures(options, run)

    data = {"train": samples, "test": samples}

    with pytest.raises(Killed):
        stage(tmp_path / "a", report=kill_at("features", 12)).fit(data)
    seen = []
    stage(tmp_path / "a", report=lambda p: seen.append(p.step)).fit(data)
    assert seen[0] == 12  # 9 of train were done, and saved
    stage(tmp_path / "b").fit(data)
    for split in data:
        a, b = (np.load(tmp_path / x / split / "rgb.npy") for x in "ab")
        assert (a == b).all() and a.shape == (9, 192, 6, 6)


def test_a_resumed_fusion_training_equals_an_undisturbed_one(samples, tmp_path, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    options = M3dm.stage_settings(tiny(), "rgb+3d")["uff"]

    def stage(**run):
        return UffStage(options, Run(category="all", checkpoint_every_s=0.0, **run))

    whole = stage()
    whole.fit({"disc": samples})

    with pytest.raises(Killed):
        stage(folder=tmp_path, report=kill_at("train", 3)).fit({"disc": samples})
    resumed = stage(folder=tmp_path)
    resumed.fit({"disc": samples})
    for a, b in zip(whole.net.parameters(), resumed.net.parameters()):
        assert torch.equal(a, b)


def test_fusion_training_lowers_the_loss_of_pairs_that_belong_together(samples, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    options = M3dm.stage_settings(tiny(uff__epochs=12, uff__lr=1e-3), "rgb+3d")["uff"]
    losses = []
    UffStage(options, Run(report=lambda p: losses.append(p.loss))).fit({"disc": samples})
    assert np.mean(losses[-2:]) < losses[0]


def test_too_few_samples_for_an_update_are_refused(samples):
    options = M3dm.stage_settings(tiny(uff__accumulation=16), "rgb+3d")["uff"]
    with pytest.raises(ValueError, match="2 iterations an epoch, and an update takes 16"):
        UffStage(options).fit({"disc": samples})


def test_epochs_show_every_sample_once_and_drop_the_rest():
    s = Uff(batch=4)
    order = sample_order(11, 0, s, seed=0)
    assert order.shape == (2, 4) and len(set(order.ravel().tolist())) == 8
    assert (order != sample_order(11, 1, s, seed=0)).any()
    long = sample_order(5, 0, Uff(batch=4, iterations=5), seed=0)
    assert long.shape == (5, 4) and (np.bincount(long.ravel()) == 4).all()
    assert len(updates(11, Uff(batch=4, accumulation=2))) == 3


def test_missing_weights_say_what_to_get_and_the_literal_for_random_ones(tmp_path):
    for setting, said in [
        ("rgb", "m3dm.weights.rgb .*dino_vitbase8_pretrain.pth"),
        ("3d", "m3dm.weights.point .*pointmae_pretrain.pth.*SHA-256"),
    ]:
        with pytest.raises(ValueError, match=f"(?s){said}.*random-init"):
            M3dm.inputs(Settings(), setting)
        with pytest.raises(FileNotFoundError, match="nothing.pth is not a file"):
            gone = {"rgb": str(tmp_path / "nothing.pth"), "point": str(tmp_path / "nothing.pth")}
            M3dm.inputs(settings_from(Settings, {"weights": gone}), setting)


def test_inputs_name_the_files_in_use_and_folders_hold_one_for_each_backbone(tmp_path):
    for name in ("dino_vitbase8", "dino_deitsmall8", "pointmae"):
        checkpoint(tmp_path / f"{name}_pretrain.pth")
    both = {"weights": {"rgb": str(tmp_path), "point": str(tmp_path)}}
    settings = settings_from(Settings, both)
    assert M3dm.inputs(settings, "rgb+3d") == {
        "weights.rgb": tmp_path / "dino_vitbase8_pretrain.pth",
        "weights.point": tmp_path / "pointmae_pretrain.pth",
        "weights.uff": None,
    }
    small = settings_from(Settings, {**both, "rgb": {"backbone": "vit_small_patch8_224_dino"}})
    found = M3dm.inputs(small, "rgb")
    assert found["weights.rgb"].name == "dino_deitsmall8_pretrain.pth"
    assert found["weights.point"] is None
    assert M3dm.inputs(tiny(), "rgb+3d") == {"weights.uff": None}  # literals stay as they are
    assert M3dm.inputs(tiny(), "rgb") == {"weights.point": None, "weights.uff": None}


def test_wrong_weights_name_the_keys(tmp_path):
    s = tiny().point
    net = point_network(s, RANDOM_INIT)
    state = {f"module.MAE_encoder.{k}": v for k, v in net.state_dict().items()}
    path = tmp_path / "pointmae_pretrain.pth"
    torch.save({"base_model": {**state, "module.mask_token": torch.zeros(1)}}, path)
    loaded = point_network(s, str(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), loaded.parameters()))
    del state["module.MAE_encoder.norm.bias"]
    torch.save({"base_model": state}, path)
    with pytest.raises(ValueError, match="PointTransformer .*, 1 missing: norm.bias;"):
        point_network(s, str(path))
    with pytest.raises(ValueError, match="39 differing: .*blocks"):
        narrow = PointTransformer(width=12, depth=3, heads=2)
        load(narrow, fit_own(net.state_dict(), narrow), "wide")


def test_published_image_weights_load_and_fit_another_size(tmp_path):
    s = tiny().rgb
    net = rgb_network(s, 48, RANDOM_INIT)
    path = tmp_path / "vit.pth"
    torch.save({**net.net.state_dict(), "head.weight": torch.zeros(3, 192)}, path)
    same, larger = rgb_network(s, 48, str(path)), rgb_network(s, 64, str(path))
    image = torch.rand(1, 3, 48, 48)
    assert torch.equal(same(image), net(image))
    assert larger(torch.rand(1, 3, 64, 64)).shape == (1, 192, 8, 8)


def test_the_authors_fusion_file_loads(samples, stages, tmp_path):
    net = make_uff(72, 192, 4, 16, "other")
    path = tmp_path / "uff.pth"
    torch.save({"model": net.state_dict(), "epoch": 0, "args": argparse.Namespace(lr=0.003)}, path)
    settings = tiny(weights__uff=str(path), banks="fusion")
    assert "uff" not in M3dm.stage_settings(settings, "rgb+3d")
    method = fitted(samples, stages, settings)
    for a, b in zip(method.patches.uff.parameters(), net.parameters()):
        assert torch.equal(a, b)
    assert method.notes() == {"weights": RANDOM_INIT, "uff": "file"}


def test_a_missing_fusion_stage_is_named(samples):
    with pytest.raises(ValueError, match="run the stage 'uff' first"):
        M3dm(tiny(), "rgb+3d", Run(category="disc")).fit(samples, samples)


def test_stages_ask_only_for_what_the_setting_uses():
    wanted = {
        ("rgb", ""): {"rgb_features"},
        ("3d", ""): {"point_features"},
        ("rgb+3d", "wo_dlf"): {"rgb_features", "point_features"},
        ("rgb+3d", "wo_uff"): {"rgb_features", "point_features"},
        ("rgb+3d", ""): {"rgb_features", "point_features", "uff"},
    }
    for (setting, variant), names in wanted.items():
        assert set(M3dm.stage_settings(tiny(variant), setting)) == names
    variants = ("", "wo_uff", "paper")
    shared = [M3dm.stage_settings(tiny(v), "rgb+3d")["rgb_features"] for v in variants]
    assert shared[0] == shared[1] == shared[2]
    assert M3dm.stages["uff"].inputs(M3dm.stage_settings(tiny(), "rgb+3d")["uff"]) == {}


def test_the_cache_knows_only_what_it_has(samples, stages):
    folder = stages(tiny(), "rgb")["rgb_features"]
    cache = Cache(folder, ("rgb",))
    assert cache.get(samples.ids[3:5])["rgb"].shape == (2, 192, 6, 6)
    assert cache.get(("train/good/003", "elsewhere")) is None


def test_notes_and_sizes_tell_what_a_result_rests_on(samples, stages):
    method = fitted(samples, stages, tiny(), "rgb+3d")
    assert method.notes() == {"weights": RANDOM_INIT, "uff": "trained"}
    sizes = method.sizes()
    rows = 9 * 144 // 10
    assert sizes["xyz_rows"] == rows + 1 and sizes["rgb_rows"] == sizes["fusion_rows"] == rows // 10
    assert sizes["bank_bytes"] == 4 * sum(b.rows.numel() for b in method.banks.values())
    s = method.settings
    nets = [
        rgb_network(s.rgb, SIZE, RANDOM_INIT),
        point_network(s.point, RANDOM_INIT),
        method.patches.uff,
    ]
    parameters = [sum(p.numel() for p in net.parameters()) for net in nets]
    assert sizes["parameters"] == sum(parameters) and sizes["weight_bytes"] >= 4 * sum(parameters)
    assert M3dm(s, "rgb", Run(category="disc")).sizes()["parameters"] == parameters[0]


def test_blurs_agree_and_constant_maps_stay(samples):
    maps = torch.rand(2, 60, 60, generator=torch.Generator().manual_seed(0))
    by_levels, by_floats = (smooth_maps(maps, Score(blur=b)) for b in ("pil8", "float"))
    assert (by_levels - by_floats).abs().mean() < 0.02 < (maps - by_floats).abs().mean()
    assert torch.equal(smooth_maps(maps, Score(blur="none")), maps)
    assert smooth_maps(torch.zeros(1, 9, 9), Score()).eq(0).all()


def test_the_papers_svm_takes_single_steps():
    features = np.abs(np.random.default_rng(0).normal(1, 0.1, (500, 3))).astype(np.float32)
    few, many = (fit_svm(features, Dlf(steps=n)) for n in (100, 1000))
    assert (few > 0).all() and (few < many).all()


def test_a_fit_without_kept_features_computes_them(samples):
    method = M3dm(tiny(), "3d", Run(category="disc"))
    method.fit(samples, samples)
    assert method.predict(samples.batch([0])).maps.shape == (1, SIZE, SIZE)


def test_empty_patches_go_through_the_fusion_once(samples):
    uff = FeatureFusion(4, 6, head=4).eval()
    seen = []
    uff.xyz_norm.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    method = M3dm(tiny(), "rgb+3d", Run(category="disc"))
    method.patches.uff = uff
    g = torch.Generator().manual_seed(0)
    xyz, tokens = torch.randn(2, 144, 4, generator=g), torch.randn(2, 6, 6, 6, generator=g)
    xyz[:, :100] = 0
    with torch.no_grad():
        found = method.patches.fused(xyz, tokens)
        torch.testing.assert_close(found, uff(xyz, pfa.image_patches(tokens, 12)))
    assert seen[0] == 2 * 44 + 1
