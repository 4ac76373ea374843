"""Shape-Guided's settings: every switch switches, rows of tables run, mistakes are explained."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from methods.blocks.at_once import AtOnce
from methods.contract import Samples, settings_from
from methods.shape_guided import inference, weights
from methods.shape_guided.memory import Builder, cells_of
from methods.shape_guided.method import ShapeGuided
from methods.shape_guided.patches import cut
from methods.shape_guided.settings import PAPER, Patches, Rgb, Settings
from methods.shape_guided.stage import CHECKPOINT
from reports.numbers.published import published
from tests.harness.conftest import checkpoint
from tests.methods.shape_guided_tiny import (  # noqa: F401 (fixtures)
    SIZE,
    distinct,
    dotted,
    expert,
    fitted,
    samples,
    stages,
    test_samples,
    tiny,
)

# Switches


@pytest.mark.parametrize(
    "change",
    [
        {"search.guided": False},
        {"search.code_sdf": "nn"},
        {"search.code_rgb": "nn"},
        {"search.expansion": "dilate"},
        {"search.atoms": 1},
        {"search.k_sdf": 4},
        {"search.k_rgb": 2},
        {"search.expand": 2},
        {"align.leave_out": "image"},
        {"align.maps": "raw"},
        {"align.samples": 1},
        {"maps.overlap": "mean"},
        {"maps.blur_px": 0.0},
        {"maps.score": "map"},
        {"patches.overlap": 5.0},
        {"rgb.pool": 1},
    ],
)
def test_every_switch_changes_the_result(samples, test_samples, stages, change):
    batch = test_samples.batch(range(2))
    default = fitted(samples, stages).predict(batch)
    other = fitted(samples, stages, dotted(change)).predict(batch)
    same_maps = torch.equal(default.maps, other.maps)
    assert not (same_maps and torch.equal(default.scores, other.scores))


@pytest.mark.parametrize(
    "change",
    [
        {"train.encoder_input": "patch"},
        {"train.overlap": 10.0},
        {"train.clouds": None},
        {"train.near_share": 0.0},
        {"train.neighbour": 5},
        {"train.points": 32},
    ],
)
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
    pixels = torch.tensor([[10 * 48 + 26]])  # cell 1, 3 of 6 x 6
    grown = cells_of(pixels, 48, 6, 2, "dilate").view(6, 6)
    assert grown[:4, 1:6].all() and grown.sum() == 20
    shifted = cells_of(pixels, 48, 6, 2, "shift").view(6, 6).nonzero().tolist()
    assert shifted == [[1, 1], [1, 5], [3, 3]]  # and one out of range


def test_leaving_out_the_image_ignores_all_its_features(samples, stages):
    method = fitted(samples, stages, tiny(align__leave_out="image"))
    (x,) = method._describe(samples.batch([2]))
    owners = method.memory.sdf_owner[method._neighbours(x, 2)]
    assert (owners != 2).all() and (method.memory.sdf_owner == 2).any()
    assert (method.memory.sdf_owner[method._neighbours(x, None)] == 2).any()


def test_banks_keep_what_is_searched(samples, test_samples, stages):
    batch, cells = test_samples.batch(range(3)), 5 * (SIZE // 8) ** 2
    guided, whole, rgb, guided_rgb, shape = (
        fitted(samples, stages, dotted(change), setting)
        for change, setting in [
            ({}, "rgb+3d"),
            ({"search.guided": False}, "rgb+3d"),
            ({}, "rgb"),
            ({"search.guided_rgb": True}, "rgb"),
            ({}, "3d"),
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


def rows_of_tables():
    """(variant, setting) of every row of the paper's Tables 3 to 6 that is its own method's."""
    rows = published()
    of = rows["table"].isin([f"Table {i}" for i in (3, 4, 5, 6)])
    own = rows[(rows["source"] == "shape_guided") & (rows["method_key"] == "shape_guided") & of]
    return sorted(set(zip(own["variant"], own["setting"])))


def test_every_row_of_the_paper_s_ablation_tables_is_a_variant():
    rows = rows_of_tables()
    assert len(rows) == 11  # the default stands in every table, and is one a setting
    for variant, _ in rows:
        assert variant == "" or variant in ShapeGuided.variants, variant


OTHERS = [(v, "rgb+3d") for v in ShapeGuided.variants if v not in dict(rows_of_tables())]


@pytest.mark.parametrize("variant, setting", rows_of_tables() + OTHERS)
def test_every_variant_runs(samples, test_samples, tmp_path, variant, setting):
    settings = dotted({**ShapeGuided.variants.get(variant, {}), "train.steps": 2})
    if "shape_expert" in ShapeGuided.stage_settings(settings, setting):
        expert(samples, settings, tmp_path)
    method = fitted(samples, {"shape_expert": tmp_path}, settings, setting)
    found = method.predict(test_samples.batch([0]))
    assert found.maps.isfinite().all() and found.maps.max() > 0


def test_rows_of_other_patch_sizes_keep_their_proportion_at_any_size():
    for points in (64, 500):
        for variant, factor in [("k_250", 0.5), ("k_750", 1.5), ("k_1000", 2.0)]:
            overrides = {**ShapeGuided.variants[variant], "patches.points": points}
            stages = ShapeGuided.stage_settings(dotted(overrides), "rgb+3d")
            assert stages["patches"].patches == Patches(points=round(points * factor))
            assert stages["shape_expert"].patches.points == round(points * factor)
    cloud = torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    scaled, plain = cut(cloud, Patches(40, 0.5), 3), cut(cloud, Patches(20), 3)
    assert all(torch.equal(a, b) for a, b in zip(scaled, plain))


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

    assert asked() == asked(search__code_sdf="nn", align__samples=9)
    assert asked("3d") == {k: v for k, v in asked().items() if k != "rgb_features"}
    assert asked(patches__points=32) != asked()
    shared = asked(patches__points=32, train__points=64)["shape_expert"]
    assert shared == asked()["shape_expert"]  # K = 250 with the expert of K = 500
    assert set(asked("rgb")) == {"patches", "rgb_features"}
    assert set(asked("rgb", search__guided_rgb=True)) == {"patches", "rgb_features", "shape_expert"}
    assert set(asked("3d", weights__sdf="random-init")) == {"patches"}
    features = asked("rgb")["rgb_features"]
    assert asked(patches__points=32, search__guided=False)["rgb_features"] == features
    assert asked(rgb__pool=1)["rgb_features"] != features
    assert json.dumps(dataclasses.asdict(asked()["shape_expert"]))


def test_inputs_and_notes_tell_what_a_result_rests_on(samples, stages, tmp_path):
    rgb, sdf = tmp_path / "wrn.pth", stages["shape_expert"] / CHECKPOINT
    checkpoint(rgb)
    given = tiny(weights__rgb=str(rgb), weights__sdf=str(sdf))
    assert ShapeGuided.inputs(given, "rgb+3d") == {"weights.rgb": rgb, "weights.sdf": sdf}
    assert ShapeGuided.inputs(given, "3d") == {"weights.rgb": None, "weights.sdf": sdf}
    assert ShapeGuided.inputs(given, "rgb") == {"weights.rgb": rgb, "weights.sdf": None}
    random = tiny(weights__sdf="random-init")
    assert ShapeGuided.inputs(random, "rgb+3d") == {}  # a name, which stays in the settings
    assert ShapeGuided(random, "rgb+3d").notes() == {
        "rgb_weights": "random-init",
        "sdf_weights": "random-init",
    }
    assert ShapeGuided(tiny(), "3d").notes() == {}  # the stage has its own
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
    with pytest.raises(ValueError, match="1 missing: bn1.bias, 1 unexpected: strange"):
        weights.load_backbone(net, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="has no 'sdf_model'"):
        weights.load_shape_net(ShapeGuided(tiny(), "3d").shape, tmp_path / "other.pth")


def test_a_checkpoint_of_another_width_is_refused(samples, stages):
    with pytest.raises(ValueError, match=r"differing: .*fc1.weight: \(32, 16\) in the file, "):
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
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    with pytest.raises(FloatingPointError, match="train.lr"):
        expert(samples, tiny(train__lr=1e30), tmp_path)


def test_a_backbone_of_other_strides_is_refused():
    with pytest.raises(ValueError, match="strides .* where 4 and 8 are wanted"):
        ShapeGuided(tiny(rgb__backbone="convnext_atto"), "rgb")


def test_memory_of_bounded_parts_equals_that_of_all_at_once(samples, parity, monkeypatch):
    whole = distinct(samples, parity)
    (x,) = whole._describe(samples.batch([0]))
    expected = whole._maps(x, None, SIZE)[0]["sdf"]
    monkeypatch.setattr("methods.shape_guided.sdf.ACTIVATION_BYTES", AtOnce(1, 1))
    (y,) = whole._describe(samples.batch([0]))
    torch.testing.assert_close(y.sdf, x.sdf)
    torch.testing.assert_close(whole._maps(y, None, SIZE)[0]["sdf"], expected, rtol=1e-4, atol=1e-6)


def test_a_bank_of_no_cells_is_an_error_and_not_a_score():
    with pytest.raises(ValueError, match="no row to compare with"):
        inference.nearest_rows(
            torch.rand(2, 3), torch.rand(4, 3), 1, torch.ones(4, dtype=torch.bool)
        )
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
