"""3DSR and DSR as plug-ins: their stage is repeatable and resumable, variants vary."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from harness.planning import config
from harness.planning.expand import build
from methods.blocks.weights import WeightsError
from methods.contract import Run, Samples, settings_from
from methods.dsr3d import anomalies
from methods.dsr3d import samples as sampling
from methods.dsr3d.dada import Autoencoder
from methods.dsr3d.method import Dsr3d
from methods.dsr3d.model import smooth, stage2_loss
from methods.dsr3d.settings import Score, Settings
from methods.dsr3d.simulation import Draws, draw_sample, images
from methods.dsr3d.stage import FILE, DadaStage, RealDadaStage, StageSettings
from methods.dsr3d.weights import errors_by_skip
from tests.harness.conftest import TINY as TINY_CONFIG
from tests.methods.tiny import SAMPLES, SIZES, TINY, Killed, kill_at, same_weights, tiny_of

SIZE, tiny = SIZES["3dsr"], partial(tiny_of, "3dsr")
NET = TINY["3dsr"]["dada"]["net"]


@pytest.fixture(scope="module")
def samples():
    return SAMPLES["3dsr"]()


def trained_stage(settings, setting="rgb+3d", data=None, **run):
    ((name, stage_settings),) = Dsr3d.stage_settings(settings, setting).items()
    stage = Dsr3d.stages[name](stage_settings, Run(**run))
    stage.fit(data or {})
    return stage


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """setting -> Run.stages of the tiny settings."""
    made = {}
    for setting in ("rgb", "3d", "rgb+3d"):
        folder = tmp_path_factory.mktemp("dada")
        trained_stage(tiny(), setting).save(folder)
        made[setting] = {"dada": folder}
    return made


@pytest.fixture
def fitted(samples, stages):
    def fit(settings=None, setting="rgb+3d", **run):
        run = {"stages": stages[setting]} | run
        method = Dsr3d(settings or tiny(), setting, Run(category="disc", **run))
        method.fit(samples, samples)
        return method

    return fit


def test_the_same_seed_gives_the_same_stage_and_another_does_not():
    first, again, other = (trained_stage(tiny(), seed=s) for s in (1, 1, 2))
    assert same_weights(first, again) and not same_weights(first, other)


def test_training_leaves_the_autoencoder_as_the_stage_made_it(fitted, stages):
    net = fitted().net.autoencoder.state_dict()
    made = torch.load(stages["rgb+3d"]["dada"] / FILE, weights_only=True)
    assert net.keys() == made.keys() and all(torch.equal(net[k], v) for k, v in made.items())


@pytest.mark.parametrize("variant", ["", "paper", "dsr_naive"])
def test_a_killed_and_resumed_stage_equals_an_undisturbed_one(
    samples, variant, tmp_path, monkeypatch
):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    settings, data = tiny(variant, dada__size=SIZE), {"disc": samples}
    undisturbed = trained_stage(settings, data=data)
    with pytest.raises(Killed):
        trained_stage(
            settings, data=data, folder=tmp_path, checkpoint_every_s=0.0, report=kill_at("train", 3)
        )
    seen = []
    resumed = trained_stage(settings, data=data, folder=tmp_path, report=seen.append)
    assert [p.step for p in seen] == [3]
    assert same_weights(resumed, undisturbed) and resumed.used == undisturbed.used


def test_the_stage_does_not_depend_on_the_number_of_threads_that_draw(monkeypatch):
    one = trained_stage(tiny())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert same_weights(one, trained_stage(tiny()))


def test_a_cell_without_its_autoencoder_says_what_to_give(samples):
    with pytest.raises(ValueError, match="no trained autoencoder.*stage 'dada'"):
        Dsr3d(tiny(), "rgb+3d").fit(samples, samples)


# What each variant says, and nothing else


def difference(variant):
    """Dotted names of the settings in which a variant differs from the default."""

    def flat(value, prefix=""):
        if hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                yield from flat(getattr(value, name), f"{prefix}.{name}".lstrip("."))
        else:
            yield prefix, value

    before, after = dict(flat(tiny())), dict(flat(tiny(variant)))
    return {name: after[name] for name in after if after[name] != before[name]}


def test_a_variant_changes_what_it_names():
    assert difference("dsr_naive") == {"dada.net.grouped": False, "dada.depth.source": "real"}
    assert difference("no_perlin") == {"dada.depth.source": "gray"}
    assert difference("no_affine") == {"dada.depth.alpha": (1.0, 1.0)}
    assert difference("vqvae") == {"dada.net.grouped": False}
    assert difference("vqvae_weighted") == {"dada.net.grouped": False, "dada.loss.lambda_d": 10.0}
    untrained = {"train.steps": 0, "rgb.train.steps": 0, "rgb.upsampler.train.steps": 0}
    assert difference("untrained") == untrained
    assert len(difference("paper")) == len(Dsr3d.variants["paper"])


@pytest.mark.parametrize("variant", [v for v in Dsr3d.variants if v != "untrained"])
def test_every_variant_trains_and_predicts(samples, variant, tmp_path):
    settings = tiny(variant, dada__size=SIZE, dada__train__steps=1, train__steps=1)
    trained_stage(settings, data={"disc": samples}).save(tmp_path)
    (name,) = Dsr3d.stage_settings(settings, "rgb+3d")
    assert name == ("dada_real" if variant == "dsr_naive" else "dada")
    method = Dsr3d(settings, "rgb+3d", Run(category="disc", stages={name: tmp_path}))
    method.fit(samples, samples)
    assert method.predict(samples.batch(range(3))).maps.isfinite().all()


def drawn_images(variant="", count=60):
    dada = tiny(variant).dada
    drawn = [
        draw_sample(
            np.random.default_rng(i),
            dada,
            "rgb+3d",
            lambda rng: np.full((dada.size, dada.size, 3), rng.integers(256), np.uint8),
        )
        for i in range(count)
    ]
    return images(Draws.stacked(drawn), dada, "rgb+3d")


def test_simulated_depth_fills_a_random_part_of_the_range_unless_no_affine():
    affine, plain = (
        depth.amax((1, 2)) - depth.amin((1, 2))
        for depth in (drawn_images()[:, 0], drawn_images("no_affine")[:, 0])
    )
    assert ((plain > 0.999) | (plain == 0)).all() and (plain > 0).float().mean() > 0.9
    assert (affine < 0.9).float().mean() > 0.7 and affine.std() > 0.2


def test_without_perlin_noise_depth_is_another_image_in_grey():
    x = drawn_images("no_perlin")
    assert torch.equal(x[:, 0].amax((1, 2)), x[:, 0].amin((1, 2)))  # of one grey, like the images
    assert (x[:, 0, 0, 0] - x[:, 1, 0, 0]).abs().mean() > 0.1  # and of its own


def test_depth_and_colour_meet_in_the_quantisers_only_unless_ungrouped():
    x = torch.rand(1, 4, 32, 32)
    changed = torch.cat([x[:, :1], torch.rand(1, 3, 32, 32)], dim=1)
    apart = {}
    for variant in ("", "vqvae"):
        net = Autoencoder(tiny(variant).dada.net, "rgb+3d").eval()
        net.init_weights(torch.Generator().manual_seed(0))
        z, other = (net.encode(y)[1].z for y in (x, changed))
        apart[variant] = torch.equal(*(level[:, : NET["dim"] // 2] for level in (z, other)))
    assert apart == {"": True, "vqvae": False}


def test_the_weighted_loss_counts_depth_ten_times():
    from methods.dsr3d.stage import dada_loss

    weighted, plain = tiny("vqvae_weighted").dada, tiny("vqvae").dada
    net = Autoencoder(plain.net, "rgb+3d").eval()
    net.init_weights(torch.Generator().manual_seed(0))
    x = torch.rand(2, 4, 32, 32)
    coded = net(x)
    depth = (coded.recon - x)[:, 0].abs().mean() / 4
    got, base = (dada_loss(coded, x, s.loss, "rgb+3d")["recon"] for s in (weighted, plain))
    torch.testing.assert_close(got - base, 9 * depth)


def test_the_naive_stage_reads_the_training_samples_of_all_categories(samples):
    settings = tiny("dsr_naive", dada__size=SIZE)
    ((name, stage_settings),) = Dsr3d.stage_settings(settings, "rgb+3d").items()
    stage = Dsr3d.stages[name](stage_settings, Run())
    assert stage.reads == "train" and stage.view(stage_settings).size == SIZE
    dark = Samples({**samples.arrays, "rgb": samples.arrays["rgb"] // 4}, samples.ids)
    draw, make = stage._sampler({"bright": samples, "dark": dark})
    x = torch.cat([make(draw(step)) for step in range(20)])
    bright = x[:, 1:].mean((1, 2, 3)) > 0.1
    assert 0.2 < bright.float().mean() < 0.8
    assert torch.equal(x[bright][0, 0] > 0, x[bright][0, 0] != 0)


def test_the_paper_s_anomalies_are_any_codes_in_both_levels(samples, fitted):
    settings = tiny("paper", mask__p_normal=0.0)
    method = Dsr3d(settings, "rgb+3d", Run(category="disc"))
    rng = np.random.default_rng(0)
    for _ in range(5):
        _, feature = method._stage2_draws(rng, 6)
        assert feature.both.all() and not feature.low.shuffle
    codes = anomalies.choose_codes(
        torch.zeros(500, 4), torch.rand(64, 4), torch.zeros(500), torch.rand(500), settings.anomaly
    )
    assert len(codes.unique()) > 60


def test_untrained_takes_the_stage_and_no_step(samples, fitted, stages):
    method = fitted(tiny("untrained"))
    fresh = Dsr3d(tiny("untrained"), "rgb+3d", Run(category="disc", stages=stages["rgb+3d"]))
    fresh._load_dada()
    assert same_weights(method, fresh)
    assert not same_weights(method, fitted())


# Pieces


def test_a_step_of_many_samples_equals_one_sample_at_a_time(samples):
    method = Dsr3d(tiny(anomaly__shuffle_probability=0.0, mask__p_normal=0.0), "rgb+3d")
    s = method.pipeline
    rng = np.random.default_rng(3)
    image = sampling.draw(rng, 6, 4, s.mask, s.augment)
    feature = anomalies.draw(rng, 4, (SIZE // 8, SIZE // 8), s.anomaly)

    def part(value, i):
        fields = {}
        for name, x in vars(value).items():
            if isinstance(x, anomalies.Call):
                x = replace(x, u=x.u[i : i + 1], order=x.order[i : i + 1])
            elif hasattr(x, "shape"):
                x = x[i : i + 1]
            fields[name] = x
        return type(value)(**fields)

    x, mask = sampling.make(samples.batch(image.index), image, s.mask, "rgb+3d")
    assert mask.sum((1, 2, 3)).gt(0).sum() >= 2
    many = method.net.simulate(x, mask, feature, s.anomaly)
    for i in range(4):
        x1, mask1 = sampling.make(samples.batch([image.index[i]]), part(image, i), s.mask, "rgb+3d")
        torch.testing.assert_close(x1[0], x[i], rtol=0, atol=1e-6)
        assert torch.equal(mask1[0], mask[i])
        one = method.net.simulate(x1, mask1, part(feature, i), s.anomaly)
        for a, b in zip(one, many):
            torch.testing.assert_close(a[0], b[i], rtol=0, atol=1e-5)


def test_nothing_changes_where_the_mask_is_empty(samples):
    method = Dsr3d(tiny(mask__p_normal=1.0), "rgb+3d")
    s, rng = method.pipeline, np.random.default_rng(0)
    image, feature = method._stage2_draws(rng, 6)
    x, mask = sampling.make(samples.batch(image.index), image, s.mask, "rgb+3d")
    simulated = method.net.simulate(x, mask, feature, s.anomaly)
    assert mask.sum() == simulated.target.sum() == 0
    assert torch.equal(simulated.lo, simulated.clean_lo)
    assert torch.equal(simulated.hi, simulated.clean_hi)
    terms = stage2_loss(method.net.compare(*simulated[:2], simulated.general), simulated, x, s.loss)
    weighted = s.loss.image_weight * terms["image"] + s.loss.focal_weight * terms["focal"]
    rest = terms["feature_hi"] + terms["feature_lo"] + terms["mask_l1"]
    torch.testing.assert_close(terms["total"], weighted + rest)


@pytest.mark.parametrize("score", [Score(window_px=5), Score(smoothing="gaussian", sigma_px=1.5)])
def test_smoothing_equals_a_window_moved_by_hand(score):
    maps = torch.rand(2, 20, 24, dtype=torch.float64)
    if score.smoothing == "mean":
        kernel = torch.full((5, 5), 1 / 25, dtype=torch.float64)
    else:
        line = torch.exp(-(torch.arange(-6, 7, dtype=torch.float64) ** 2) / (2 * 1.5**2))
        kernel = torch.outer(line, line) / line.sum() ** 2
    reach = len(kernel) // 2
    padded = torch.nn.functional.pad(maps, (reach,) * 4)
    wanted = torch.stack(
        [
            (padded[:, y : y + len(kernel), x : x + len(kernel)] * kernel).sum((1, 2))
            for y in range(20)
            for x in range(24)
        ],
        dim=1,
    ).view(2, 20, 24)
    torch.testing.assert_close(smooth(maps, score, "rgb+3d"), wanted)


def test_bfloat16_changes_predictions_little_and_trains_in_float32(samples, fitted):
    settings = tiny(train__mixed_precision=True, dada__train__mixed_precision=True)
    method = fitted(settings)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in method.net.parameters())
    low = Dsr3d(tiny(predict_bfloat16=True), "rgb+3d")
    low.net.load_state_dict(method.net.state_dict())
    maps = [m.predict(samples.batch([0, 1])).maps for m in (method, low)]
    torch.testing.assert_close(*maps, rtol=0, atol=0.05)


# Planning, inputs, notes


def planned(*changes):
    values = [
        "3dsr.prep.size=64",
        "3dsr.rgb.size=64",
        "3dsr.dada.images.source=procedural",
        "methods=[3dsr]",
        "3dsr.rgb.dada.images.source=procedural",
        "settings=[rgb+3d]",
    ]
    return build(config.load(str(TINY_CONFIG), [*values, *changes]))


def stage_jobs(plan):
    return [job for job in plan.jobs.values() if job.spec["kind"] == "stage"]


def test_dsr_sees_256_px_or_the_images_of_3dsr_where_these_are_smaller():
    sizes = [settings_from(Settings, {"prep": {"size": n}}).size_of("rgb") for n in (96, 384)]
    assert sizes == [96, 256]
    asked = settings_from(Settings, {"prep": {"size": 384}, "rgb": {"size": 128}})
    assert asked.size_of("rgb") == 128 and asked.size_of("3d") == asked.size_of("rgb+3d") == 384


def test_keys_name_the_size_of_dsr_where_it_was_asked_for_alone():
    """Results from before DSR had a size of its own are those of the demo."""
    demo = config.load("demo", ["methods=[3dsr]"])
    found = [
        job.spec["settings"]["rgb"]
        for job in build(demo).jobs.values()
        if "rgb" in job.spec.get("settings", {})
    ]
    assert found and all("size" not in settings for settings in found)


def test_categories_and_variants_of_stage_2_share_one_autoencoder():
    plan = planned(
        "datasets.synthetic.categories=[cookie,tread,dome]", "methods=[3dsr,3dsr/untrained]"
    )
    (stage,) = stage_jobs(plan)
    assert stage.spec["needs"] == {}
    assert len(plan.cells) == 6
    for cell in plan.cells:
        assert plan.jobs[cell["key"]].spec["needs"]["stage:dada"] == stage.key


def test_each_seed_setting_and_autoencoder_is_a_stage_of_its_own():
    assert len(stage_jobs(planned("seeds=[0,1]"))) == 2
    assert len(stage_jobs(planned("settings=[rgb,3d,rgb+3d]"))) == 3
    rows = (
        "methods=[3dsr,3dsr/vqvae,3dsr/vqvae_weighted,3dsr/no_perlin,3dsr/no_affine,3dsr/dsr_naive]"
    )
    plan = planned(rows, "datasets.synthetic.categories=[cookie,tread]")
    found = {job.key: job.spec["stage"] for job in stage_jobs(plan)}
    assert sorted(found.values()) == ["dada"] * 5 + ["dada_real"]
    (naive,) = (job for job in stage_jobs(plan) if job.spec["stage"] == "dada_real")
    assert set(naive.spec["needs"]) == {"view:cookie", "view:tread"}


def test_inputs_notes_and_sizes_tell_what_a_result_rests_on(fitted, tmp_path):
    state = fitted().net.autoencoder.state_dict()
    weights = tmp_path / "dada.pt"
    torch.save(state, weights)
    settings = tiny(dada__weights=str(weights))
    assert Dsr3d.stage_settings(settings, "rgb+3d") == {}
    assert Dsr3d.inputs(settings, "rgb+3d")["dada.weights"] == weights
    assert Dsr3d.inputs(settings, "rgb")["dada.weights"] is None
    method = fitted(settings, stages={})
    assert method.notes() == {"dada": "imported weights, dada.pt"}
    assert all(torch.equal(method.net.autoencoder.state_dict()[k], v) for k, v in state.items())
    assert method.sizes()["weight_bytes"] > 4 * method.sizes()["parameters"] > 0
    assert "DSR" in fitted(setting="rgb").notes()["network"]
    stage = trained_stage(tiny())
    assert stage.notes() == {"dada_images": "procedural"}
    assert 0 < stage.sizes()["codes_used_hi"] <= NET["codes"]


def test_weights_that_do_not_fit_or_do_not_exist_are_refused(fitted, tmp_path):
    state = fitted().net.autoencoder.state_dict()
    state["extra"] = state.pop("vq_lo.codebook")
    torch.save(state, tmp_path / "dada.pt")
    with pytest.raises(WeightsError, match="1 missing: vq_lo.codebook, 1 unexpected: extra"):
        fitted(tiny(dada__weights=str(tmp_path / "dada.pt")), stages={})
    with pytest.raises(FileNotFoundError, match="3dsr.dada.weights"):
        Dsr3d.inputs(tiny(dada__weights=str(tmp_path / "none")), "rgb+3d")


def test_a_diverged_loss_stops_the_stage(monkeypatch):
    monkeypatch.setattr("methods.blocks.training.REPORT_EVERY_S", 0.0)
    with pytest.raises(FloatingPointError, match="stage dada.*: loss is .*train.lr"):
        trained_stage(tiny(dada__train__lr=1e30))


def test_the_error_with_either_skip_is_told_and_the_autoencoder_left_as_it_was():
    x = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    for skip in ("input", "relu"):
        stage = trained_stage(tiny(dada__net__residual_skip=skip))
        autoencoder = stage.net
        with torch.inference_mode():
            own = float(torch.nn.functional.mse_loss(autoencoder(x).recon, x))
        errors = errors_by_skip(autoencoder, x)
        assert errors[skip] == own and errors.keys() == {"input", "relu"}
        assert errors["input"] != errors["relu"]
        kept = {m.relu_skip for m in autoencoder.modules() if hasattr(m, "relu_skip")}
        assert kept == {skip == "relu"}


def test_stage_classes_have_the_settings_the_planner_gives_them():
    assert DadaStage.Settings is RealDadaStage.Settings is StageSettings
