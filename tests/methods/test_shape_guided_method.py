"""Shape-Guided as a plug-in: like its slow version, repeatable, resumable; switches switch."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from methods.contract import Run, Samples, settings_from
from methods.shape_guided import inference, weights
from methods.shape_guided.appearance import normalised
from methods.shape_guided.memory import Builder, cells_of
from methods.shape_guided.method import ShapeGuided
from methods.shape_guided.patches import cut, cut_cloud, first_centre, normalise
from methods.shape_guided.settings import PAPER, Patches, Rgb, Settings
from methods.shape_guided.stage import CHECKPOINT, Cuts, CutPatches, ShapeExpert
from tests.methods.shape_guided_oracle import Plain
from tests.methods.shape_guided_scenes import scenes

SIZE = 64
TINY = {
    "prep": {"size": SIZE}, "weights": {"rgb": "random-init"}, "rgb": {"backbone": "resnet10t"},
    "patches": {"points": 64}, "align": {"samples": 3}, "batch": 2, "search": {"expand": 1},
    "net": {"points": [8, 16, 32], "hidden": 32, "feature": 16, "width": 32, "depth": 2},
    "train": {"steps": 12, "batch": 8, "clouds": 3, "lr": 1e-3},
}


def tiny(**changes):
    """Settings of tiny networks, with "train__steps=3" for train.steps = 3."""
    values = {k: dict(v) if isinstance(v, dict) else v for k, v in TINY.items()}
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        (values.setdefault(group, {}) if group else values)[key] = value
    return settings_from(Settings, values)


def dotted(overrides):
    return tiny(**{name.replace(".", "__"): value for name, value in overrides.items()})


@pytest.fixture(scope="module")
def samples():
    return scenes(5, SIZE)


@pytest.fixture(scope="module")
def test_samples():
    return scenes(3, SIZE, seed=1, bump=(1,))


def expert(samples, settings, into, **run):
    stage = ShapeExpert(ShapeGuided.stage_settings(settings, "3d")["shape_expert"], Run(**run))
    stage.fit({"disc": samples})
    stage.save(into)
    return stage


@pytest.fixture(scope="module")
def stages(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expert")
    expert(samples, tiny(), folder)
    return {"shape_expert": folder}


def fitted(samples, stages, settings=None, setting="rgb+3d", **run):
    method = ShapeGuided(settings or tiny(), setting, Run(category="disc", stages=stages, **run))
    method.fit(samples, samples)
    return method


# Beside the slow version


def distinct(samples, parity, **changes):
    """Fitted with an expert whose features differ: after few steps neighbours are all but ties."""
    method = ShapeGuided(tiny(weights__sdf="random-init", **changes), "rgb+3d")
    parity("shape_guided").fill(method.shape)
    method.fit(samples, samples)
    return method


def test_maps_and_scores_equal_those_of_one_patch_at_a_time(samples, test_samples, parity):
    method = distinct(samples, parity, align__samples=5, search__expand=2)
    plain = Plain(method.shape, method.appearance, method.settings, lambda n: first_centre(n, 0))
    known, new = (
        list(zip(normalised(torch.from_numpy(s.arrays["rgb"]), Rgb()), s.arrays["xyz"]))
        for s in (samples, test_samples)
    )
    plain.remember(known)
    torch.testing.assert_close(plain.sdf, method.memory.sdf, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain.rgb, method.memory.rgb, rtol=1e-5, atol=1e-5)
    plain.align(known)
    assert method.a == pytest.approx(plain.a, rel=1e-3)
    assert method.b == pytest.approx(plain.b, rel=1e-3, abs=1e-3 * method.a)

    plain.a, plain.b = method.a, method.b
    found = method.predict(test_samples.batch(range(3)))
    for i, (x, sample) in enumerate(zip(method._describe(test_samples.batch(range(3))), new)):
        points, shape, rgb = plain.look(*sample)
        torch.testing.assert_close(x.sdf, shape, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x.rgb, rgb, rtol=1e-5, atol=1e-5)
        # From the same features on: their last digits decide between neighbours almost as far.
        maps, scores = plain.maps((points, x.sdf, x.rgb), SIZE)
        ours, our_scores = method._maps(x, None, SIZE)
        for name in ("sdf", "rgb"):
            np.testing.assert_allclose(ours[name], maps[name], atol=1e-4 * maps[name].max())
            assert our_scores[name].item() == pytest.approx(scores[name], rel=1e-4)
        fused, score = plain.predict(*sample)
        assert found.scores[i].item() == pytest.approx(score, rel=1e-4)
        assert np.abs(found.maps[i].numpy() - fused).max() <= 1.01 * fused.max() / 255


def test_farthest_points_equal_the_definition():
    points = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    centres, members = cut(points, Patches(points=20, overlap=2.0), 7)
    assert len(centres) == 30 and centres[0] == 7
    for i in range(1, 30):
        from_all = torch.cdist(points, points[centres[:i]]).amin(dim=1)
        assert from_all[centres[i]] == from_all.max()
    near = torch.cdist(points[centres], points)
    torch.testing.assert_close(near.gather(1, members), near.sort(dim=1).values[:, :20])
    assert torch.equal(members[:, 0], centres)


def test_sparse_codes_are_least_squares_on_their_atoms():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.rand(40, 8, 20, generator=generator)
    queries = torch.rand(40, 20, generator=generator)
    for count in (1, 3, 8):
        code = inference.sparse_code(queries, atoms, count)
        for x, D, c in zip(queries.double(), atoms.double(), code):
            used = c.nonzero()[:, 0]
            assert len(used) == count
            best = torch.linalg.lstsq(D[used].t(), x[:, None]).solution[:, 0]
            torch.testing.assert_close(c[used], best)


def test_neighbours_do_not_depend_on_the_size_of_blocks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    bank = torch.rand(500, 12, generator=generator)
    queries = torch.rand(30, 12, generator=generator)
    excluded = torch.arange(500) % 7 == 0
    rows, distances = inference.nearest(queries, bank, 6, excluded)
    monkeypatch.setattr(inference, "BLOCK_ELEMENTS", 30 * 41)
    again, _ = inference.nearest(queries, bank, 6, excluded)
    assert torch.equal(rows, again) and not excluded[rows].any()
    expected = (queries[:, None] - bank).norm(dim=2)
    expected[:, excluded] = torch.inf
    torch.testing.assert_close(distances, expected.sort(dim=1).values[:, :6])


# Same in, same out


@pytest.mark.parametrize("setting", ["rgb", "3d", "rgb+3d"])
def test_prediction_of_one_equals_that_of_many(samples, test_samples, stages, setting, tmp_path):
    method = fitted(samples, stages, setting=setting)
    many = method.predict(test_samples.batch(range(3)))
    assert many.maps.shape == (3, SIZE, SIZE) and many.scores.shape == (3,)
    assert many.maps.dtype == many.scores.dtype == torch.float32
    for i in range(3):
        one = method.predict(test_samples.batch([i]))
        torch.testing.assert_close(one.maps[0], many.maps[i], rtol=0, atol=0.01 * many.maps.max())
        torch.testing.assert_close(one.scores[0], many.scores[i], rtol=1e-4, atol=1e-6)

    method.save(tmp_path)
    loaded = ShapeGuided(method.settings, setting, Run())
    loaded.load(tmp_path)
    assert torch.equal(loaded.predict(test_samples.batch(range(3))).maps, many.maps)
    assert (loaded.a, loaded.b) == (method.a, method.b)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(samples, test_samples, stages):
    batch = test_samples.batch(range(3))
    first, again, other = (fitted(samples, stages, seed=s).predict(batch) for s in (1, 1, 2))
    assert torch.equal(first.maps, again.maps) and torch.equal(first.scores, again.scores)
    assert not torch.equal(first.scores, other.scores)


def test_patches_of_the_stage_equal_those_cut_on_the_fly(samples, test_samples, stages, tmp_path):
    settings = tiny()
    stage = CutPatches(ShapeGuided.stage_settings(settings, "3d")["patches"], Run(seed=3))
    renamed = Samples(test_samples.arrays, tuple(f"test/{i}" for i in range(3)))
    stage.fit({"train": samples, "test": renamed})
    stage.save(tmp_path)
    cuts = Cuts(tmp_path)
    for i in range(3):
        xyz = torch.from_numpy(test_samples.arrays["xyz"][i])
        assert torch.equal(cuts.get(f"test/{i}"), cut_cloud(xyz, settings.patches, 3))
    assert cuts.get("") is None
    plain = fitted(samples, stages, seed=3)
    shared = fitted(samples, {**stages, "patches": tmp_path}, seed=3)
    for ids in (renamed.ids, ("", "", "")):                    # known to the stage, and stripped
        batch = dataclasses.replace(renamed.batch(range(3)), ids=ids)
        assert torch.equal(plain.predict(batch).maps, shared.predict(batch).maps)


class Killed(Exception):
    pass


def kill_at(phase, step):
    def report(progress):
        if (progress.phase, progress.step) == (phase, step):
            raise Killed
    return report


@pytest.mark.parametrize("phase, step", [("remember", 4), ("align", 2)])
def test_a_killed_and_resumed_fit_equals_an_undisturbed_one(samples, stages, tmp_path, phase, step):
    undisturbed = fitted(samples, stages)
    with pytest.raises(Killed):
        fitted(samples, stages, folder=tmp_path, checkpoint_every_s=0.0,
               report=kill_at(phase, step))  # fmt: skip
    seen = []
    resumed = fitted(samples, stages, folder=tmp_path, report=seen.append)
    assert (seen[0].phase, seen[0].step) == (phase, step)     # what came before was not repeated
    assert (resumed.a, resumed.b) == (undisturbed.a, undisturbed.b)
    for name, value in resumed.memory.state().items():
        assert torch.equal(value, undisturbed.memory.state()[name])


def test_a_killed_and_resumed_expert_equals_an_undisturbed_one(samples, tmp_path, monkeypatch):
    monkeypatch.setattr("methods.shape_guided.stage.REPORT_EVERY_S", 0.0)
    whole = expert(samples, tiny(), tmp_path)
    with pytest.raises(Killed):
        expert(samples, tiny(), tmp_path, folder=tmp_path, checkpoint_every_s=0.0,
               report=kill_at("train", 5))  # fmt: skip
    seen = []
    resumed = expert(samples, tiny(), tmp_path, folder=tmp_path, report=seen.append)
    assert [p.step for p in seen if p.phase == "train"] == list(range(5, 13))
    a, b = whole.net.state_dict(), resumed.net.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_every_epoch_of_the_expert_sees_every_patch_at_most_once():
    stage = ShapeExpert(ShapeGuided.stage_settings(tiny(train__batch=4), "3d")["shape_expert"])
    epochs = torch.cat([stage._order(step, 10) for step in range(6)]).view(3, 8)
    assert all(len(epoch.unique()) == 8 for epoch in epochs) and len(epochs.unique(dim=0)) == 3


# What it is for


def test_a_trained_expert_finds_surfaces_and_defects_of_shape_alone(tmp_path):
    """Colours tell nothing here: the bump has those of the surface it is on."""
    settings = tiny(train__steps=250, train__batch=16, train__clouds=8, train__lr=3e-3)
    train = scenes(24, SIZE, noise_m=5e-5)
    new = scenes(12, SIZE, seed=5, bump=range(6), noise_m=5e-5)
    before = ShapeGuided(settings, "3d").shape
    stage = expert(train, settings, tmp_path)
    after, points = stage.net, []
    for i in range(6, 12):
        xyz = torch.from_numpy(new.arrays["xyz"][i])
        pixels = cut_cloud(xyz, settings.patches, 0)
        points.append(normalise(xyz.reshape(-1, 3)[pixels])[0])
    points = torch.cat(points)

    def off_surface(net):
        return net.distances(net.features(points), points).abs().mean().item()

    assert off_surface(after) < off_surface(before) / 5
    method = fitted(train, {"shape_expert": tmp_path}, settings, "3d")
    found = method.predict(new.batch(range(12)))
    for scores in (found.scores, found.maps.amax(dim=(1, 2))):
        assert (scores[:6, None] > scores[None, 6:]).float().mean() > 0.9             # I-AUROC
    for one in found.maps[:6]:
        y, x = divmod(one.argmax().item(), SIZE)
        assert abs(y - SIZE / 2) <= 4 and abs(x - (0.5 + 0.2 / 3) * SIZE) <= 4


# Switches


@pytest.mark.parametrize("change", [
    {"search.guided": False}, {"search.code_sdf": "nn"}, {"search.code_rgb": "nn"},
    {"search.expansion": "dilate"}, {"search.atoms": 1}, {"search.k_sdf": 4}, {"search.k_rgb": 2},
    {"search.expand": 2}, {"align.leave_out": "image"}, {"align.maps": "raw"},
    {"align.samples": 1}, {"maps.overlap": "mean"}, {"maps.blur_px": 0.0},
    {"maps.score": "map"}, {"patches.overlap": 5.0}, {"rgb.pool": 1},
])  # fmt: skip
def test_every_switch_changes_the_result(samples, test_samples, stages, change):
    batch = test_samples.batch(range(2))
    default = fitted(samples, stages).predict(batch)
    other = fitted(samples, stages, dotted(change)).predict(batch)
    same_maps = torch.equal(default.maps, other.maps)
    assert not (same_maps and torch.equal(default.scores, other.scores))


@pytest.mark.parametrize("change", [
    {"train.encoder_input": "patch"}, {"train.overlap": 10.0}, {"train.clouds": None},
    {"train.near_share": 0.0}, {"train.neighbour": 5}, {"train.points": 32},
])  # fmt: skip
def test_every_switch_of_the_training_changes_the_expert(samples, stages, change, tmp_path):
    default = torch.load(stages["shape_expert"] / CHECKPOINT, weights_only=True)["sdf_model"]
    other = expert(samples, dotted(change), tmp_path).net.state_dict()
    assert not all(torch.equal(default[k], other[k]) for k in default)


def test_negative_aligned_scores_are_cut_off_or_kept():
    scores = torch.tensor([0.0, 1.0, 5.0])
    assert inference.aligned(scores, 2, -3).tolist() == [0, 0, 7]
    assert inference.aligned(scores, 2, -3, clip=False).tolist() == [-3, -1, 7]


def test_patches_are_added_until_every_point_is_in_one():
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(1))
    few = Patches(points=20, overlap=0.5)
    _, some = cut(points, few, 0)
    _, all_of_them = cut(points, dataclasses.replace(few, cover=True), 0)
    assert len(some) == 10 and torch.equal(all_of_them[:10], some)
    assert len(some.unique()) < 400 and len(all_of_them.unique()) == 400


def test_dilation_grows_cells_evenly_and_includes_them():
    pixels = torch.tensor([[10 * 48 + 26]])                   # cell 1, 3 of 6 x 6
    grown = cells_of(pixels, 48, 6, 2, "dilate").view(6, 6)
    assert grown[:4, 1:6].all() and grown.sum() == 20
    shifted = cells_of(pixels, 48, 6, 2, "shift").view(6, 6).nonzero().tolist()
    assert shifted == [[1, 1], [1, 5], [3, 3]]                # and one out of range


def test_leaving_out_the_image_ignores_all_its_features(samples, stages):
    method = fitted(samples, stages, tiny(align__leave_out="image"))
    (x,) = method._describe(samples.batch([2]))
    owners = method.memory.sdf_owner[method._neighbours(x, 2)]
    assert (owners != 2).all() and (method.memory.sdf_owner == 2).any()
    assert (method.memory.sdf_owner[method._neighbours(x, None)] == 2).any()


def test_banks_keep_what_is_searched(samples, test_samples, stages):
    batch, cells = test_samples.batch(range(3)), 5 * (SIZE // 8) ** 2
    guided, whole, rgb, guided_rgb, shape = (
        fitted(samples, stages, dotted(change), setting) for change, setting in [
            ({}, "rgb+3d"), ({"search.guided": False}, "rgb+3d"), ({}, "rgb"),
            ({"search.guided_rgb": True}, "rgb"), ({}, "3d"),
        ]
    )
    for method in (guided, whole, rgb, guided_rgb, shape):
        assert "rgb_features_searched" not in method.sizes()  # alignment does not count
        method.predict(batch)
    assert whole.sizes()["rgb_bank_rows"] == rgb.sizes()["rgb_features_searched"] == cells
    assert guided.sizes()["rgb_bank_rows"] < cells
    assert guided.sizes()["rgb_features_searched"] <= guided.sizes()["rgb_bank_rows"]
    assert guided_rgb.sizes()["rgb_features_searched"] == guided.sizes()["rgb_features_searched"]
    assert shape.sizes()["rgb_bank_rows"] == rgb.sizes()["sdf_bank_rows"] == 0
    assert shape.sizes()["sdf_bank_rows"] == guided.sizes()["sdf_bank_rows"] > 0
    some = fitted(samples, {}, dotted({"search.unguided_bank": "foreground"}), "rgb")
    assert some.sizes()["rgb_bank_rows"] == guided.sizes()["rgb_bank_rows"]


@pytest.mark.parametrize("variant", ShapeGuided.variants)
def test_every_variant_runs(samples, test_samples, tmp_path, variant):
    settings = dotted({**ShapeGuided.variants[variant], "train.steps": 2})
    setting = "rgb" if variant == "shape_guided_rgb_only" else "rgb+3d"
    expert(samples, settings, tmp_path)
    method = fitted(samples, {"shape_expert": tmp_path}, settings, setting)
    assert method.predict(test_samples.batch([0])).maps.isfinite().all()


def test_the_paper_s_settings_differ_from_the_authors_in_every_named_point():
    for name, value in PAPER.items():
        default = Settings()
        for part in name.split("."):
            default = getattr(default, part)
        assert default != value, name


# Stages, weights, faults


def test_cells_share_one_expert_unless_it_differs():
    def asked(setting="rgb+3d", **changes):
        return ShapeGuided.stage_settings(tiny(**changes), setting)

    assert asked() == asked("3d") == asked(search__code_sdf="nn", align__samples=9)
    assert asked(patches__points=32) != asked()
    shared = asked(patches__points=32, train__points=64)["shape_expert"]
    assert shared == asked()["shape_expert"]                   # K = 250 with the expert of K = 500
    assert set(asked("rgb")) == {"patches"}
    assert set(asked("rgb", search__guided_rgb=True)) == {"patches", "shape_expert"}
    assert set(asked(weights__sdf="random-init")) == {"patches"}
    assert json.dumps(dataclasses.asdict(asked()["shape_expert"]))


def test_inputs_and_notes_tell_what_a_result_rests_on(samples, stages, tmp_path):
    rgb, sdf = tmp_path / "wrn.pth", stages["shape_expert"] / CHECKPOINT
    rgb.write_bytes(b"")
    given = tiny(weights__rgb=str(rgb), weights__sdf=str(sdf))
    assert ShapeGuided.inputs(given, "rgb+3d") == {"weights.rgb": rgb, "weights.sdf": sdf}
    assert ShapeGuided.inputs(given, "3d") == {"weights.rgb": None, "weights.sdf": sdf}
    assert ShapeGuided.inputs(given, "rgb") == {"weights.rgb": rgb, "weights.sdf": None}
    random = tiny(weights__sdf="random-init")
    assert ShapeGuided.inputs(random, "rgb+3d") == {}          # a name, which stays in the settings
    assert ShapeGuided(random, "rgb+3d").notes() == {
        "rgb_weights": "random-init", "sdf_weights": "random-init",
    }
    assert ShapeGuided(tiny(), "3d").notes() == {}             # the stage has its own
    assert expert(samples, tiny(), tmp_path).notes() == {"sdf_weights": "trained for 12 steps"}


def test_missing_weights_say_what_would_do(tmp_path):
    with pytest.raises(ValueError, match="weights.rgb is not set.*racm-8234f177.*'random-init'"):
        ShapeGuided.inputs(Settings(), "rgb")
    gone = settings_from(Settings, {"weights": {"rgb": "gone.pth", "sdf": "gone.pth"}})
    with pytest.raises(FileNotFoundError, match="gone.pth is not a file.*timm"):
        ShapeGuided.inputs(gone, "rgb+3d")
    with pytest.raises(FileNotFoundError, match="gone.pth is not a file.*ckpt_000601"):
        ShapeGuided.inputs(gone, "3d")


def test_weights_of_a_file_are_loaded_and_those_of_another_network_are_refused(tmp_path):
    net = weights.appearance(Rgb(backbone="resnet18"))
    changed = {k: v + 1 for k, v in net.backbone.state_dict().items()}
    whole = {**changed, "layer3.0.conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}
    torch.save(whole, tmp_path / "whole.pth")
    weights.load_backbone(net, tmp_path / "whole.pth")
    assert torch.equal(net.backbone.state_dict()["conv1.weight"], changed["conv1.weight"])
    del changed["bn1.bias"]
    torch.save({**changed, "strange": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="missing: bn1.bias; unexpected: strange"):
        weights.load_backbone(net, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="has no 'sdf_model'"):
        weights.load_shape_net(ShapeGuided(tiny(), "3d").shape, tmp_path / "other.pth")


def test_a_checkpoint_of_another_width_is_refused(samples, stages):
    with pytest.raises(ValueError, match=r"of another shape: .*fc1.weight \(32, 16\) instead of"):
        fitted(samples, stages, tiny(net__width=64), "3d")


def test_initial_weights_are_drawn_apart_from_torch_s_own_generator():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, again = (ShapeGuided(tiny(), "rgb+3d") for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    for a, b in zip(first._nets().values(), again._nets().values()):
        pairs = zip(a.state_dict().values(), b.state_dict().values())
        assert all(torch.equal(x, y) for x, y in pairs)


def test_without_an_expert_the_fit_says_where_to_get_one(samples):
    with pytest.raises(ValueError, match="run its stage 'shape_expert'.*weights.sdf"):
        fitted(samples, {})


def test_clouds_without_or_with_few_points(samples, test_samples, stages):
    few = test_samples.arrays["xyz"].copy()
    few[0] = 0
    few[1, : SIZE // 2 + 1] = few[1, SIZE // 2 + 4 :] = 0
    few[1, :, : SIZE // 2 - 4] = few[1, :, SIZE // 2 + 4 :] = 0
    odd = Samples({**test_samples.arrays, "xyz": few}, test_samples.ids)
    for setting in ("rgb", "3d", "rgb+3d"):
        method = fitted(samples, stages, setting=setting)
        found = method.predict(odd.batch(range(3)))
        assert found.scores[0] == 0 and found.maps[0].max() == 0
        assert found.maps.isfinite().all() and found.scores.isfinite().all()
    nothing = Samples({**samples.arrays, "xyz": 0 * samples.arrays["xyz"]}, samples.ids)
    with pytest.raises(ValueError, match="no point in the 5 training clouds of disc"):
        fitted(nothing, stages)
    with pytest.raises(ValueError, match="no point in 3 training clouds of disc"):
        expert(nothing, tiny(), None)
    mixed = {k: np.concatenate([v[:4], odd.arrays[k][:2]]) for k, v in samples.arrays.items()}
    mixed = Samples(mixed, tuple("abcdef"))
    assert fitted(mixed, stages, tiny(align__samples=6)).a > 0


def test_a_diverged_loss_stops_the_training(samples, tmp_path, monkeypatch):
    monkeypatch.setattr("methods.shape_guided.stage.REPORT_EVERY_S", 0.0)
    with pytest.raises(FloatingPointError, match="train.lr"):
        expert(samples, tiny(train__lr=1e30), tmp_path)


@pytest.mark.parametrize("changes, said", [
    ({"search__code_sdf": "lasso"}, "code_sdf is 'lasso'; it can be omp, nn"),
    ({"search__expansion": "square"}, "expansion is 'square'; it can be shift, dilate"),
    ({"align__leave_out": "none"}, "leave_out is 'none'; it can be entry, image"),
    ({"maps__overlap": "max"}, "overlap is 'max'; it can be min, mean"),
    ({"train__encoder_input": "all"}, "encoder_input is 'all'; it can be targets, patch"),
    ({"patches__points": 1}, "patches.points is 1; it must be at least 2"),
    ({"search__k_rgb": 0}, "k_rgb is 0; it must be at least 1"),
    ({"prep__size": 100}, "prep.size is 100 px; it must divide by 8"),
])  # fmt: skip
def test_bad_choices_say_what_would_do(changes, said):
    with pytest.raises(ValueError, match=said):
        tiny(**changes)


def test_a_backbone_of_other_strides_is_refused():
    with pytest.raises(ValueError, match="strides .* where 4 and 8 are wanted"):
        ShapeGuided(tiny(rgb__backbone="convnext_atto"), "rgb")


def test_memory_of_bounded_parts_equals_that_of_all_at_once(samples, parity, monkeypatch):
    whole = distinct(samples, parity)
    (x,) = whole._describe(samples.batch([0]))
    expected = whole._maps(x, None, SIZE)[0]["sdf"]
    monkeypatch.setattr("methods.shape_guided.sdf.ACTIVATION_BYTES", 1)
    (y,) = whole._describe(samples.batch([0]))
    torch.testing.assert_close(y.sdf, x.sdf)
    torch.testing.assert_close(whole._maps(y, None, SIZE)[0]["sdf"], expected, rtol=1e-4, atol=1e-6)


def test_a_bank_of_no_cells_is_an_error_and_not_a_score():
    with pytest.raises(ValueError, match="no row to compare with"):
        inference.nearest(torch.rand(2, 3), torch.rand(4, 3), 1, torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="cannot align scores"):
        inference.alignment(torch.zeros(5), torch.ones(5))


def test_builder_joins_dictionaries_of_different_lengths():
    builder = Builder()
    for count in (1, 3):
        cells = torch.zeros(2, 6, dtype=torch.bool)
        cells[0, :count] = cells[1, 5] = True
        builder.add(torch.rand(2, 4), torch.rand(6, 3), cells)
    memory = builder.join()
    assert memory.cells.tolist() == [[0, -1, -1], [1, -1, -1], [2, 3, 4], [5, -1, -1]]
    assert memory.dictionary(torch.tensor([[1, 2], [2, 1]])).tolist() == [1, 2, 3, 4]
    assert memory.rgb_owner.tolist() == [0, 0, 1, 1, 1, 1]


def test_settings_fit_a_structured_config():
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.structured(Settings)
    changes = {"net": {"points": [8, 16, 32]}, "weights": {"rgb": "random-init"}}
    settings = omegaconf.OmegaConf.to_object(omegaconf.OmegaConf.merge(config, changes))
    assert tuple(settings.net.points) == (8, 16, 32) and settings.patches == Patches()
