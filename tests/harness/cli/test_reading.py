"""An installation that only reads results: what it can do, and what it says of the rest."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from harness.cli import installation
from tests.harness.conftest import TINY
from tests.reports.fake_store import build_launch

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROWS = dict(
    methods=(("das3d", ""),),
    settings=("rgb", "3d"),
    categories=("cookie",),
    views=False,
    arrays=False,
)
WITHOUT = """
import json, sys
from importlib import metadata
left_out, arguments = json.load(sys.stdin)

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in left_out:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def version(name, known=metadata.version):
    if name in left_out:
        raise metadata.PackageNotFoundError(name)
    return known(name)

sys.meta_path.insert(0, Missing())
metadata.version = version
"""
COMMANDS = """
import contextlib, io
from harness.cli import app
for command in arguments:
    sys.argv = ["relief", *command]
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code or 0
    print(json.dumps([code, told.getvalue()]))
"""


def test_the_group_is_part_of_what_relief_requires_and_the_rest_is_known_to_be_left_out():
    whole, part = PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["read"]
    assert set(part) < set(whole)
    rest = {re.match(r"[\w-]+", one)[0] for one in set(whole) - set(part)}
    packages = metadata.packages_distributions()  # name to import -> what installs it
    left_out = {name for module in installation.LEFT_OUT for name in packages[module]}
    parts = {"mlflow-skinny", "mlflow-tracing"}
    assert {name.lower() for name in left_out} - parts == rest


def commands(store):
    """(arguments, exit code, what is said)"""
    at = ["--store", str(store)]
    rest = "uv pip install -e ."
    yield ["--help"], 0, "compare"
    yield ["list", "methods"], 0, "shape_guided"
    yield ["status", *at], 0, "fake-00000000"
    yield ["report", *at], 0, "leaderboard.html"
    yield ["compare", str(store), str(store), "--a", "setting=rgb", "--b", "setting=3d"], 0, "pairs"
    yield ["plan", str(TINY), "demo=false", *at], 0, "counted by torch, which is not installed"
    yield ["run", str(TINY), *at], 2, f"computing jobs needs torch: .*{rest}"
    yield ["sweep", "das3d_simulation", *at], 2, f"this needs torch: .*{rest}"
    yield ["sync", *at], 2, f"this needs mlflow: .*{rest}"
    yield ["doctor"], 2, f"this needs torch: .*{rest}"


def test_without_what_computes_results_can_be_read_and_the_rest_says_what_to_install(tmp_path):
    store = build_launch(tmp_path / "store", **ROWS)[0].path
    wanted = list(commands(store))
    before = sorted(store.glob("launches/*"))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + COMMANDS],
        input=json.dumps([installation.LEFT_OUT, [arguments for arguments, *_ in wanted]]),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(wanted), done.stderr
    for (arguments, code, said), (ended, told) in zip(wanted, found):
        assert ended == code and re.search(said, told), f"{arguments}: {told}"
    assert sorted(store.glob("launches/*")) == before  # nothing was begun


@pytest.mark.slow
def test_the_documented_installation_reads_results(tmp_path):
    """As README.md, "Two commands", says, in an environment of its own."""
    lines = (ROOT / "README.md").read_text().splitlines()
    line = next(line for line in lines if "--group read" in line).split("#")[0]
    assert "uv venv" in line
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment |= {
        "UV_PROJECT_ENVIRONMENT": str(tmp_path / "v"),
        "VIRTUAL_ENV": str(tmp_path / "v"),
    }
    line = line.replace("uv venv", f"uv venv {tmp_path / 'v'}")
    subprocess.run(["bash", "-ec", line], cwd=ROOT, env=environment, check=True)
    store = build_launch(tmp_path / "store", **ROWS)[0].path
    for arguments, code, said in commands(store):
        done = subprocess.run(
            [tmp_path / "v/bin/relief", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, f"{arguments}: {done.stderr}"
        assert re.search(said, done.stdout + done.stderr), arguments
