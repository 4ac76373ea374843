"""Who may import whom (the layers that keep the methods usable on a bare torch machine)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = {"ray", "mlflow", "omegaconf", "optuna"}
ONLY_IN = {
    "ray": {"harness/schedule.py", "harness/sweep.py"},
    "mlflow": {"harness/tracking.py"},
    "omegaconf": {"harness/config.py"},
    "optuna": {"harness/sweep.py", "reports/sweeps.py"},     # search; charts of its trials
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
        elif isinstance(node, ast.ImportFrom) and node.level != 1:   # 1: within its package
            assert node.level == 0, f"{file} imports relatively from beyond its package"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def tops(file: str) -> set[str]:
    return {name.split(".")[0] for name in imported(file)}


def test_there_are_files_to_check():
    assert {"harness/cli.py", "methods/contract.py", "reports/render.py"} <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_imports_follow_the_layers(file):
    for package, allowed in ONLY_IN.items():
        assert package not in tops(file) or file in allowed, f"{file} imports {package}"
    if file.startswith("methods/"):
        assert not tops(file) & {"harness", "reports", *ENGINE}
    if file.startswith(("harness/data/", "harness/metrics/")):
        assert not tops(file) & {"reports", *ENGINE}
    if file.startswith("reports/"):
        harness = {name for name in imported(file) if name.split(".")[0] == "harness"}
        assert all(name == "harness" or name.startswith("harness.store") for name in harness)
        assert not tops(file) & {"torch", *ENGINE - {"optuna"}}
    if not file.startswith(("harness/cli", "harness/__main__")):
        assert not {name for name in imported(file) if name.startswith("harness.cli")}
    if file != "harness/__main__.py":
        assert not imported(file) & {"harness.cli", "harness.cli.app", "harness.cli.main"}


def test_numeric_packages_and_the_job_runner_import_without_the_engine():
    modules = [
        file[:-3].replace("/", ".").removesuffix(".__init__")
        for file in FILES
        if file.startswith(("methods/", "harness/data/", "harness/metrics/"))
    ] + ["harness.job", "harness.store"]
    code = (
        "import sys\n"
        f"for name in {sorted(ENGINE | {'pandas', 'typer', 'rich', 'tenacity'})!r}: sys.modules[name] = None\n"
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
