"""relief weights import: strict, told key by key, and what it writes replaces the stage."""

import hashlib
import json
import re
from dataclasses import replace

import pytest
import torch

import methods
from harness.cli import terminal, weights
from harness.planning import config
from harness.planning.expand import build
from harness.store import DONE, Store
from methods.blocks.point_transformer import PointTransformer
from methods.contract import settings_from
from methods.dsr3d.dada import Autoencoder
from methods.dsr3d.settings import DadaNet
from methods.dsr3d.weights import RENAMED, ours
from methods.published import WeightFile
from methods.shape_guided.sdf import ShapeNet
from tests.harness.cli.test_cli import relief
from tests.harness.conftest import TINY, checkpoint, run

NET = {"hidden": 16, "residual_hidden": 8, "dim": 16, "codes": 32}
OPTIONS = [f"3dsr.dada.net.{key}={value}" for key, value in NET.items()]
SMALL = [
    "3dsr.prep.size=64",
    "3dsr.restriction_base=4",
    "3dsr.unet_base=4",
    "3dsr.train.steps=2",
    "3dsr.train.batch=2",
    "3dsr.decoder={width: 4, bottleneck: 4, hidden: 8, residual_hidden: 4}",
    "methods=[3dsr]",
    "datasets.synthetic.categories=[cookie]",
]


def theirs(key):
    """The authors' name for an entry of our autoencoder of two groups."""
    candidates = [
        (r"^encoder_lo\.", "_encoder_t."),
        (r"^encoder_hi\.", "_encoder_b."),
        (r"^pre_vq_lo\.", "_pre_vq_conv_top."),
        (r"^pre_vq_hi\.", "_pre_vq_conv_bot._pre_vq_conv_bot."),
        (r"^vq_lo\.", "_vq_vae_top."),
        (r"^vq_hi\.", "_vq_vae_bot."),
        (r"^decoder\.", "_decoder_b."),
        (r"^upsample\.", "upsample_t."),
        (r"codebook$", "_embedding.weight"),
        (r"ema_sum$", "_ema_w"),
        (r"ema_count$", "_ema_cluster_size"),
        (r"residuals\.(\d)\.conv_1\.", r"_residual_stack._layers.\1._block.1."),
        (r"residuals\.(\d)\.conv_2\.", r"_residual_stack._layers.\1._block.3."),
        (r"\.up_(\d)\.", r"._conv_trans_\1."),
        (r"\.conv_(depth|rgb)\.", r".input_conv_\1."),
        (r"\.out_(depth|rgb)\.", r"._conv_out_\1."),
        (r"\.conv_(\d)\.", r"._conv_\1."),
    ]
    for pattern, replacement in candidates:
        key = re.sub(pattern, replacement, key)
    return key


@pytest.fixture
def published(tmp_path):
    """A checkpoint as the authors would publish one of NET, and the network in it."""
    net = Autoencoder(settings_from(DadaNet, NET), "rgb+3d")
    net.init_weights(torch.Generator().manual_seed(0))
    path = tmp_path / "DADA_RGB_D.pckl"
    torch.save({theirs(key): value for key, value in net.state_dict().items()}, path)
    return path, net


@pytest.fixture
def command(capsys, monkeypatch):
    monkeypatch.setattr(terminal.console, "_width", 200, raising=False)
    return lambda *arguments: relief(capsys, monkeypatch, "weights", "import", *arguments)


def test_what_fits_is_converted_and_says_how_to_use_it(command, published, tmp_path):
    path, net = published
    out = tmp_path / "dada.pt"
    code, said, err = command("3dsr.dada.weights", path, out, *OPTIONS)
    assert code == 0, said + err
    assert f"matched    {len(net.state_dict())}" in said
    assert f"3dsr.dada.weights={out}" in said and "settings=[rgb+3d]" in said
    state = torch.load(out, weights_only=True)
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())


def test_our_names_are_their_own_translation():
    for setting in ("rgb", "3d", "rgb+3d"):
        keys = Autoencoder(settings_from(DadaNet, NET), setting).state_dict()
        assert [ours(key) for key in keys] == list(keys)
    assert len(RENAMED) > 10


