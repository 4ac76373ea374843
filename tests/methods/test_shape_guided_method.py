"""Shape-Guided as a plug-in: like its slow version, its stages shared and resumable, and of use."""

import dataclasses

import numpy as np
import pytest
import torch

from methods.blocks.at_once import AtOnce
from methods.contract import Run, Samples
from methods.shape_guided import inference
from methods.shape_guided.appearance import normalised
from methods.shape_guided.features import INDEX, ROWS, RgbFeatures
from methods.shape_guided.method import ShapeGuided
from methods.shape_guided.patches import cut, cut_cloud, first_centre, normalise
from methods.shape_guided.settings import Patches, Rgb
from methods.shape_guided.stage import CutPatches, Cuts, ShapeExpert
from tests.methods.shape_guided_oracle import Plain
from tests.methods.shape_guided_scenes import scenes
from tests.methods.shape_guided_tiny import (  # noqa: F401 (fixtures)
    SIZE,
    distinct,
    expert,
    fitted,
    samples,
    stages,
    test_samples,
    tiny,
)
from tests.methods.tiny import Killed, kill_at

# Beside the slow version


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
    # From the same banks on: their last digits, which differ from processor to processor, decide
    # between neighbours almost as far.
    plain.sdf, plain.rgb = method.memory.sdf, method.memory.rgb
    plain.align(known)
    assert method.a == pytest.approx(plain.a, rel=1e-3)
    assert method.b == pytest.approx(plain.b, rel=1e-3, abs=1e-3 * method.a)

    plain.a, plain.b = method.a, method.b
    found = method.predict(test_samples.batch(range(3)))
    for i, (x, sample) in enumerate(zip(method._describe(test_samples.batch(range(3))), new)):
        points, shape, rgb = plain.look(*sample)
        torch.testing.assert_close(x.sdf, shape, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x.rgb, rgb, rtol=1e-5, atol=1e-5)
        # And from the same features on.
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


def test_features_are_those_of_the_encoder_with_its_batch_norms():
    net = ShapeGuided(tiny(), "3d").shape
    generator = torch.Generator().manual_seed(0)
    for name, value in net.encoder.state_dict().items():
        if ".bn" in f".{name}" and value.dtype == torch.float32:  # gains of either sign
            value.copy_(torch.randn(value.shape, generator=generator))
            if name.endswith("running_var"):
                value.abs_().add_(0.1)
    points = torch.randn(7, 50, 3, generator=generator)
    expected = net.encoder(points).detach()
    assert (expected > 0).any()
    torch.testing.assert_close(net.features(points), expected, rtol=1e-4, atol=1e-5)


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
    rows, distances = inference.nearest_rows(queries, bank, 6, excluded)
    monkeypatch.setattr(inference, "ENTRIES", AtOnce(30 * 41, 30 * 41))
    again, _ = inference.nearest_rows(queries, bank, 6, excluded)
    assert torch.equal(rows, again) and not excluded[rows].any()
    expected = (queries[:, None] - bank).norm(dim=2)
    expected[:, excluded] = torch.inf
    torch.testing.assert_close(distances, expected.sort(dim=1).values[:, :6])


# Same in, same out


def test_a_saved_alignment_is_loaded(samples, stages, tmp_path):
    method = fitted(samples, stages)
    method.save(tmp_path)
    loaded = ShapeGuided(method.settings, "rgb+3d", Run())
    loaded.load(tmp_path)
    assert (loaded.a, loaded.b) == (method.a, method.b) != (1.0, 0.0)


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
    for ids in (renamed.ids, ("", "", "")):  # known to the stage, and stripped
        batch = dataclasses.replace(renamed.batch(range(3)), ids=ids)
        assert torch.equal(plain.predict(batch).maps, shared.predict(batch).maps)


def test_kept_features_equal_those_computed_on_the_fly(samples, test_samples, stages, tmp_path):
    settings = tiny()
    stage_settings = ShapeGuided.stage_settings(settings, "rgb")["rgb_features"]
    renamed = Samples(test_samples.arrays, tuple(f"test/{i}" for i in range(3)))
    data = {"train": samples, "test": renamed}

    def features(name, **run):
        (tmp_path / name).mkdir(exist_ok=True)
        stage = RgbFeatures(stage_settings, Run(folder=tmp_path / name, **run))
        stage.fit(data)
        stage.save(tmp_path / name)
        return tmp_path / name

    whole = features("whole")
    for step in (4, 7):  # within a split, and past one
        with pytest.raises(Killed):
            features("part", checkpoint_every_s=0.0, report=kill_at("features", step))
    seen = []
    part = features("part", report=seen.append)
    assert seen[0].step > 4
    assert all((part / n).read_bytes() == (whole / n).read_bytes() for n in (ROWS, INDEX))
    plain = fitted(samples, stages)
    shared = fitted(samples, {**stages, "rgb_features": whole})
    torch.testing.assert_close(shared.memory.rgb, plain.memory.rgb)
    for ids in (renamed.ids, ("", "", "")):  # known to the stage, and stripped
        batch = dataclasses.replace(renamed.batch(range(3)), ids=ids)
        torch.testing.assert_close(shared.predict(batch).scores, plain.predict(batch).scores)


def test_a_killed_and_resumed_expert_equals_an_undisturbed_one(samples, tmp_path, monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    whole = expert(samples, tiny(), tmp_path)
    with pytest.raises(Killed):
        expert(
            samples,
            tiny(),
            tmp_path,
            folder=tmp_path,
            checkpoint_every_s=0.0,
            report=kill_at("train", 5),
        )
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
        assert (scores[:6, None] > scores[None, 6:]).float().mean() > 0.9  # I-AUROC
    for one in found.maps[:6]:
        y, x = divmod(one.argmax().item(), SIZE)
        assert abs(y - SIZE / 2) <= 4 and abs(x - (0.5 + 0.2 / 3) * SIZE) <= 4
