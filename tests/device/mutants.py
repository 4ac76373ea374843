"""Do the checks of this folder find a forgotten device? python -m tests.device.mutants

A mutant is the package with one placement taken out: a `.to(device)`, a `device=`, a
`map_location=` or a `.cpu()`. Each is computed in a process of its own, forked from one that has
loaded torch and the fake accelerator, by the checks of the methods that have the changed module;
one that passes them all has survived.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import importlib
import importlib.abc
import importlib.util
import io
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.device import fake

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests/device"
# Of no fit and no prediction: counting on tensors without memory, measuring a machine.
APART = ("calibrate", "contract_suite", "counting")
# Folder of a method and its name in tests; the fastest first.
OWN = {"baseline": "baseline", "das3d": "das3d", "dbrn": "dbrn", "dsr3d": "3dsr"}
OWN |= {"m3dm": "m3dm", "shape_guided": "shape_guided"}
PLACE = re.compile(r"(.*\W)?device|next\(.*parameters\(\)\)|'cpu'")
CAUGHT, NO_TEST = 1, 5  # pytest's exit codes if tests fail, and if none has that name


@dataclass(frozen=True)
class Mutant:
    """One placement of a module that is not there. number: of the placements of its file"""

    file: str
    number: int
    line: int
    text: str  # what is taken out of

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").replace("/", ".")

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line} {self.text}"

    def source(self) -> ast.Module:
        tree = ast.parse((ROOT / self.file).read_text(encoding="utf-8"))
        return ast.fix_missing_locations(_Without(self.number).visit(tree))


class _Without(ast.NodeTransformer):
    """Takes out the placement of a number, and tells of all that it passes."""

    def __init__(self, number: int = -1):
        self.number, self.found = number, list[tuple[int, str]]()

    def _hit(self, node: ast.Call) -> bool:
        self.found.append((node.lineno, ast.unparse(node)))
        return len(self.found) - 1 == self.number

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if isinstance(node.func, ast.Name) and node.func.id in ("moved", "sent"):
            return node.args[0] if self._hit(copy.deepcopy(node)) else node
        moves = name == "to" and node.args and PLACE.fullmatch(ast.unparse(node.args[0]))
        if moves and self._hit(copy.deepcopy(node)):
            node.args = node.args[1:]
        if name == "cpu" and self._hit(copy.deepcopy(node)):
            return node.func.value
        for keyword in [k for k in node.keywords if _places(k)]:
            if self._hit(copy.deepcopy(node)):
                node.keywords = [k for k in node.keywords if k is not keyword]
        if name == "to" and not node.args and not node.keywords:
            return node.func.value
        return node


def _places(keyword: ast.keyword) -> bool:
    return keyword.arg in ("device", "map_location") and not isinstance(keyword.value, ast.Constant)


def mutants() -> list[Mutant]:
    """Of all methods, stages and blocks."""
    found = []
    for path in sorted((ROOT / "methods").rglob("*.py")):
        if path.stem in APART:
            continue
        seek = _Without()
        seek.visit(ast.parse(path.read_text(encoding="utf-8")))
        file = path.relative_to(ROOT).as_posix()
        found += [Mutant(file, i, *one) for i, one in enumerate(seek.found)]
    return found


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the module of a mutant in place of the true one."""

    def __init__(self, mutant: Mutant):
        self.mutant = mutant

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname != self.mutant.module:
            return None
        return importlib.util.spec_from_file_location(
            fullname, ROOT / self.mutant.file, loader=self
        )

    def exec_module(self, module: ModuleType) -> None:
        code = compile(self.mutant.source(), str(ROOT / self.mutant.file), "exec")
        exec(code, module.__dict__)


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Modules of methods that a module imports, and those that these import."""
    file = ROOT / f"{module.replace('.', '/')}.py"
    file = file if file.exists() else file.with_suffix("") / "__init__.py"
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("methods."):
            found.add(node.module)
    return frozenset(found.union(*map(imports, found)))


def users(mutant: Mutant) -> list[str]:
    """Methods that have the changed module, all of them where none imports it."""
    own = [name for folder, name in OWN.items() if f"methods/{folder}/" in mutant.file]
    having = [n for f, n in OWN.items() if mutant.module in imports(f"methods.{f}.method")]
    return own or having or list(OWN.values())


def checks(mutant: Mutant) -> Iterator[list[str]]:
    """Options of pytest, the cheapest first: the daily checks, counts, then the variants."""
    names = users(mutant)
    for name in names:
        yield [f"{HERE}/check_methods.py", "-k", f"{name}-", "-m", "not slow"]
    counts = [*names, *(["patch"] if "shape_guided" in names else [])]
    yield [f"{HERE}/check_counts.py", "-k", " or ".join(counts), "-m", "not slow"]
    for name in names:
        yield [f"{HERE}/check_methods.py", "-k", f"{name}/", "-m", "slow"]


def caught(mutant: Mutant | None, options: list[str]) -> tuple[int, str]:
    """pytest's exit code and its last line, in a process of its own."""
    told, tell = os.pipe()
    if not (child := os.fork()):
        code, line = 3, ""
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            if mutant:
                sys.meta_path.insert(0, _Finder(mutant))
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=line", *options]))
        lines = [x for x in out.getvalue().splitlines() if x.strip()]
        line = next((x for x in lines if "Error" in x), lines[-1] if lines else "")
        os.write(tell, line[-300:].encode())
        os._exit(code)
    os.close(tell)
    with os.fdopen(told, errors="replace") as pipe:
        line = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), line


def _load_libraries() -> None:
    """All that methods import, once; the methods themselves are imported anew by each mutant."""
    for path in sorted((ROOT / "methods").glob("*/*.py")):
        importlib.import_module(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."))
    for name in [n for n in sys.modules if n.partition(".")[0] == "methods"]:
        del sys.modules[name]


def verdict(mutant: Mutant | None, checks: Iterable[list[str]]) -> str:
    """The error that tells the mutant; empty if it passes all checks."""
    for what in checks:
        code, line = caught(mutant, what)
        if code == CAUGHT:
            return line
        if code not in (0, NO_TEST):
            raise RuntimeError(f"pytest {' '.join(what)} ended with {code}: {line}")
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name has this")
    parser.add_argument("--part", default="1/1", help="e.g. 1/5: every fifth, from the first on")
    parser.add_argument("--daily", action="store_true", help="without the slow variants")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process that is forked has no other threads
    fake.load()
    _load_libraries()
    part, parts = map(int, options.part.split("/"))
    found = [m for m in mutants() if options.only in m.name][part - 1 :: parts]
    survivors, started = [], time.monotonic()
    for mutant in found:
        daily = (what for what in checks(mutant) if not (options.daily and "slow" in what))
        line = verdict(mutant, daily)
        print(f"{'caught  ' if line else 'SURVIVED'} {mutant.name}", flush=True)
        print(f"         {line}", flush=True)
        survivors += [] if line else [mutant]
    seconds = time.monotonic() - started
    print(f"{len(found) - len(survivors)} of {len(found)} caught in {seconds:.0f} s")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