def test_what_does_not_fit_is_listed_and_nothing_is_written(command, published, tmp_path):
    path, _ = published
    state = torch.load(path, weights_only=True)
    del state["_vq_vae_top._ema_w"]
    state["module.extra"] = torch.zeros(1)
    state["_decoder_b._conv_out_rgb.bias"] = torch.zeros(7)
    torch.save(state, path)
    out = tmp_path / "dada.pt"
    code, said, _ = command("3dsr.dada.weights", path, out, *OPTIONS)
    assert code == weights.EXIT_MISFIT and not out.exists()
    assert re.search(r"missing +1\n +vq_lo\.ema_sum\n", said)
    assert re.search(r"unexpected +1\n +module\.extra\n", said)
    assert re.search(
        r"differing +1\n.*_conv_out_rgb\.bias: \(7,\) in the file, \(3,\) wanted", said
    )
    assert f"matched    {len(state) - 2}" in said


def test_a_checkpoint_of_another_setting_or_width_is_refused(command, published, tmp_path):
    path, _ = published
    out = tmp_path / "dada.pt"
    for arguments in (["--setting", "3d", *OPTIONS], ["3dsr.dada.net.hidden=32"], []):
        code, said, _ = command("3dsr.dada.weights", path, out, *arguments)
        assert code == weights.EXIT_MISFIT and "does not fit" in said and not out.exists()


class Malicious:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_file_is_executed(command, tmp_path):
    path = tmp_path / "evil.pckl"
    torch.save({"weight": Malicious()}, path)
    for content in (None, b"no checkpoint"):
        if content:
            path.write_bytes(content)
        code, said, _ = command("3dsr.dada.weights", path, tmp_path / "out.pt")
        assert code == weights.EXIT_MISFIT and "is no PyTorch checkpoint" in said
        assert not said.startswith("executed")


def test_mistakes_say_what_would_do(command, published, tmp_path):
    path, out = published[0], tmp_path / "dada.pt"
    for arguments, wanted in [
        (("3dsr.dada", path, out), "3dsr.dada.weights"),
        (("4dsr.dada.weights", path, out), "did you mean '3dsr'"),
        (("das3d.weights", path, out), "of das3d these do: none"),
        (("3dsr.dada.weights", path, out, "--setting", "4d"), "known: rgb, 3d, rgb+3d"),
        (("3dsr.dada.weights", path, out, "3dsr.dada.net.hiden=3"), "did you mean hidden"),
        (("3dsr.dada.weights", path, out, "m3dm.batch=3"), "only settings of 3dsr"),
        (("3dsr.dada.weights", tmp_path / "none", out), "no file"),
        (("3dsr.dada.weights", path, tmp_path), "give the file to write"),
    ]:
        code, _, err = command(*arguments)
        assert code == 2 and wanted in err.replace("\n", ""), err


@pytest.mark.parametrize(
    "name, options",
    [
        ("shape_guided.weights.sdf", []),
        ("m3dm.weights.point", ["m3dm.point.depth=3", "m3dm.point.width=24", "m3dm.point.heads=2"]),
    ],
)
def test_other_methods_import_theirs_into_what_their_loaders_take(command, tmp_path, name, options):
    settings = config.settings_of(name.split(".")[0], options)
    path, out = tmp_path / "theirs.pth", tmp_path / "ours.pt"
    if name.startswith("m3dm"):
        net = PointTransformer(settings.point.family, 24, 3, 2)
        state = {
            "base_model": {
                **{f"module.MAE_encoder.{k}": v for k, v in net.state_dict().items()},
                "MAE_decoder.weight": torch.zeros(1),
            }
        }
    else:
        net = ShapeNet(settings.net)
        state = {"sdf_model": net.state_dict(), "epoch": 600}
    torch.save(state, path)
    code, said, err = command(name, path, out, *options)
    assert code == 0, said + err
    if name.startswith("m3dm"):
        from methods.m3dm.weights import point_network

        loaded = point_network(settings.point, str(out))
    else:
        from methods.shape_guided.weights import load_shape_net

        loaded = ShapeNet(settings.net)
        load_shape_net(loaded, out)
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in net.state_dict().items())


@pytest.fixture
def imported(command, published, tmp_path):
    out = tmp_path / "dada.pt"
    assert command("3dsr.dada.weights", published[0], out, *OPTIONS)[0] == 0
    return out


def planned(*changes):
    return build(config.load(str(TINY), [*SMALL, *OPTIONS, "settings=[rgb+3d]", *changes]))


def test_imported_weights_replace_the_stage_and_mark_the_row(imported, tmp_path):
    plan, store = planned(f"3dsr.dada.weights={imported}"), Store(tmp_path / "store")
    kinds = [job.spec["kind"] for job in plan.jobs.values()]
    assert "stage" not in kinds
    trained = planned("3dsr.dada.images.source=bundled")
    assert "stage" in [job.spec["kind"] for job in trained.jobs.values()]
    summary = run(plan, store)
    assert not summary.failures, summary.failures[0]["reason"]
    result = store.result(plan.cells[0]["key"])
    assert result.status == DONE and result.notes["dada"] == "imported weights, dada.pt"
    assert "imported" in result.marks


def test_the_key_of_a_cell_holds_the_content_of_its_weights_and_not_their_path(imported, tmp_path):
    first = planned(f"3dsr.dada.weights={imported}")
    copy = tmp_path / "copy.pt"
    copy.write_bytes(imported.read_bytes())
    assert planned(f"3dsr.dada.weights={copy}").cells[0]["key"] == first.cells[0]["key"]
    state = torch.load(copy, weights_only=True)
    state["vq_lo.codebook"] += 1
    torch.save(state, copy)
    assert planned(f"3dsr.dada.weights={copy}").cells[0]["key"] != first.cells[0]["key"]


def test_every_method_names_the_settings_that_take_published_weights():
    found = {
        name: sorted(
            {
                key
                for setting in ("rgb", "3d", "rgb+3d")
                for key in methods.get(name).published(methods.get(name).Settings(), setting)
            }
        )
        for name in methods.METHODS
    }
    assert found["3dsr"] == ["dada.weights", "rgb.dada.weights"]
    assert found["m3dm"] == ["weights.point"] and found["shape_guided"] == ["weights.sdf"]


def test_a_file_is_known_by_its_checksum_or_gits_name_of_its_content(tmp_path, monkeypatch):
    monkeypatch.setenv("RELIEF_WEIGHTS", str(tmp_path))
    (tmp_path / "a.pt").write_bytes(b"content\n")
    blob = "d95f3ad14dee633a758d2e331151e950dd13e4ed"  # git hash-object a.pt
    sha = hashlib.sha256(b"content\n").hexdigest()
    file = WeightFile("m3dm.weights.uff", "a.pt", "", "", "")
    assert file.as_published is None
    assert replace(file, git_blob=blob).as_published and replace(file, sha256=sha).as_published
    assert replace(file, git_blob=sha[:40]).as_published is False
    assert replace(file, file="b.pt", sha256=sha).as_published is None


