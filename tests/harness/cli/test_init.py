"""relief init: the full benchmark as a file, with the paths of this machine."""

import io

import pytest

from harness.cli import places
from harness.data.synthetic import PRESETS
from harness.data.synthetic.generate import write_category
from harness.planning import config
from harness.planning.expand import build
from tests.harness.cli.test_cli import relief
from tests.harness.conftest import checkpoint


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Data, textures, photographs and one file of weights in the usual places."""
    write_category(tmp_path / "data/MVTec_3D", "cookie", PRESETS["tiny"])
    for folder in ("data/dtd/images", "data/imagenet/train", "weights"):
        (tmp_path / folder).mkdir(parents=True)
    for image in ("data/dtd/images/dots/1.jpg", "data/imagenet/train/n01/1.JPEG"):
        (tmp_path / image).parent.mkdir()
        (tmp_path / image).touch()  # nothing reads it before a run
    for file in ("pointmae_pretrain.pth", "dino_vitbase8_pretrain.pth", "uff_pretrain.pth"):
        checkpoint(tmp_path / "weights" / file)
    monkeypatch.setattr(places, "USUAL", (str(tmp_path), str(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_found_makes_a_configuration_that_can_be_run(capsys, monkeypatch, machine):
    code, out, err = relief(capsys, monkeypatch, "init", "my.yaml")
    assert code == 0, err
    assert "relief run my.yaml" in out
    assert "left out  shape_guided; my.yaml says what each lacks" in out
    assert "weights, without wide_resnet50_racm-8234f177.pth" in out
    loaded = config.load("my.yaml")
    assert loaded.methods[:4] == ["das3d", "3dsr", "dbrn", "m3dm"]
    assert list(loaded.datasets) == ["mvtec3d"]
    assert loaded.options["das3d"].texture.folder == str(machine / "data/dtd/images")
    rgb, whole = loaded.options["3dsr"].rgb.dada, loaded.options["3dsr"].dada
    assert rgb.images.folder == whole.images.folder == str(machine / "data/imagenet/train")
    point = machine / "weights/pointmae_pretrain.pth"
    assert loaded.options["m3dm"].weights.point == str(point)
    assert loaded.options["m3dm"].weights.uff is None  # what would change numbers is told, not set
    text = (machine / "my.yaml").read_text()
    assert f"m3dm.weights.uff={machine / 'weights/uff_pretrain.pth'} takes it" in text
    assert "# shape_guided is left out, it lacks:" in text
    settings = ("schedule", "training", "protocol", "seeds", "settings", "resources")
    few = config.load("my.yaml", ["m3dm.uff.accumulation=1", "m3dm.uff.batch=6"])  # 6 samples
    base = config.load("benchmark", ["datasets.mvtec3d.kind=synthetic"])
    assert all(getattr(loaded, name) == getattr(base, name) for name in settings)
    assert {cell["method"] for cell in build(few).cells} >= {"das3d", "3dsr", "dbrn", "m3dm"}


def test_init_asks_on_a_terminal_and_offers_what_it_found(capsys, monkeypatch, machine):
    asked = {}
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def answer(text, default, **_):
        asked[text.split(" (")[0]] = default
        return "" if "ImageNet" in text else default

    monkeypatch.setattr("typer.prompt", answer)
    code, out, err = relief(capsys, monkeypatch, "init", "my.yaml")
    assert code == 0, err
    assert list(asked.values()) == [
        str(machine / part)
        for part in ("data/MVTec_3D", "data/dtd/images", "data/imagenet/train", "weights")
    ]
    assert "left out  3dsr, shape_guided" in out


@pytest.mark.parametrize("name", ["textures", "images", "weights"])
def test_a_folder_that_holds_nothing_of_what_it_is_for_is_refused(
    capsys, monkeypatch, machine, name
):
    empty = machine / "empty"
    (empty / "below").mkdir(parents=True)
    (empty / "below" / "notes.txt").write_text("none")
    code, _, err = relief(capsys, monkeypatch, "init", "my.yaml", f"--{name}", empty)
    assert code == 2 and f"--{name} {empty} holds no" in err and "or leave it out" in err
    code, _, err = relief(capsys, monkeypatch, "init", "my.yaml", f"--{name}", empty / "gone")
    assert code == 2 and "is no folder" in err
    assert not (machine / "my.yaml").exists()


def test_empty_folders_of_the_usual_names_are_passed_over(capsys, monkeypatch, machine):
    for file in (*machine.glob("data/*/*/*/*.[jJ]*"), *machine.glob("weights/*")):
        file.unlink()
    code, out, err = relief(capsys, monkeypatch, "init", "my.yaml")
    assert code == 0, err
    for name in ("textures", "images", "weights"):
        assert f"{name:9} none: --{name} FOLDER takes" in out
    assert config.load("my.yaml").methods == ["baseline", "baseline/plane", "baseline/colour"]


def test_weights_in_a_folder_below_are_found_and_damaged_ones_are_told(
    capsys, monkeypatch, machine
):
    (machine / "weights/point").mkdir()
    (machine / "weights/pointmae_pretrain.pth").rename(
        machine / "weights/point/pointmae_pretrain.pth"
    )
    (machine / "weights/uff_pretrain.pth").write_bytes(b"half")
    code, _, err = relief(capsys, monkeypatch, "init", "my.yaml")
    assert code == 0, err
    found = config.load("my.yaml").options["m3dm"].weights.point
    assert found == str(machine / "weights/point/pointmae_pretrain.pth")
    text = (machine / "my.yaml").read_text()
    assert "# uff_pretrain.pth is there, and damaged: it has 4 bytes" in text
    assert "takes it" not in text and max(map(len, text.splitlines())) <= 100 + len(str(machine))


def test_a_wrong_answer_is_asked_again(capsys, monkeypatch, machine):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    typed = ["nowhere", "", str(machine / "weights"), "", "", ""]
    monkeypatch.setattr("sys.stdin", Terminal("".join(f"{line}\n" for line in typed)))
    code, out, err = relief(capsys, monkeypatch, "init", "my.yaml")
    assert code == 0, err
    assert "nowhere is not a folder" in out
    assert f"Error: --textures {machine / 'weights'} holds no image" in out
    assert config.load("my.yaml").options["das3d"].texture.folder == str(
        machine / "data/dtd/images"
    )


def test_init_writes_over_nothing_and_says_what_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "USUAL", (str(tmp_path),))
    monkeypatch.chdir(tmp_path)
    code, _, err = relief(capsys, monkeypatch, "init")
    assert code == 2 and "--data" in err and not (tmp_path / "my.yaml").exists()
    code, _, err = relief(capsys, monkeypatch, "init", "--data", tmp_path / "nowhere")
    assert code == 2 and "nowhere is not a folder" in err
    (tmp_path / "my.yaml").write_text("mine")
    code, _, err = relief(capsys, monkeypatch, "init")
    assert code == 2 and "another name" in err
    assert (tmp_path / "my.yaml").read_text() == "mine"
