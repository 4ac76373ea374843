"""The data commands, as a user types them."""

import json

import pytest
from PIL import Image

from harness.cli import terminal
from tests.harness.cli.test_cli import relief

MADE = [
    "--preset",
    "tiny",
    "--category",
    "cookie",
    "--size",
    "48",
    "--train",
    "3",
    "--validation",
    "0",
    "--good",
    "1",
    "--per-defect",
    "1",
    "--workers",
    "1",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return {layout: tmp_path_factory.mktemp(layout) for layout in ("mvtec3d", "eyecandies")}


@pytest.mark.parametrize("layout", ["mvtec3d", "eyecandies"])
def test_what_is_made_passes_the_check_and_can_be_shown(
    capsys, monkeypatch, made, tmp_path, layout
):
    root = made[layout]
    code, out, err = relief(
        capsys, monkeypatch, "data", "make", "synthetic", root, "--layout", layout, *MADE
    )
    assert code == 0, err
    assert "cookie: 8 samples" in out and "relief run --data" in out

    code, out, err = relief(
        capsys, monkeypatch, "data", "check", root, "--json", tmp_path / "c.json"
    )
    assert code == 0, err
    kind = "folder" if layout == "mvtec3d" else "eyecandies"
    assert f"{root}: {kind}\n" in out and "8 samples opened, errors: 0, warnings: 0" in out
    report = json.loads((tmp_path / "c.json").read_text())
    assert report["ok"] and report["counts"]["cookie"]["train"] == {"good": 3}

    code, out, err = relief(
        capsys,
        monkeypatch,
        "data",
        "show",
        root,
        "--out",
        tmp_path / "s.png",
        "--view",
        "das3d",
        "--limit",
        "2",
    )
    assert code == 0, err
    assert "2 samples in" in out and Image.open(tmp_path / "s.png").width > 700
    code, out, err = relief(
        capsys,
        monkeypatch,
        "data",
        "show",
        root,
        "-o",
        tmp_path / "s.html",
        "--split",
        "train",
        "--sample",
        "001",
    )
    assert code == 0, err
    assert "train/good/001" in (tmp_path / "s.html").read_text()


def test_faulty_data_is_exit_code_1_and_odd_data_0(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(terminal.console, "_width", 200)
    relief(capsys, monkeypatch, "data", "make", "synthetic", tmp_path, *MADE)
    (tmp_path / "notes").mkdir()
    code, out, _ = relief(capsys, monkeypatch, "data", "check", tmp_path)
    assert code == 0 and "errors: 0, warnings: 1" in out and "not recognised" in out
    (tmp_path / "cookie/train/good/xyz/001.tiff").write_bytes(b"")
    code, out, _ = relief(capsys, monkeypatch, "data", "check", tmp_path, "--quick")
    assert code == 1 and "errors: 1, warnings: 1" in out and "cookie/train/good/xyz/001.tiff" in out


def test_a_view_is_shown_with_any_setting_under_the_methods_name(
    capsys, monkeypatch, made, tmp_path
):
    root = made["mvtec3d"]
    relief(capsys, monkeypatch, "data", "make", "synthetic", root, *MADE)
    show = ["data", "show", root, "--limit", 1, "--background", "published", "-o"]
    images = []
    for changes in ([], ["--set", "prep.plane_distance_m=0.03"]):
        code, _, err = relief(
            capsys, monkeypatch, *show, tmp_path / "s.png", "--view", "3dsr", *changes
        )
        assert code == 0, err
        images.append(Image.open(tmp_path / "s.png").tobytes())
    assert images[0] != images[1]
    code, _, err = relief(
        capsys, monkeypatch, *show, tmp_path / "s.png", "--view", "3dsr", "--set", "prep.plan=1"
    )
    assert code == 2 and "unknown key; did you mean plane" in err.replace("\n", " ")


def test_recorded_frames_are_imported_and_a_mended_copy_is_checked(capsys, monkeypatch, tmp_path):
    recorded = tmp_path / "rec"
    recorded.mkdir()
    for i in range(2):
        Image.new("RGB", (64, 48), (9, i, 9)).save(recorded / f"color_{i}.png")
        depth = Image.new("I;16", (64, 48), 600)
        depth.putpixel((3, 3), 580)
        depth.save(recorded / f"depth_{i}.png")
    (recorded / "lone.png").write_bytes(b"")
    intrinsics = {"fx": 60, "fy": 60, "ppx": 32, "ppy": 24}
    (recorded / "intrinsics.json").write_text(json.dumps(intrinsics))
    code, out, err = relief(
        capsys, monkeypatch, "data", "import", recorded, tmp_path / "out", "--category", "cup"
    )
    assert code == 0, err
    assert "cup/train/good: 2" in out and f"relief data check {tmp_path}/out" in out
    assert "lone.png: there is no depth or cloud to it" in out
    code, out, _ = relief(
        capsys, monkeypatch, "data", "check", tmp_path / "out", "--fix", tmp_path / "new"
    )
    assert code == 1 and f"{tmp_path}/new: folder" in out and "no test sample" in out
    code, _, err = relief(capsys, monkeypatch, "data", "import", tmp_path / "new", tmp_path / "x")
    assert code == 0, err
    (tmp_path / "none").mkdir()
    code, _, err = relief(capsys, monkeypatch, "data", "import", tmp_path / "none", tmp_path / "y")
    assert code == 2 and "color_007.png and depth_007.png" in err.replace("\n", " ")


def test_nothing_is_cut_and_json_stands_alone(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(terminal.console, "_width", 80)
    relief(capsys, monkeypatch, "data", "make", "synthetic", tmp_path, *MADE)
    name = "cookie/train/good/rgb/" + 60 * "long" + ".heic"
    (tmp_path / name).write_bytes(b"")
    code, out, _ = relief(capsys, monkeypatch, "data", "check", tmp_path)
    assert code == 0 and name in out and "background=auto takes plane" in out
    code, out, _ = relief(capsys, monkeypatch, "data", "check", tmp_path, "--json", "-")
    assert code == 0 and json.loads(out)["problems"][0]["file"] == name


def test_mistakes_are_one_message_and_exit_code_2(capsys, monkeypatch, made, tmp_path):
    relief(capsys, monkeypatch, "data", "make", "synthetic", made["mvtec3d"], *MADE)
    for arguments, named in [
        (["check", tmp_path / "nowhere"], "is not a folder"),
        (["check", tmp_path], "is no dataset"),
        (["check", made["mvtec3d"], "--kind", "mvtec"], "known: auto"),
        (["check", made["mvtec3d"], "--option", "light=4"], "has no option light"),
        (["show", made["mvtec3d"], "--view", "das4d"], "das3d"),
        (["show", made["mvtec3d"], "--out", tmp_path / "s.pdf"], ".html"),
        (["make", "synthetic", tmp_path, "--preset", "tny"], "tiny"),
        (["make", "synthetic", tmp_path, "--layout", "real"], "eyecandies"),
        (["make", "synthetic", tmp_path, "--category", "bread"], "cookie"),
    ]:
        code, _, err = relief(capsys, monkeypatch, "data", *arguments)
        assert code == 2, arguments
        assert named in err.replace("\n", ""), err
        assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
