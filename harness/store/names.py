"""Under which name a store files what is the same as something that it has results of.

    STORE/names.json    {"code": {meaning: an earlier one}, "data": {content: an earlier identity}}

A key holds the identity of its data, and of code that was changed. What is only written otherwise,
or identified otherwise than by an earlier version, keeps its first name here, so that its results
stay those of its keys. Without the file everything has the name of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.store.files import sealed, unsealed, write_json

FILE = "names.json"


@dataclass(frozen=True)
class Names:
    """code: meaning of a module (methods/code.py) -> the one whose results count as its own;
    data: content of a category -> the identity under which it was filed first;
    jobs: keys of jobs that were there when this was read
    """

    code: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    jobs: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @classmethod
    def read(cls, store: Path) -> Names:
        """Of a store's folder. Raises ValueError, naming the file, if it is damaged."""
        jobs = frozenset(os.listdir(store / "jobs")) if (store / "jobs").is_dir() else frozenset()
        return cls(**_written(store / FILE), jobs=jobs)

    def write(self, store: Path) -> None:
        values = {"code": dict(self.code), "data": dict(self.data)}
        if any(values.values()) and values != _written(store / FILE):
            write_json(store / FILE, sealed(values))

    def taking(self, meaning: str, earlier: str) -> Names:
        """With code that counts as earlier code from now on."""
        code, at = {**self.code}, earlier
        while at in code and at != meaning:
            at = code[at]
        if at == meaning:  # it would lead round in a circle: the last word counts
            code.pop(earlier, None)
        return replace(self, code=code | ({meaning: earlier} if meaning != earlier else {}))


def _written(path: Path) -> dict[str, dict[str, str]]:
    """ "code" and "data" of the file; both empty without it. Raises as `Names.read`."""
    try:
        values: dict[str, Any] = unsealed(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):  # the latter is told by who writes
        values = {}
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): restore it, or move it away, and say again which "
            "code is as good as which (`relief plan`)"
        ) from error
    return {name: dict(values.get(name, {})) for name in ("code", "data")}
