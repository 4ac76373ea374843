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
import importlib.abc
import importlib.util
import io
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from tests.device import fake

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests/device"
# Of no fit and no prediction: counting on tensors without memory, measuring a machine.
APART = ("calibrate", "contract_suite", "counting")
OWN = {"das3d": "das3d", "dbrn": "dbrn", "dsr3d": "3dsr", "m3dm": "m3dm"}
OWN |= {name: name for name in ("shape_guided", "baseline")}
PLACE = re.compile(r"(.*\W)?device|next\(.*parameters\(\)\)|'cpu'")
CAUGHT = 1  # pytest's exit code if tests fail; others say that they could not be run


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
        return importlib.util.spec_from_file_location(fullname, ROOT / self.mutant.file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        code = compile(self.mutant.source(), str(ROOT / self.mutant.file), "exec")
        exec(code, module.__dict__)


def checks(mutant: Mutant) -> Iterator[list[str]]:
    """Options of pytest, the cheapest first: the daily checks, counts, then the variants."""
    own = OWN.get(mutant.file.split("/")[1], "")
    only = ["-k", f"{own}-" if own else "not baseline"]
    yield [f"{HERE}/check_methods.py", *only, "-m", "not slow"]
    yield [f"{HERE}/check_counts.py", "-m", "not slow", *(["-k", own] if own else [])]
    variants = ["-k", f"{own}/"] if own else []
    yield [f"{HERE}/check_methods.py", *variants, "-m", "slow"]


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name has this")
    parser.add_argument("--daily", action="store_true", help="without the slow variants")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    fake.load()
    found = [m for m in mutants() if options.only in m.name]
    survivors, started = [], time.monotonic()
    for mutant in found:
        for what in list(checks(mutant))[: 2 if options.daily else None]:
            code, line = caught(mutant, what)
            if code not in (0, CAUGHT, 5):  # 5: no test has that name
                print(f"NOT RUN ({code}) {mutant.name}: {line}", flush=True)
            if code == CAUGHT:
                print(f"caught   {mutant.name}\n         {line}", flush=True)
                break
        else:
            survivors.append(mutant)
            print(f"SURVIVED {mutant.name}", flush=True)
    seconds = time.monotonic() - started
    print(f"{len(found) - len(survivors)} of {len(found)} caught in {seconds:.0f} s")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
