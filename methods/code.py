"""What code means, and whether it is the code that our versions stand for.

A version of a method, a view or a metric is raised by hand when its numbers change. `declared.txt`
lists every module that computes by its meaning as of these versions; a module that means something
else here was changed by somebody who said nothing of the numbers, so its results are told apart.

The meaning of a module is its syntax tree without comments, docstrings, formatting, type hints of
functions, and the places of its imports. No module is imported to know it, and none is read again
while its size and time of change stay.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from methods.files import cache, read_cache, write_cache

ROOT = Path(__file__).resolve().parents[1]  # the folder that this installation lies in
DECLARED = "methods/declared.txt"
COMPUTE = ("methods", "harness.data", "harness.metrics", "harness.store.frames")  # what is followed
APART = (  # tables of all that there is, words, files: what computes no result
    "harness.data.datasets",
    "harness.data.views.recipes",
    "harness.data.views.registry",
    "methods.code",
    "methods.errors",
    "methods.files",
    "methods.marks",
    "methods.plugins",
    "methods.work",
)
RULES = 1  # of `meaning`; raise when it gives other digits


class Module(NamedTuple):
    meaning: str  # 16 hex digits
    imports: tuple[str, ...]  # dotted names of modules, or of what is in them


class Sources:
    """The modules below a folder that holds `harness` and `methods`."""

    def __init__(self, root: Path = ROOT):
        self.root = root
        self._read: dict[str, Module] = {}
        self._closures: dict[tuple[str, ...], frozenset[str]] = {}
        self._files: dict[str, str | None] = {}
        self._kept: dict[str, list[Any]] | None = None  # file -> size, time of change, a Module
        self._fresh = False

    def altered(
        self, roots: Iterable[str], alone: Iterable[str] = (), same: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Of the modules that compute what `roots` compute: file -> its meaning, where that is not
        the declared one.

        roots: dotted names; alone: of modules that count without what they import; same: meaning
        -> an earlier one that it is taken for
        """
        found = {}
        for file in sorted(self.files(tuple(roots), tuple(alone))):
            meaning = self.read(file).meaning
            while same and meaning in same:
                meaning = same[meaning]
            if self.declared.get(file) != meaning:
                found[file] = meaning
        return found

    def files(self, roots: tuple[str, ...], alone: tuple[str, ...] = ()) -> frozenset[str]:
        """Those that `altered` looks at."""
        return self.closure(roots) | {file for name in alone if (file := self._file(name))}

    def closure(self, roots: tuple[str, ...]) -> frozenset[str]:
        """Files of these modules and of all that they import, of what computes."""
        if roots not in self._closures:
            seen: set[str] = set()
            counted = (name for name in roots if not _below(name, APART))
            ahead = [file for name in counted if (file := self._file(name))]
            while ahead:
                if (file := ahead.pop()) not in seen:
                    seen.add(file)
                    ahead += filter(None, map(self._followed, self.read(file).imports))
            self._closures[roots] = frozenset(seen)
            self._keep()
        return self._closures[roots]

    def read(self, file: str) -> Module:
        """What a file below the root means."""
        if file not in self._read:
            path = self.root / file
            stat = path.stat()
            known = self._known.get(file)
            if known is None or known[:2] != [stat.st_size, stat.st_mtime_ns]:
                found = of_source(path.read_bytes(), file)
                known = self._known[file] = [stat.st_size, stat.st_mtime_ns, *found]
                self._fresh = True
            self._read[file] = Module(known[2], tuple(known[3]))
        return self._read[file]

    @functools.cached_property
    def declared(self) -> dict[str, str]:
        """File -> its meaning as of our versions; empty where the list is missing."""
        try:
            lines = (self.root / DECLARED).read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        return {file: now for now, _, file in (line.partition("  ") for line in lines) if file}

    def import_of(self, module: str, name: str, but: str) -> str | None:
        """Where a module imports something of that name from; but: not from such modules."""
        file = self._file(module)
        for found in self.read(file).imports if file else ():
            *where, last = found.split(".")
            if last == name and but not in where:
                return ".".join(where)
        return None

    def imported(self, paths: Iterable[Path]) -> list[str]:
        """What modules from elsewhere import of what computes here.

        Not what computes nothing of ours, such as the protocol of readers: it is not declared, so
        nothing tells whether it was changed.
        """
        found = {name for path in paths for name in of_source(path.read_bytes()).imports}
        return sorted(name for name in found if self._followed(name) in self.declared)

    def _file(self, name: str) -> str | None:
        """The module that a dotted name is, or is in."""
        if name not in self._files:
            path = name.replace(".", "/")
            there = (file for file in (f"{path}.py", f"{path}/__init__.py") if self._is_file(file))
            above = name.rpartition(".")[0]
            self._files[name] = next(there, None) or (self._file(above) if above else None)
        return self._files[name]

    def _is_file(self, file: str) -> bool:
        return os.path.isfile(f"{self.root}/{file}")  # noqa: PTH113 - asked thousands of times

    def _followed(self, name: str) -> str | None:
        if not _below(name, COMPUTE) or _below(name, APART):
            return None
        return self._file(name)

    @property
    def _cache(self) -> Path:
        name = hashlib.sha256(f"{RULES} {self.root}".encode()).hexdigest()[:16]
        return cache(f"code-{name}.json")

    @property
    def _known(self) -> dict[str, list[Any]]:
        if self._kept is None:
            self._kept = read_cache(self._cache)
        return self._kept

    def _keep(self) -> None:
        if self._fresh:
            write_cache(self._cache, self._known)
            self._fresh = False


