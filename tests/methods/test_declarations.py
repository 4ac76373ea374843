"""The half of each method that plans read, beside the half that computes."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import methods
from methods.contract import SETTINGS, Method, Stage

ROOT = Path(__file__).parents[2]
EVERY = pytest.mark.parametrize("name", methods.METHODS)


@EVERY
def test_a_method_is_what_it_is_declared_to_be(name):
    declared, method = methods.declared(name), methods.get(name)
    assert issubclass(method, declared) and issubclass(method, Method)
    assert not issubclass(declared, Method), "planning would import what computes"
    told = ("name", "version", "Settings", "variants", "validates", "prepared")
    assert all(getattr(method, a) == getattr(declared, a) for a in told)
    assert method.stages.keys() == declared.stages.keys()
    for stage, computed in method.stages.items():
        assert issubclass(computed, declared.stages[stage]) and issubclass(computed, Stage)
    settings = declared.Settings()
    for setting in SETTINGS:
        assert method.view(settings, setting) == declared.view(settings, setting)


def test_declarations_and_settings_import_no_library():
    """Standard library alone: planning 600 cells takes no longer than reading their files."""
    code = (
        "import sys\n"
        "usual = set(sys.modules)\n"  # a system may have a sitecustomize of its own
        "import methods, dataclasses\n"
        "found = [methods.declared(name) for name in methods.METHODS]\n"
        "all(dataclasses.asdict(cls.Settings()) for cls in found)\n"
        "print(*{m.partition('.')[0] for m in sys.modules} - {'methods'} - usual - "
        "set(sys.stdlib_module_names) - {n for n in sys.modules if n.startswith('_')})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([], "")


def test_a_method_without_a_declaration_is_its_own(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "toy", "tests.harness.toy_method:Toy")
    assert methods.declared("toy") is methods.get("toy")
    assert dataclasses.is_dataclass(methods.declared("toy").Settings)
