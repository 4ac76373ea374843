"""Whatever is given, the end is a clear error, a right value or a warning: no traceback, no number.

The whole is slow; every eighth input is in the daily suite.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.harness.cli.test_cli import relief
from tests.harness.conftest import TINY
from tests.harness.data.scans import write_category
from tests.hostile.files import ERROR, FILES, RIGHT
from tests.hostile.formats import CAMERAS, FORMATS
from tests.hostile.words import ENVIRONMENTS, OPTIONS, SETTINGS, YAML

OTHER = "other"


def cases():
    """name -> a function of (tmp_path, relief) -> (arguments, expected, word)"""
    found = {}
    files = FILES | FORMATS | {f"camera {name}": case for name, case in CAMERAS.items()}
    for name, (plant, expected, word) in files.items():

        def of_file(path, plant=plant, expected=expected, word=word):
            plant(write_category(path / "data", validation=0).folder)
            return ["data", "check", path / "data", "--workers", 1], {}, expected, word

        found[name] = of_file
    for name, (content, expected, word) in YAML.items():

        def of_yaml(path, content=content, expected=expected, word=word):
            (path / "c.yaml").write_bytes(content)
            return ["plan", path / "c.yaml", "--store", path / "s"], {}, expected, word

        found[f"yaml: {name}"] = of_yaml
    for text, word in SETTINGS.items():
        found[f"setting: {text}"] = lambda path, text=text, word=word: (
            ["plan", TINY, text, "--store", path / "s"],
            {},
            ERROR,
            word,
        )
    for arguments, expected, word in OPTIONS:
        name = " ".join(map(str, arguments)).replace(str(TINY), "TINY")
        found[f"option: {name}"] = lambda path, a=arguments, e=expected, w=word: (
            [_placed(item, path) for item in a],
            {},
            e,
            w,
        )
    for environment, arguments, expected, word in ENVIRONMENTS:
        name = " ".join([*(f"{k}={v}" for k, v in environment.items()), str(arguments[0])])
        found[f"environment: {name}"] = (
            lambda path, n=environment, a=arguments, e=expected, w=word: (
                [_placed(item, path) for item in a],
                {k: _placed(v, path) for k, v in n.items()},
                e,
                w,
            )
        )
    return found


def _placed(item, path):
    """DATA, STORE and FILE as they are in this test's folder."""
    text = str(item)
    if text.startswith("DATA") and not (path / "DATA").exists():
        write_category(path / "DATA", validation=0)
    (path / "STORE").mkdir(exist_ok=True)
    (path / "FILE").write_bytes(b"\x00\x01 no yaml, no weights")
    return f"{path}/{text}" if text.split("/")[0] in ("DATA", "STORE", "FILE") else item


CASES = cases()


def outcome(name, path, capsys, monkeypatch) -> tuple[str, str]:
    """What came of an input, and what was said."""
    monkeypatch.chdir(path)
    arguments, environment, expected, word = CASES[name](path)
    if environment:
        code, out, err = in_a_process(arguments, environment)
    else:
        with monkeypatch.context() as patch:
            try:
                code, out, err = relief(capsys, patch, *arguments)
            except BaseException as error:  # a traceback
                return OTHER, f"{type(error).__name__}: {error}"
    said = " ".join((out + err).split())
    if "Traceback" in said or "this is a bug" in said or code not in (0, 1, 2):
        return OTHER, said
    if word.replace(" ", "") not in said.replace(" ", ""):
        return OTHER, f"expected {word!r} in: {said}"
    if expected == ERROR:
        return (ERROR if code else OTHER), said
    if expected == RIGHT:
        return (RIGHT if code == 0 else OTHER), said
    return expected, said


def in_a_process(arguments, environment):
    """The command with these variables, most of which are read when it is imported."""
    paths = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("name", list(CASES)[::8])
def test_a_hostile_input_ends_as_it_should(name, tmp_path, capsys, monkeypatch):
    found, said = outcome(name, tmp_path, capsys, monkeypatch)
    assert found != OTHER, said


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_hostile_inputs_end_as_they_should(tmp_path, capsys, monkeypatch):
    assert len(CASES) >= 200
    tally, others = Counter(), {}
    for i, name in enumerate(CASES):
        path = tmp_path / str(i)
        path.mkdir()
        found, said = outcome(name, path, capsys, monkeypatch)
        tally[found] += 1
        if found == OTHER:
            others[name] = said[:300]
    print(dict(tally))
    assert not others, (dict(tally), others)
