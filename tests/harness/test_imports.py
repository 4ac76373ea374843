"""Who may import whom: the architecture, as a table. CONTRIBUTING.md draws the same."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.planning.codes import undeclared
from methods.code import Sources

ROOT = Path(__file__).parents[2]
ARROWS = {  # room -> the rooms it may import from
    "methods": set(),
    "harness.store": {"methods"},
    "harness.metrics": {"methods"},
    "harness.data": {"harness.store", "methods"},
    "harness.planning": {"harness.store", "harness.data", "harness.metrics", "methods"},
    "harness.engine": {
        "harness.planning",
        "harness.store",
        "harness.data",
        "harness.metrics",
        "methods",
    },
    "harness.tracking": {"harness.store", "harness.metrics"},
    "reports.numbers": {"harness.store", "harness.metrics", "methods"},
    "reports.forms": {"reports.numbers", "harness.store", "harness.metrics", "methods"},
    "reports.page": {
        "reports.forms",
        "reports.numbers",
        "harness.store",
        "harness.metrics",
        "methods",
    },
    "harness.cli": {
        "harness.engine",
        "harness.tracking",
        "harness.planning",
        "harness.store",
        "harness.metrics",
        "harness.data",
        "methods",
        "reports.numbers",
        "reports.forms",
        "reports.page",
    },
    "harness.api": {
        "harness.engine",
        "harness.planning",
        "harness.store",
        "harness.metrics",
        "methods",
        "reports.numbers",
    },
    "harness.__main__": {"harness.cli"},
}
LIGHT = {
    "methods.validation",
    "methods.names",
    "methods.marks",
    "methods.seeds",
    "methods.files",
    "methods.errors",
}  # what needs no torch
ENGINE = {"ray", "mlflow", "omegaconf", "optuna"}
ONLY_IN = {  # package -> where it is imported
    "ray": "harness/engine/",
    "mlflow": "harness/tracking/",
    "omegaconf": "harness/planning/",
    "optuna": (
        "harness/engine/tuning.py",
        "reports/page/trials.py",
    ),  # search; charts of its trials
    "typer": "harness/cli/",
}
FILES = sorted(
    p.relative_to(ROOT).as_posix()
    for package in ("harness", "methods", "reports")
    for p in (ROOT / package).rglob("*.py")
)


def imported(file: str) -> set[str]:
    """Full dotted names a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level != 1:  # 1: within its package
            assert node.level == 0, f"{file} imports relatively from beyond its package"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(file: str) -> set[str]:
    return {name.split(".")[0] for name in imported(file)}


def room(name: str) -> str:
    """ "harness.data.views" -> "harness.data"; methods are one room."""
    parts = name.split(".")
    return parts[0] if parts[0] == "methods" else ".".join(parts[:2])


def room_of(file: str) -> str:
    return room(file.removesuffix(".py").replace("/", "."))


def arrows(file: str) -> set[str]:
    """The other rooms that a file imports from."""
    ours = {
        name for name in imported(file) if name.split(".")[0] in ("harness", "methods", "reports")
    }
    return {room(name) for name in ours} - {room_of(file)}


def test_every_room_has_files_and_every_file_a_room():
    rooms = {room_of(file) for file in FILES} - {"harness.__init__", "reports.__init__"}
    assert rooms == set(ARROWS)


@pytest.mark.parametrize("file", FILES)
def test_imports_follow_the_arrows(file):
    assert arrows(file) <= ARROWS.get(room_of(file), set())
    for package, where in ONLY_IN.items():
        assert package not in tops(file) or file.startswith(where), f"{file} imports {package}"
    if file.startswith(("reports/", "harness/store/", "harness/tracking/")):
        assert "torch" not in tops(file)
        ours = {name.rpartition(".")[0] for name in imported(file) if name.startswith("methods.")}
        assert ours <= LIGHT


def test_the_arrows_go_one_way():
    def below(room: str) -> set[str]:
        return ARROWS[room].union(*(below(other) for other in ARROWS[room]))

    assert all(room not in below(room) for room in ARROWS)  # a circle would not end


def test_contributing_draws_the_same_arrows():
    rooms = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Rooms\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.]+)` \|[^|\n]*\| ([^|\n]*) \|$", rooms, re.MULTILINE)
    drawn = {room: set(re.findall(r"`([\w.]+)`", below)) for room, below in rows}
    assert len(drawn) == len(rows), "a room stands twice"
    assert drawn == ARROWS


def test_numeric_packages_and_the_job_runner_import_without_the_engine():
    modules = [
        file[:-3].replace("/", ".").removesuffix(".__init__")
        for file in FILES
        if file.startswith(("methods/", "harness/data/", "harness/metrics/", "harness/store/"))
    ] + ["harness.engine.job"]
    missing = sorted(ENGINE | {"pandas", "typer", "rich", "tenacity"})
    code = (
        "import sys\n"
        f"for name in {missing!r}: sys.modules[name] = None\n"
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_code_that_computes_is_as_declared():
    """Else its results would be those of somebody's own edit: everything would be computed anew."""
    changed = undeclared(Sources())
    assert not changed, (
        f"{changed}: if numbers change, raise these versions; then, in either case, "
        "python -m harness.planning.codes declare, and commit methods/declared.txt"
    )
