"""YAML as people mean it: names are text. Values that are no numbers, true, false or null are text.

PyYAML follows YAML 1.1, where the key `on` is true, `no` is false and 01 is 1; YAML 1.2 has only
true and false, and a number with a leading zero is a name here, e.g. of a category.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # by libyaml, where PyYAML has it
TEXT = "tag:yaml.org,2002:str"
NAMES = ("categories",)  # keys whose entries are names, even null, true and 1e3


class Loader(_Safe):
    """Refuses a key that stands twice."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = TEXT
            else:
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a word, no list and no mapping", key.start_mark
                )
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} stands twice", key.start_mark
                )
            seen.add(name)
            if name in NAMES:
                _as_text(value)
        return super().construct_mapping(node, deep)


_WHOLE = r"(?:0|[1-9][0-9]*)"
for tag, pattern, first in (  # of which the first that fits counts
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", rf"[-+]?{_WHOLE}", "-+0123456789"),
    ("float", rf"[-+]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)


def load(text: str, key: str = "") -> Any:
    """Plain values. key: whose value it is, dotted, if it is that of one. Raises yaml.YAMLError."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if key.rpartition(".")[2] in NAMES:
            _as_text(node)
        values = None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()
    _check_ends(values)
    return values


def told(error: yaml.YAMLError) -> str:
    """What is wrong and where, in one line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    text = " ".join((problem or str(error).splitlines()[0]).split())
    if "cannot start any token" in text:
        text += ": a tab? Indent by spaces, and quote what begins with @, ` or %"
    return f"line {mark.line + 1}, column {mark.column + 1}: {text}" if mark else text


def _check_ends(value: Any, above: tuple[int, ...] = ()) -> None:
    """YAMLError for a value that holds itself, or is none of YAML's core."""
    if isinstance(value, dict | list):
        if id(value) in above:
            raise yaml.YAMLError("a value refers to itself")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_ends(inner, (*above, id(value)))
    elif not isinstance(value, str | int | float | type(None)):
        raise yaml.YAMLError(
            f"a {type(value).__name__}: give text, numbers, lists or keys with values"
        )


def _as_text(node: Any) -> None:
    """The entries of a list as they are typed."""
    for entry in node.value if isinstance(node, yaml.SequenceNode) else ():
        if isinstance(entry, yaml.ScalarNode):
            entry.tag = TEXT


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # equal parts are written twice, and not as &id001


def dumped(values: Any) -> str:
    """As text that `load` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True).rstrip()
