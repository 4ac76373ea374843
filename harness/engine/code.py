"""The code that computes: its fingerprint, and how a worker comes to run that of its driver.

A job's key says what is computed, not by which code. So a driver signs what it sends, and a worker
with other code, or without the driver's store, refuses (harness/engine/README.md, section 3).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from methods import plugins

ROOT = Path(__file__).resolve().parents[2]  # the folder that this installation lies in
PACKAGES = ("harness", "methods")  # what has a part in results; reports only read them
TOKENS = "nodes"  # folder of the store
PLUGINS = "plugins"  # folder of the store: CODE/, the files of a plug-in with that fingerprint
TOKEN_DAYS = 30  # after that, the token of a killed driver goes


@lru_cache
def fingerprint(root: Path = ROOT) -> str:
    """16 hex digits of the content of all modules below `root`, wherever that is.

    Once a process, when first asked: files that change later are not the code that runs.
    """
    digest = hashlib.sha256()
    files = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


@lru_cache
def version() -> str:
    try:
        return metadata.version("relief-bench")
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return "unknown"


def signature(token: str = "") -> dict[str, str]:
    """What a driver adds to the descriptions it sends. token: as `lay_token` gave it."""
    return {"version": version(), "code": fingerprint(), "token": token}


def refusal(signed: Mapping[str, Any], store_path: str | Path) -> str | None:
    """Why this process must not compute what a driver sent; None if it may.

    signed: a description, with a signature or, made by hand, without.
    """
    if signed.get("code") not in (None, fingerprint()):
        theirs = f"{signed.get('version', 'unknown')} with code {signed['code']}"
        return (
            f"{platform.node()} has Relief {version()} with code {fingerprint()} in {ROOT}, the "
            f"driver has {theirs}: install the same on every node, and start the launch again if "
            "its code was changed"
        )
    token = signed.get("token")
    if token and not (Path(store_path) / TOKENS / token).exists():
        return (
            f"{platform.node()} does not see the driver's store in {store_path}: choose a folder "
            "that all nodes share with --store"
        )
    return None


def lay_plugins(store_path: str | Path) -> None:
    """Put the plug-ins that were given as files where every node sees them: into the store."""
    for source in plugins.given():
        if not plugins.is_path(source):
            continue
        folder, files = plugins.files(source)
        code = Path(store_path) / PLUGINS / plugins.fingerprint(source)
        if code.exists():
            continue
        part = code.with_name(f"{code.name}.{uuid.uuid4().hex[:6]}.part")
        for file in files:
            target = part / Path(source).name
            if folder == Path(source):
                target = target / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        try:
            os.replace(part, code)
        except OSError:  # another driver was first
            shutil.rmtree(part)


def admit_plugins(wanted: Mapping[str, str], store_path: str | Path) -> str | None:
    """Use the driver's plug-ins from now on; -> why this process cannot, None if it can.

    wanted: source -> fingerprint. A file that is not here as the driver has it is taken from the
    store; a module must be installed here.
    """
    for source, code in wanted.items():
        copy = Path(store_path) / PLUGINS / code / Path(source).name
        if plugins.is_path(source) and copy.exists():
            plugins.stand_in(source, copy)
    if why := plugins.refusal(wanted, platform.node()):
        return why
    plugins.use(list(wanted))
    return None


def lay_token(store_path: str | Path) -> str:
    """Put a file into the store by which a node knows that it sees the same one; -> its name.

    The plug-ins that were given as files lie beside it from then on.
    """
    lay_plugins(store_path)
    folder = Path(store_path) / TOKENS
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        try:
            if time.time() - old.stat().st_mtime > TOKEN_DAYS * 86400:
                old.unlink()
        except FileNotFoundError:  # another driver has done it
            continue
    token = uuid.uuid4().hex
    (folder / token).write_text(token, encoding="ascii")
    return token


def lift_token(store_path: str | Path, token: str) -> None:
    """Remove a token and the answers to it."""
    for path in (Path(store_path) / TOKENS).glob(f"{token}*"):
        path.unlink(missing_ok=True)


def bring(task: Callable[..., Any]) -> Callable[[], Callable[..., Any]]:
    """A function that finds `task` in a worker, in the driver's installation if that is there.

    It travels by value, since Ray has workers look into the driver's current folder first, where
    another `harness` or a `methods.py` may lie. So it uses nothing of ours before it has mended
    the search path. A task of the driver's own script travels by value, too.
    """
    module, name, root, here = task.__module__, task.__qualname__, str(ROOT), str(Path.cwd())
    if module == "__main__" or "<locals>" in name:
        return lambda: task

    def find() -> Callable[..., Any]:
        import functools
        import importlib
        import pathlib
        import sys

        if module not in sys.modules:
            foreign = {pathlib.Path(folder).resolve() for folder in (here, "", root)}
            path = [folder for folder in sys.path if pathlib.Path(folder).resolve() not in foreign]
            sys.path[:] = [root] * pathlib.Path(root, "harness").is_dir() + path
            importlib.invalidate_caches()
        found: Any = importlib.import_module(module)
        return functools.reduce(getattr, name.split("."), found)

    return find
