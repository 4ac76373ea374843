"""What every command shares: version, --quiet, colours, completion, the order of the help."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import terminal
from tests.harness.cli.test_cli import relief

ROOT = Path(__file__).parents[3]
START = "import sys; from harness.cli.entry import main; sys.argv[0] = 'relief'; main()"


@pytest.fixture(autouse=True)
def loud():
    yield
    terminal.console.quiet = False


def test_the_version_names_the_commit_and_where_it_lies(capsys, monkeypatch):
    code, out, _ = relief(capsys, monkeypatch, "--version")
    assert code == 0
    assert re.fullmatch(rf"relief \S+(, commit [0-9a-f]{{12}}\+?)?, in {ROOT}\n", out)


def test_quiet_leaves_errors_and_json_alone(capsys, monkeypatch):
    assert relief(capsys, monkeypatch, "list", "methods", "--quiet")[1] == ""
    assert relief(capsys, monkeypatch, "--quiet", "list", "methods", "--json")[1].startswith("{")
    code, out, err = relief(capsys, monkeypatch, "plan", "nowhere", "--quiet")
    assert (code, out) == (2, "") and "nowhere" in err
    assert "das3d" in relief(capsys, monkeypatch, "list", "methods")[1]


def test_the_help_begins_with_what_is_run(capsys, monkeypatch):
    out = relief(capsys, monkeypatch, "--help")[1]
    shown = re.findall(r"^│ (\w+) ", out, re.MULTILINE)
    commands = [name for name in shown if name not in ("Options",)]
    assert commands[:5] == ["run", "plan", "status", "sweep", "study"]


def started(*arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START, *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_colours_are_left_out_where_no_color_is_set():
    plain = started("list", "methods", FORCE_COLOR="1", NO_COLOR="1")
    assert "das3d" in plain and not re.search(r"\x1b\[[\d;]*[34][0-7]m", plain)


def test_a_shell_completes_commands_and_names():
    words = {"_RELIEF_COMPLETE": "complete_bash", "COMP_WORDS": "relief stu", "COMP_CWORD": "1"}
    assert started(**words).split() == ["study", "studies"]
    words |= {"COMP_WORDS": "relief study m3dm/t", "COMP_CWORD": "2"}
    assert "m3dm/table4" in started(**words).split()