def test_the_list_says_of_every_published_file_what_it_is_for_and_what_is_done_without(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("RELIEF_WEIGHTS", str(tmp_path))
    (tmp_path / "deeper").mkdir()
    checkpoint(tmp_path / "deeper/uff_pretrain.pth")
    (tmp_path / "DADA_D.pckl").write_bytes(b"abc")
    code, out, _ = relief(capsys, monkeypatch, "weights", "list", "--json")
    listed = {one["file"]: one for one in json.loads(out)}
    assert (
        code == 0
        and len(listed) == 12
        and all(
            one[key]
            for one in listed.values()
            for key in ("purpose", "source", "without", "licence")
        )
    )
    assert listed["uff_pretrain.pth"]["found"] == str(tmp_path / "deeper/uff_pretrain.pth")
    assert listed["uff_pretrain.pth"]["damaged"] == "" == listed["DADA_RGB_D.pckl"]["found"]
    assert listed["DADA_D.pckl"]["damaged"] == "it has 3 bytes"
    _, out, _ = relief(capsys, monkeypatch, "weights", "list")
    assert "DADA_D.pckl (damaged or no checkpoint, it has 3 bytes)" in out and "1 of 12" in out
    _, told, _ = relief(capsys, monkeypatch, "list", "weights", "--json")
    assert {row["file"] for row in json.loads(told)["weights"]} == {*listed, ""}
    assert listed["DADA_D.pckl"]["as_published"] is False
    assert listed["uff_pretrain.pth"]["as_published"] is None
    assert "git blob dc03f4e588e0f531b86796ef654564541d28f3c1, the file has another" in out
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setenv("RELIEF_WEIGHTS", nowhere)
    _, out, _ = relief(capsys, monkeypatch, "weights", "list")
    assert f"0 of 12 found in {nowhere}, which is no folder (RELIEF_WEIGHTS)" in out
    assert {one["setting"] for one in listed.values()} == {
        *(f"m3dm.weights.{part}" for part in ("rgb", "point", "uff")),
        *(f"shape_guided.weights.{part}" for part in ("rgb", "sdf")),
        "3dsr.dada.weights",
        "3dsr.rgb.dada.weights",
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"abc", "it has 3 bytes"),
        (b"<html>" * 99, "it is no file of PyTorch"),
        (b"PK\x03\x04" + bytes(999), "its end is missing"),
        ((10**6).to_bytes(8, "little") + b"{" + bytes(999), "its end is missing"),
    ],
)
def test_a_file_that_is_no_checkpoint_or_half_of_one_is_refused_by_plan(tmp_path, content, why):
    path = tmp_path / "DADA_D.pckl"
    path.write_bytes(content)
    changes = ["methods=[3dsr]", "settings=[3d]", f"3dsr.dada.weights={path}"]
    with pytest.raises(config.ConfigError, match=f"damaged or no checkpoint, {why}"):
        build(config.load(str(TINY), changes))


def test_a_folder_gives_3dsr_a_checkpoint_for_each_setting(tmp_path, monkeypatch):
    names = {"3d": "DADA_D.pckl", "rgb+3d": "DADA_RGB_D.pckl"}
    for name in names.values():
        checkpoint(tmp_path / name)
    monkeypatch.setenv("RELIEF_WEIGHTS", str(tmp_path))

    def files(given):
        changes = ["methods=[3dsr]", "settings=[3d,rgb+3d]", f"3dsr.dada.weights={given}"]
        plan = build(config.load(str(TINY), changes))
        cells = [job for job in plan.jobs.values() if job.about.kind == "cell"]
        assert not any(job.about.kind == "stage" for job in plan.jobs.values())
        return {c.about.setting: c.place.inputs["dada.weights"] for c in cells}, set(plan.jobs)

    found, keys = files(tmp_path)
    assert found == {setting: str(tmp_path / name) for setting, name in names.items()}
    assert files("published") == (found, keys)
    with pytest.raises(
        config.ConfigError, match="DADA_D.pckl is 3DSR, autoencoder of 3d, not what"
    ):
        files(tmp_path / "DADA_D.pckl")


def test_dsr_asks_for_images_by_its_own_setting():
    changes = ["methods=[3dsr]", "settings=[rgb]"]
    with pytest.raises(config.ConfigError, match="3dsr.rgb.dada.images.folder is not set"):
        build(config.load(str(TINY), changes))


def test_what_a_method_needs_is_found_in_the_folder_of_weights(tmp_path, monkeypatch):
    changes = ["methods=[shape_guided]", "settings=[rgb]"]
    with pytest.raises(config.ConfigError, match="RELIEF_WEIGHTS"):
        build(config.load(str(TINY), changes))
    file = tmp_path / "wide_resnet50_racm-8234f177.pth"
    checkpoint(file)
    monkeypatch.setenv("RELIEF_WEIGHTS", str(tmp_path))
    found = build(config.load(str(TINY), changes))
    monkeypatch.delenv("RELIEF_WEIGHTS")
    given = build(config.load(str(TINY), [*changes, f"shape_guided.weights.rgb={file}"]))
    assert list(found.jobs) == list(given.jobs)
