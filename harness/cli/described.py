"""What a settings dataclass says of itself: keys, defaults, types, and the comments beside them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # made without a file
        return {}
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    fields = [
        s for s in tree.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
    ]
    lines = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    said = {}
    for field in fields:
        parts = [lines[n] for n in range(field.lineno, (field.end_lineno or 0) + 1) if n in lines]
        last = (field.end_lineno or 0) + 1
        while parts and last in lines and source.splitlines()[last - 1].lstrip().startswith("#"):
            parts.append(lines[last])
            last += 1
        assert isinstance(field.target, ast.Name)
        said[field.target.id] = " ".join(parts)
    return said


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
