"""relief list, relief new method, relief test."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from harness.cli.app import built
from harness.cli.described import leaves
from harness.cli.listing import LISTS
from methods import METHODS, plugins
from methods.contract_suite import CHECKS
from methods.dbrn.settings import Settings as Dbrn
from tests.test_bring_your_own import FILES, ROOT, alone  # noqa: F401


def listed(*what):
    done = CliRunner().invoke(built(), ["list", *what, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("what", [kind for kind in LISTS if kind != "settings"])
def test_every_list_has_rows_of_the_same_columns(what):
    rows = listed(what)[what]
    assert len(rows) > 1 and all(row.keys() == rows[0].keys() for row in rows)
    assert CliRunner().invoke(built(), ["list", what]).exit_code == 0


@pytest.mark.parametrize(
    "what", [[kind] for kind in LISTS if kind != "settings"] + [["settings", "m3dm"]]
)
def test_in_80_columns_every_word_of_a_list_is_whole(what):
    done = CliRunner().invoke(built(), ["list", *what], env={"COLUMNS": "80"})
    assert max(map(len, done.output.splitlines())) <= 80
    texts = [
        text for row in listed(*what)[what[0]] for key, text in row.items() if key != "signature"
    ]
    words = {word for text in texts for word in text.split() if len(word) < 60 and word != "Relief"}
    assert not words - set(done.output.split())


def test_settings_are_listed_with_default_unit_and_source():
    rows = {row["key"]: row for row in listed("settings", "das3d")["settings"]}
    assert rows["das3d.skew.sigma"] == {
        "key": "das3d.skew.sigma",
        "default": "(1.0, 4.0)",
        "type": "tuple[float, float]",
        "says": "px (inferred; Sigma = I, as plotted: 1, 1)",
    }
    assert "RANSAC" in rows["das3d.prep.plane_inlier_m"]["says"]  # of a base class
    says = {row["key"]: row["says"] for row in leaves(Dbrn())}
    assert says["prep.fg_threshold"].startswith("distance from the background plane that makes the")
    assert says["prep.fg_threshold"].endswith('or "none": all is foreground')  # over its lines


def test_the_settings_of_ours_say_what_they_are():
    for name in METHODS:
        rows = listed("settings", name)["settings"]
        silent = [row["key"] for row in rows if not row["says"]]
        assert len(silent) <= 0.5 * len(rows), f"{name}: {silent}"


def test_plug_ins_are_listed_and_broken_ones_with_the_reason(tmp_path):
    (tmp_path / "mine.py").write_text(FILES["mine.py"])
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    given = [str(tmp_path / "mine.py"), str(tmp_path / "broken.py")]
    plugins.use(given)
    found = listed("methods")
    (mine,) = (row for row in found["methods"] if row["name"] == "mean_depth")
    assert mine["from"] == given[0] and mine["says"].startswith("Distance of each pixel's depth")
    (broken,) = found["broken"]
    assert broken["plug-in"] == given[1] and "No module named 'no_such_package'" in broken["why"]


def test_a_method_that_cannot_be_used_is_listed_as_broken(tmp_path):
    text = FILES["mine.py"].replace("@dataclass(frozen=True)\nclass Settings", "class Settings")
    (tmp_path / "mine.py").write_text(text)
    plugins.use([str(tmp_path / "mine.py")])
    found = listed("methods")
    assert "mean_depth" not in [row["name"] for row in found["methods"]]
    (broken,) = found["broken"]
    assert broken["plug-in"] == str(tmp_path / "mine.py") and "dataclass" in broken["why"]


def test_what_is_broken_of_a_plug_in_is_left_out_of_every_list(tmp_path):
    method = FILES["mine.py"].replace("@dataclass(frozen=True)\nclass Settings", "class Settings")
    reader = FILES["csv_folder.py"].replace('names", Options', 'names", int')
    plugins.use([str(tmp_path / "mine.py"), str(tmp_path / "read.py")])
    (tmp_path / "mine.py").write_text(method)
    (tmp_path / "read.py").write_text(reader)
    for what in ("variants", "methods", "views", "datasets", "weights"):
        found = listed(what)
        assert found[what] and "mean_depth" not in str(found[what])
        assert [one["plug-in"] for one in found["broken"]] == list(plugins.given())


def test_an_unknown_method_is_told_without_a_configuration():
    said = str(CliRunner().invoke(built(), ["test", "nothere"]).exception)
    assert said.startswith("unknown method 'nothere'; known: dbrn") and "yaml" not in said


def test_an_unknown_list_is_answered_with_the_known_ones():
    done = CliRunner().invoke(built(), ["list", "modalities"])
    assert "known: methods, variants, settings" in str(done.exception)


@pytest.mark.parametrize("what", ["methods", "datasets", "metrics", "sweeps", "studies"])
def test_a_list_that_computes_nothing_imports_no_torch(what):
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['ray'] = sys.modules['mlflow'] = None\n"
        "from harness.cli.app import built\n"
        f"built()(args=['list', '{what}'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_name_that_the_guide_gives_can_be_given(tmp_path):
    done = CliRunner().invoke(
        built(), ["new", "method", "my_method", "--in", str(tmp_path / "own")]
    )
    assert done.exit_code == 0 and (tmp_path / "own/my_method/method.py").exists(), done.output


def test_a_new_method_keeps_the_contract_at_once_and_fails_it_when_it_is_spoilt(tmp_path):
    package = tmp_path / "patches"
    done = CliRunner().invoke(built(), ["new", "method", "patches", "--in", str(package)])
    assert done.exit_code == 0 and "relief test patches" in done.output
    files = sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file())
    assert files == [
        "README.md",
        "patches/__init__.py",
        "patches/method.py",
        "pyproject.toml",
        "tests/test_patches.py",
    ]
    assert not any("my_method" in (package / file).read_text() for file in files)
    plugins.use([str(package / "patches")])
    (row,) = (row for row in listed("methods")["methods"] if row["name"] == "patches")
    assert row["says"] and "DeclaredMethod" not in row["says"]
    asked = ["test", "patches", "--setting", "rgb+3d", "patches.batch=2"]
    done = CliRunner().invoke(built(), asked)
    assert done.exit_code == 0 and "keeps the contract" in done.output, done.output
    assert all(f"{check} " in done.output for check in CHECKS)
    code = package / "patches/method.py"
    code.write_text(
        code.read_text().replace("return Prediction(maps,", "return Prediction(maps * 0,")
    )
    code.write_text(
        code.read_text().replace("mean = state", "mean = 1.001 ** id(self) % 1 + state")
    )
    done = CliRunner().invoke(built(), asked)
    assert done.exit_code == 1 and "failed  same_seed" in done.output, done.output
    lines = [line for line in done.output.splitlines() if line.startswith(("passed", "failed"))]
    says = 9 + max(map(len, CHECKS))
    assert all(line[says - 1] == " " != line[says] for line in lines), lines


@pytest.mark.parametrize(
    "name, said", [("das3d", "is taken"), ("My-Method", "no name of a Python")]
)
def test_a_name_that_cannot_be_is_refused(name, said):
    assert said in str(CliRunner().invoke(built(), ["new", "method", name]).exception)
