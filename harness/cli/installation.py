"""Whether Python finds our packages where Relief is installed, and whether all it needs is there.

`python -m harness` looks into the current folder first, and PYTHONPATH may lead elsewhere: a
`methods.py` there would be taken for our package. That is asked before they are imported.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "methods", "reports")
EXIT_USAGE = 2
# What an installation that only reads results goes without (pyproject.toml, group "read").
LEFT_OUT = (
    *("torch", "torchvision", "timm", "sklearn", "trimesh", "pypcd4"),  # methods and their data
    *("ray", "tenacity", "optuna", "mlflow"),  # runs, sweeps, tracking
)


def check() -> None:
    """End the program with a line if a package is not ours."""
    if why := foreign(ROOT):
        print(f"error: {why}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def version() -> str:
    """ "relief 0.1.0, commit 0123456789ab, in FOLDER", of a checkout and of a wheel."""
    from importlib import metadata

    from harness.engine.commit import commit

    try:
        number = metadata.version("relief-bench")
    except metadata.PackageNotFoundError:  # a checkout in PYTHONPATH
        number = "not installed"
    of = f", commit {known}" if (known := commit()) else ""
    return f"relief {number}{of}, in {ROOT}"


def check_whole(what: str) -> None:
    """Raise UserError if this installation only reads results. what: needs more, for the message"""
    from methods.errors import UserError

    if missing := next((name for name in ("torch", "ray") if not _is_there(name)), None):
        raise UserError(f"{what} needs {missing}: {whole()}")


def whole() -> str:
    """How an installation that only reads results becomes one that computes."""
    if (ROOT / "pyproject.toml").is_file():
        how = f"`cd {ROOT} && uv pip install -e .`"
    else:
        how = "install Relief again, with all that it requires"
    return f"this installation only reads results; for the rest {how}"


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


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