@functools.cache
def ours() -> Sources:
    """Of this installation, as it was when first asked."""
    return Sources()


def mark(altered: Mapping[str, str]) -> str:
    """8 hex digits of altered modules; empty where all is as declared."""
    text = "\n".join(f"{file} {meaning}" for file, meaning in sorted(altered.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:8] if altered else ""


def of_source(source: bytes, file: str = "module.py") -> Module:
    """What a module's text means. One that is no Python means its bytes."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Module(hashlib.sha256(source).hexdigest()[:16], ())
    imports: set[tuple[str, str]] = set()  # what, under which name
    plain = _plain(tree, file.removesuffix(".py").split("/")[:-1], imports)
    digest = hashlib.sha256(repr((plain, sorted(imports))).encode())
    return Module(digest.hexdigest()[:16], tuple(sorted({name for name, _ in imports})))


def _plain(value: Any, package: list[str], imports: set[tuple[str, str]]) -> Any:
    """A tree as tuples, the same for every version of Python; its imports go to `imports`."""
    if isinstance(value, list):
        found = (_plain(one, package, imports) for one in value if not _says_nothing(one))
        return tuple(one for one in found if one is not None)
    if not isinstance(value, ast.AST):
        return repr(value)
    if isinstance(value, ast.Import | ast.ImportFrom):
        imports.update(_imported(value, package))
        return None
    parts = [type(value).__name__]
    for name in value._fields:
        one = getattr(value, name, None)
        if one is None or one == [] or name in _UNSAID.get(parts[0], _EVERYWHERE):
            continue
        if parts[0] == "JoinedStr":  # Python 3.12.0 and 3.12.1 end some by an empty text
            one = [part for part in one if getattr(part, "value", None) != ""]
        parts += [name, _plain(one, package, imports)]
    return tuple(parts)


_EVERYWHERE = ("ctx", "kind", "type_comment")
_UNSAID = {  # fields without a part in what is computed
    "arg": ("annotation", "type_comment"),
    "FunctionDef": ("returns", "type_comment"),
    "AsyncFunctionDef": ("returns", "type_comment"),
}


def _says_nothing(node: Any) -> bool:
    """Docstrings and the like, `pass`, and what only type checkers see."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If) and not node.orelse:
        return "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", ""))
    return isinstance(node, ast.Pass)


def _imported(node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, alias.asname or alias.name) for alias in node.names)
        return
    above = package[: len(package) - node.level + 1] if node.level else []
    base = ".".join([*above, *filter(None, [node.module])])
    if base != "__future__":
        yield from ((f"{base}.{alias.name}", alias.asname or alias.name) for alias in node.names)


def _below(name: str, tops: tuple[str, ...]) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)
