"""The door of `relief`: nothing is imported before it is known to be ours.

`python -m harness` looks into the current folder first, as PYTHONPATH may: a `methods.py` there
would be taken for our package.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGES = ("harness", "methods", "reports")
EXIT_USAGE = 2


def foreign(root: Path) -> str | None:
    """What is wrong if Python would import a package of ours from outside `root`."""
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            return f"{root} has no package {name!r}: install Relief again"
        where = Path(found.origin).resolve()
        if where != root / name / "__init__.py":
            return (
                f"{where} hides Relief's package {name!r}, which lies in {root}: rename that file "
                "or folder, or start `relief` from another folder and without it in PYTHONPATH"
            )
    return None


def main() -> None:
    """The `relief` command."""
    if why := foreign(Path(__file__).resolve().parents[2]):
        print(f"error: {why}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    from harness.cli import app

    app.main()
