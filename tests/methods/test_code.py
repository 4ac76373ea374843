import subprocess
import sys
from pathlib import Path

import pytest

from methods.code import DECLARED, Sources, of_source

PLAIN = b'''"""A module."""

from __future__ import annotations

from methods.blocks import perlin
import numpy as np


def twice(x: int, *, names=("a", "b")) -> int:
    """Twice it."""
    # as in the paper
    return {"x": 2 * x, "n": names}
'''
SAME = {
    "comments": (b"# as in the paper", b"# as in equation 3"),
    "docstrings": (b'"""Twice it."""\n', b'"""Two times x,\n    and more."""\n'),
    "a docstring gone": (b'    """Twice it."""\n', b""),
    "line breaks and commas": (
        b'return {"x": 2 * x, "n": names}',
        b"return {\n        'x': (2 * x),\n        'n': names,\n    }",
    ),
    "blank lines": (b"\n\n\ndef", b"\n\n\n\n\ndef"),
    "type hints": (b"x: int, *", b"x: float, *"),
    "the place of an import": (b"import numpy as np\n\n\ndef", b"def"),
}
OTHER = {
    "a number": (b"2 * x", b"3 * x"),
    "an operator": (b"2 * x", b"2 + x"),
    "a name": (b'("a", "b")', b'("a", "c")'),
    "what is imported": (b"blocks import perlin", b"blocks import points as perlin"),
    "order": (b'"x": 2 * x, "n": names', b'"n": names, "x": 2 * x'),
}


def changed(old: bytes, new: bytes) -> bytes:
    assert PLAIN.count(old) == 1
    return PLAIN.replace(old, new)


@pytest.mark.parametrize("what", SAME)
def test_what_is_only_written_otherwise_means_the_same(what):
    text = changed(*SAME[what])
    if what == "the place of an import":
        text = text.replace(b"    # as", b"    import numpy as np\n\n    # as")
    assert of_source(text).meaning == of_source(PLAIN).meaning


@pytest.mark.parametrize("what", OTHER)
def test_what_computes_otherwise_means_something_else(what):
    assert of_source(changed(*OTHER[what])).meaning != of_source(PLAIN).meaning


def test_a_meaning_is_the_same_for_every_version_of_python():
    text = b"def f(x=1e-3, *a):\n    return f'{x!r:>{a}} b' if x else [*a, None, b'c', '']\n"
    assert of_source(text).meaning == "00fe638fc1f1c341"


def test_imports_are_known_wherever_they_stand():
    text = b"""
from . import above, other as name
from ..blocks.perlin import noise
if TYPE_CHECKING:
    from methods.unseen import Type
def f():
    import methods.views
"""
    assert set(of_source(text, "methods/das3d/method.py").imports) == {
        "methods.das3d.above",
        "methods.das3d.other",
        "methods.blocks.perlin.noise",
        "methods.views",
    }


def test_what_is_no_python_means_its_bytes():
    assert of_source(b"def f(:").meaning != of_source(b"def f(::").meaning


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two methods that share a block, declared as they are."""
    monkeypatch.setenv("RELIEF_CACHE", str(tmp_path / "cache"))
    for name, text in {
        "methods/__init__.py": "",
        "methods/blocks/__init__.py": "",
        "methods/blocks/shared.py": "WIDTH = 1\n",
        "methods/a.py": "from methods.blocks.shared import WIDTH\nDEPTH = 1\n",
        "methods/b.py": "from methods.blocks import shared\nimport numpy\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sources = Sources(tmp_path)
    files = sources.closure(("methods.a", "methods.b"))
    lines = [f"{sources.read(file).meaning}  {file}\n" for file in files]
    (tmp_path / DECLARED).write_text("".join(lines))
    return tmp_path


def altered(root: Path, module: str, **same) -> list[str]:
    return list(Sources(root).altered([module], **same))


def test_an_edit_alters_what_imports_it_and_nothing_else(small):
    assert altered(small, "methods.a") == altered(small, "methods.b") == []
    (small / "methods/a.py").write_text("from methods.blocks.shared import WIDTH\nDEPTH = 2\n")
    assert altered(small, "methods.a") == ["methods/a.py"]
    assert altered(small, "methods.b") == []
    (small / "methods/blocks/shared.py").write_text("WIDTH = 2\n")
    assert altered(small, "methods.a") == ["methods/a.py", "methods/blocks/shared.py"]
    assert altered(small, "methods.b") == ["methods/blocks/shared.py"]


def test_a_module_that_nobody_declared_is_altered(small):
    (small / "methods/own.py").write_text("SEED = 1\n")
    (small / "methods/a.py").write_text("from methods.own import SEED\n")
    assert altered(small, "methods.a") == ["methods/a.py", "methods/own.py"]


def test_code_is_taken_for_earlier_code_that_is_as_good(small):
    before = Sources(small).read("methods/a.py").meaning
    (small / "methods/a.py").write_text("DEPTH = 2\n")
    now = Sources(small).read("methods/a.py").meaning
    assert Sources(small).altered(["methods.a"]) == {"methods/a.py": now}
    assert altered(small, "methods.a", same={now: before}) == []
    assert Sources(small).altered(["methods.a"], same={now: "older"}) == {"methods/a.py": "older"}


def test_what_was_read_is_kept_for_the_next_process_while_it_stays(small, monkeypatch):
    Sources(small).altered(["methods.a"])
    monkeypatch.setattr("methods.code.of_source", lambda *_: pytest.fail("read again"))
    assert altered(small, "methods.a") == []
    kept = next((small / "cache").rglob("*.json"))
    kept.write_text("{}torn")
    monkeypatch.undo()
    assert altered(small, "methods.a") == []


def test_to_know_what_code_means_nothing_of_it_is_imported():
    code = "import sys; from methods import code; code.ours().altered(['methods.das3d.method']);"
    told = f"{code} print('torch' in sys.modules, 'methods.das3d' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr
