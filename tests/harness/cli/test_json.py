"""What a command prints for people and with --json for scripts are the same facts."""

import json

import pytest

from tests.harness.cli.test_cli import relief
from tests.harness.conftest import TINY
from tests.harness.data.scans import write_category
from tests.reports.fake_store import build_launch


def data(path):
    folder = write_category(path / "data").folder
    (folder / "train/good/xyz/000.tiff").write_bytes(b"")
    return ["data", "check", path / "data", "--quick"]


def stored(path):
    methods = (("das3d", ""), ("m3dm", ""))
    made = build_launch(path / "store", methods, ("rgb",), ("cookie",), (0, 1), arrays=False)
    return made[0].path


def of_data(found):
    yield from (found["root"], found["kind"], f"{found['opened']} samples opened", "errors: 1")
    for category, splits in found["counts"].items():
        yield category
        yield " x ".join(map(str, found["sizes"][category]))
        yield from (f"{defect} {n}" for counts in splits.values() for defect, n in counts.items())
    for problem in found["problems"]:
        yield from (f"{problem['severity']} {problem['file']}", problem["problem"], problem["todo"])


def of_plan(found):
    todo = sum(job["pending"] for job in found["jobs"])
    yield from (found["launch"], f"{found['cells']} cells of {len(found['jobs'])} jobs")
    yield f"{todo} to do"
    for job in found["jobs"]:
        if job["kind"] == "cell":
            variant = f"/{job['variant']}" if job["variant"] else ""
            yield f"{job['method']}{variant} {job['setting']}"


def of_status(found):
    for launch in found["launches"]:
        numbers = (str(launch[k]) for k in ("cells", "done", "failed", "running", "pending"))
        yield from (launch["launch"], " ".join(numbers))


def of_report(found):
    yield from (found["page"], f"{found['cells']['done']} of 4 cells done", *found["told"])
    for row in found["leaderboard"]:
        shown = row["metric"] in ("i_auroc", "aupro_0.3", "p_auroc")
        if shown and row["category"] == "mean" and row["protocol"] == "common":
            yield f"{100 * row['value']:.1f}"


def of_comparison(found):
    for row in found["changes"]:
        yield from (f"{100 * row[side]:.2f}" for side in ("a", "b") if row[side] is not None)


def of_list(found):
    for row in found["methods"]:
        yield from (row["name"], row["printed"], row["says"])


COMMANDS = {
    "data check": (data, of_data, 1),
    "plan": (lambda path: ["plan", TINY, "--store", path / "s"], of_plan, 0),
    "status": (lambda path: ["status", "--store", stored(path)], of_status, 0),
    "report": (lambda path: ["report", stored(path)], of_report, 0),
    "compare": (
        lambda path: (
            ["compare", *[stored(path)] * 2, "--a", "method=das3d", "--b", "method=m3dm"]
        ),
        of_comparison,
        0,
    ),
    "list": (lambda path: ["list", "methods"], of_list, 0),
}


SLOW = ("report",)  # test_reports.py compares its rows with the CSV


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in COMMANDS]
)
def test_a_script_reads_what_a_person_reads(name, tmp_path, capsys, monkeypatch):
    given, facts, ends = COMMANDS[name]
    arguments = given(tmp_path)
    as_json = ["--json", "-"] if name == "data check" else ["--json"]
    code, said, _ = relief(capsys, monkeypatch, *arguments, columns=1000)
    code_of_json, out, _ = relief(capsys, monkeypatch, *arguments, *as_json, columns=1000)
    assert code == code_of_json == ends
    said = " ".join(said.split())
    told = list(facts(json.loads(out)))
    assert told and not [fact for fact in told if " ".join(str(fact).split()) not in said], said
