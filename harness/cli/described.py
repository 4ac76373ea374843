"""What a settings dataclass says of itself: keys, defaults, types, and the comments beside them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


def leaves(settings: Any, prefix: str = "") -> Iterator[dict[str, str]]:
    """key, default, type and says (unit and source) of every setting, groups in their order."""
    says, hints = _comments(type(settings)), type(settings).__annotations__
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{key}.")
            continue
        hint = hints.get(field.name) or _inherited(type(settings), field.name)
        kind = hint if isinstance(hint, str) else getattr(hint, "__name__", str(hint))
        yield {"key": key, "default": str(value), "type": kind, "says": says.get(field.name, "")}


def _inherited(cls: type, name: str) -> Any:
    return next(a[name] for a in map(inspect.get_annotations, cls.__mro__) if name in a)


def _comments(cls: type) -> dict[str, str]:
    """Field -> the comment on its line and those on the lines below it, of its bases too."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if dataclasses.is_dataclass(one):
            found |= _own_comments(one)
    return found


def _own_comments(cls: type) -> dict[str, str]:
    try:
        source = _source_of(inspect.getsourcefile(cls) or "")
    except (OSError, TypeError):  # made without a file
        return {}
    said = {}
    for field in source.fields.get(cls.__qualname__, ()):
        first, last = field.lineno, field.end_lineno or field.lineno
        parts = [source.comments[n] for n in range(first, last + 1) if n in source.comments]
        while parts and (last := last + 1) in source.alone:
            parts.append(source.comments[last])
        assert isinstance(field.target, ast.Name)
        said[field.target.id] = " ".join(parts)
    return said


class _Source(NamedTuple):
    fields: dict[str, list[ast.AnnAssign]]  # of each class, by its qualified name
    comments: dict[int, str]  # line -> what it says
    alone: frozenset[int]  # lines that are a comment and nothing else


@functools.cache
def _source_of(file: str) -> _Source:
    """Read once, however many classes are asked for."""
    text = Path(file).read_text(encoding="utf-8")
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    return _Source(
        {name: list(_fields(body)) for name, body in _classes(ast.parse(text))},
        {token.start[0]: token.string.lstrip("# ").strip() for token in tokens},
        frozenset(t.start[0] for t in tokens if not t.line[: t.start[1]].strip()),
    )


def _classes(tree: ast.AST, above: str = "") -> Iterator[tuple[str, ast.ClassDef]]:
    for node in ast.iter_child_nodes(tree):
        inner = above
        if isinstance(node, ast.ClassDef):
            yield f"{above}{node.name}", node
            inner = f"{above}{node.name}."
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{above}{node.name}.<locals>."
        if isinstance(node, ast.stmt):
            yield from _classes(node, inner)


def _fields(body: ast.ClassDef) -> Iterator[ast.AnnAssign]:
    return (s for s in body.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name))


def first_line(path: Path) -> str:
    """Of a module's docstring, read without importing it."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return said.partition("\n")[0]


def opening_comment(path: Path) -> str:
    """The comment that a YAML file begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)
