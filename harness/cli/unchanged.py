"""Whether the report of a launch is what its files would give again; if so it is not written anew.

    STORE/reports/LAUNCH/state.json    the state that it is of, its files, and what it printed

The state is that of every file of the launch's jobs (sizes and times), of their failures and what
came later, and of the code that makes reports. No file is opened. A file of the report that is
gone, or was changed, is one that the results would not give again, so all are written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console, RenderableType

from harness.cli.installation import PACKAGES, ROOT
from harness.store import Store, canonical, write_json
from harness.store.index import Stamp
from methods import plugins

FILE = "state.json"
LATER = (  # in STORE
    "failures/{}.json",
    "rescored/{}.json",
    "rescored/{}.npz",
    "timed/{}.json",
    "verified/{}.json",
)
SOURCES = (".py", ".j2", ".csv")  # of ours, that a report is made by


def state_of(store: Store, launch: dict) -> str:
    """A digest of all that the report of a launch is made from."""
    digest = hashlib.sha256(canonical([launch, plugins.described()]).encode())
    keys = dict.fromkeys([*launch.get("jobs", ()), *(cell["key"] for cell in launch["cells"])])
    for path in (*_of_jobs(store, keys), *_sources()):
        if stamp := Stamp.of(path):  # a link that MLflow makes of it changes its `changed`
            text = f"{path}\0{stamp.modified}\0{stamp.size}\0{stamp.inode}\0"
            digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def told(folder: Path, state: str) -> str | None:
    """What the report in `folder` printed, with its colours; None if it is of another state."""
    try:
        known = json.loads((folder / FILE).read_text(encoding="utf-8"))
        whole = known["state"] == state and known["files"] == _written(folder)
        return known["printed"] if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(folder: Path, state: str, shown: Sequence[RenderableType], width: int) -> None:
    """Remember from what the report in `folder` was written, and what it printed."""
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=width, highlight=False)
    for one in shown:
        console.print(one, soft_wrap=isinstance(one, str))
    printed = text.getvalue().rstrip("\n")
    write_json(folder / FILE, {"state": state, "files": _written(folder), "printed": printed})


def _written(folder: Path) -> dict[str, list[int]]:
    """The files of a report: name -> size, time of change."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != FILE)
    stats = {str(path.relative_to(folder)): path.stat() for path in found}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _of_jobs(store: Store, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        for folder, below, names in os.walk(store.folder(key)):
            below.sort()
            yield from (os.path.join(folder, name) for name in sorted(names))  # noqa: PTH118
        yield from (str(store.path / later.format(key)) for later in LATER)


def _sources() -> Iterator[str]:
    for package in PACKAGES:
        files = (ROOT / package).rglob("*.*")
        yield from sorted(str(path) for path in files if path.suffix in SOURCES)
