"""relief bench: what is measured of a method, and the tables of it."""

import json

import pytest
from typer.testing import CliRunner

from harness.cli import bench as cli
from harness.cli.app import built
from harness.engine.bench import Fit, Found, Throughput, Training, _pace, few_steps
from methods import METHODS, get

SMALL = [
    "das3d.prep.size=32",
    "das3d.perlin.max_exponent=3",
    "das3d.train.batch=2",
    "das3d.score_window=3",
]


def bench(*what):
    given = ["bench", "das3d", *SMALL, "--size", "demo", "--device", "cpu", "--steps", "4"]
    given += ["--train", "2", "--batch", "2", "--seconds", "0", "--tflops", "1", *what]
    return CliRunner().invoke(built(), given)


def test_a_method_is_trained_predicts_and_says_on_what():
    done = bench("--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (row,) = found["methods"]
    (fit,) = row["fits"]
    (training,) = fit["trainings"]
    assert training["phase"] == "train" and training["steps_s"] > 0
    assert 0 <= training["waiting"] < 1
    assert [t["batch"] for t in row["throughput"]] == [1, 2]
    assert all(t["images_s"] > 0 for t in row["throughput"])
    assert row["size_px"] == 32 and row["startup_s"] > 0
    fastest = max(t["images_s"] for t in row["throughput"])
    assert row["of_peak"] == pytest.approx(2 * row["macs"] * fastest / 1e12)
    assert found["machine"]["versions"]["torch"] in found["about"][0]
    assert "the CPU" in found["about"][0] and "2 training samples" in found["about"][1]


def test_settings_that_nothing_can_be_computed_by_are_refused_as_by_run():
    done = bench("das3d.train.batch=0")
    assert done.exit_code != 0 and "das3d.train.batch is 0: give more than 0" in str(done.exception)


def test_settings_of_methods_that_are_not_asked_for_are_refused():
    done = bench("dbrn.train.batch=2")
    assert done.exit_code != 0 and "no setting of das3d" in str(done.exception)


def test_tables_show_no_memory_where_there_was_none_and_the_papers_speed():
    fits = (
        Fit("dada", 9.0, 2 * 10**9, (Training("train", 2.0, 0.25),)),
        Fit("", 1.0, None, ()),
    )
    sizes = (Throughput(1, 4.0, 10**9), Throughput(32, None, None))
    found = [Found("3dsr", "rgb+3d", 384, fits, sizes, 5 * 10**9, 1.5)]
    text = cli.markdown_text(["a CPU"], found, 1e12, {"dbrn": "no luck"})
    assert "| 3dsr | dada train | 2 | 25.0% | 9 | 2.00 |" in text
    assert "| 3dsr | fit |  |  | 1 |  |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| 3dsr | 250 |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:7] == ["250", "no memory", "1.5", "5", "4.0%", "1.00"]
    assert cells[7] == "33 (NVIDIA RTX A4500)"
    assert text.endswith("dbrn failed: no luck")


def test_the_first_steps_are_not_timed():
    marks = [(10.0, 5.0), (11.0, 5.0), (12.0, 5.5), (13.0, 5.5), (14.0, 6.0)]
    assert _pace(marks) == (1.0, 0.25)
    assert _pace(marks[:1]) is None


@pytest.mark.parametrize("name", [name for name in METHODS if name != "baseline"])
def test_published_settings_need_no_file_and_every_training_has_few_steps(name, monkeypatch):
    monkeypatch.delenv("RELIEF_WEIGHTS", raising=False)
    settings = few_steps(cli._settings(name, "published", [], 3), 3)
    cls = get(name)
    cls.inputs(settings, "rgb+3d")  # raises if one is needed
    for stage, own in cls.stage_settings(settings, "rgb+3d").items():
        cls.stages[stage].inputs(own)

    def counts(value, path=""):
        for key, one in vars(value).items() if hasattr(value, "__dataclass_fields__") else ():
            if key == "steps":
                yield f"{path}{key}", one
            yield from counts(one, f"{path}{key}.")

    found = dict(counts(settings))
    assert all(steps is None or steps <= 3 for steps in found.values())
