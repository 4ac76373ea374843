"""What comes from outside: methods, views, readers of datasets and metrics of other people.

A package announces them by entry points of the groups `relief.methods`, `relief.views`,
`relief.datasets` and `relief.metrics`. A file or folder beside one's data, or a module, is named by
`--plugin`, by `plugins:` of a configuration or in RELIEF_PLUGINS; everything of these kinds that
it defines is found by itself. No code is imported before a name is asked for that Relief itself
does not have, or all are listed; one that is broken breaks only what asks for it.

No torch here. How a plug-in travels to workers: harness/engine/README.md, section 3.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from methods import contents
from methods.contents import KINDS
from methods.errors import UserError

GROUP = "relief."  # of entry points: "relief.methods"
VARIABLE = "RELIEF_PLUGINS"  # files, folders and modules, separated as in PATH
LONGEST = 500  # characters of an exception in a line


class PluginError(UserError):
    """A plug-in cannot be used; the message names it, and its traceback if it raised.

    broken: what is known of one that cannot be loaded
    """

    def __init__(self, text: str, broken: Broken | None = None):
        super().__init__(text)
        self.broken = broken


@dataclass(frozen=True)
class Offer:
    """Something that a plug-in has: of what kind, under which name, from where.

    source: a path as given, or a module's name; attribute: in the module, of an entry point.
    """

    kind: str
    name: str
    source: str
    attribute: str = ""
    package: str = ""  # "my-package 1.0", of an entry point

    def __str__(self) -> str:
        return self.package or self.source

    def load(self) -> Any:
        """The thing itself. Raises PluginError."""
        module = _module(self.source)
        if not self.attribute:
            return contents.found(module)[self.kind][self.name]
        try:
            return functools.reduce(getattr, self.attribute.split("."), module)
        except AttributeError as error:
            raise PluginError(f"plug-in {self}: {error}") from error

    @property
    def code(self) -> str:
        return fingerprint(self.source)


@dataclass(frozen=True)
class Broken:
    """A plug-in that cannot be loaded, or of which a part cannot be used.

    why: its error, one line; trace: its own traceback; part: the name of what cannot be used, ""
    where there is nothing to use; None: it cannot be loaded
    """

    source: str
    why: str
    trace: str = ""
    part: str | None = None

    def __str__(self) -> str:
        said = "" if self.part is not None else " cannot be loaded"
        return f"plug-in {self.source}{said}: {self.why}" + f"\n{self.trace}".rstrip()


_given: tuple[str, ...] | None = None  # None: as the environment says
_stands_in: dict[str, Path] = {}  # source -> where its file or folder is on this machine


def use(sources: Sequence[str]) -> None:
    """The files, folders and modules that count in this process, in place of those before."""
    global _given
    _given = tuple(dict.fromkeys(map(_absolute, sources)))


def given() -> tuple[str, ...]:
    """The files, folders and modules that count in this process."""
    if _given is not None:
        return _given
    named = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    return tuple(dict.fromkeys(map(_absolute, named)))


def stand_in(source: str, path: Path) -> None:
    """A plug-in that was given as the file or folder `source` elsewhere lies at `path` here."""
    _stands_in[source] = path


def find(kind: str, name: str) -> Offer | None:
    """What offers a thing of that name; None if nothing does.

    Raises PluginError if two do, or if none does and one of those that were given is broken.
    """
    offers, broken = _offers(kind, name)
    broken = [one for one in broken if one.part in (None, "", name)]
    if len(offers) > 1:
        listed = " and ".join(map(str, offers))
        raise PluginError(f"{name!r} of {kind} is in two plug-ins, {listed}: leave one out")
    if not offers and broken:
        told = "\n".join(map(str, broken))
        raise PluginError(f"{told}\nNo other plug-in has {name!r} of {kind}.", broken[0])
    return offers[0] if offers else None


def names(kind: str) -> tuple[str, ...]:
    """Of all that plug-ins offer; nothing of those that cannot be loaded."""
    return tuple(dict.fromkeys(offer.name for offer in _offers(kind)[0]))


def offers(kind: str) -> list[Offer]:
    return _offers(kind)[0]


def unloadable() -> list[Broken]:
    """The given files and modules that cannot be loaded, whatever they were to offer."""
    return [one for one in _offers("metrics")[1] if one.part is None]


def broken() -> list[Broken]:
    """The given files and modules that cannot be loaded or used, and entry points that cannot."""
    found = {one.source + (one.part or ""): one for one in _offers("methods")[1]}
    for kind in KINDS:
        for offer in _announced(kind):
            try:
                offer.load()
            except PluginError as error:
                about = error.broken or Broken(offer.source, str(error))
                found[offer.source] = replace(about, source=f"{offer}, {kind} {offer.name}")
    return list(found.values())


def _offers(kind: str, name: str | None = None) -> tuple[list[Offer], list[Broken]]:
    found = [offer for offer in _announced(kind) if name in (None, offer.name)]
    broken, codes = [], set()
    known = {(offer.name, _location(offer.source)) for offer in found}
    for source in given():
        try:
            if (code := fingerprint(source)) in codes:  # a copy, such as that in a store
                continue
            codes.add(code)
            module = _module(source)
            there = contents.found(module)[kind]
        except PluginError as error:
            broken.append(error.broken or Broken(source, str(error)))
            continue
        own = [Offer(kind, own, source) for own in there if name in (None, own)]
        found += [offer for offer in own if (offer.name, _location(source)) not in known]
        broken += _unusable(module, source)
    return found, broken


@functools.cache  # reading what is installed takes some 10 ms
def _points() -> metadata.EntryPoints:
    return metadata.entry_points()


def _announced(kind: str) -> Iterator[Offer]:
    for point in _points().select(group=f"{GROUP}{kind}"):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
        yield Offer(kind, point.name, point.module, point.attr, package)


def _module(source: str) -> ModuleType:
    """The module of a file, of a folder with __init__.py, or of that name."""
    try:
        if not is_path(source):
            return importlib.import_module(source)
        name = f"relief_plugin_{Path(source).stem}_{fingerprint(source)}"
        path = _stands_in.get(source, Path(source))
        file = path / "__init__.py" if path.is_dir() else path
        return sys.modules.get(name) or _executed(name, file)
    except PluginError:
        raise
    except BaseException as error:  # whatever the code of others may raise, sys.exit among it
        if isinstance(error, KeyboardInterrupt) and not _raised_by(error, source):
            raise
        raise _refusal(source, error) from error


def _raised_by(error: BaseException, source: str) -> bool:
    """Whether a plug-in's own line raised it, and no signal that came meanwhile."""
    last, place = traceback.extract_tb(error.__traceback__)[-1], _place(source)
    return bool(place and last.filename.startswith(place) and (last.line or "").startswith("raise"))


class _FromSource(importlib.machinery.SourceFileLoader):
    """Compiles the source, which the fingerprint is of.

    Python's cache beside it goes by size and whole seconds, so an edit at once may not be seen.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _executed(name: str, file: Path) -> ModuleType:
    below = [str(file.parent)] if file.name == "__init__.py" else None
    if file.suffix != ".py":
        raise ImportError(f"{file} is no Python file")
    loader = _FromSource(name, str(file))
    spec = importlib.util.spec_from_file_location(
        name, file, loader=loader, submodule_search_locations=below
    )
    assert spec is not None  # a loader was given
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[loaded]
        raise
    return module


def _refusal(source: str, error: BaseException) -> PluginError:
    last = traceback.format_exception_only(error)[-1].strip()
    broken = Broken(source, last, own_trace(error, source))
    return PluginError(str(broken), broken)


def own_trace(error: BaseException, source: str) -> str:
    """The traceback of an error from the plug-in's code on, without what called it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = _place(source)
    first = next((i for i, f in enumerate(frames) if place and f.filename.startswith(place)), None)
    if first is None and not isinstance(error, SyntaxError):
        return ""
    lines = traceback.format_list(frames[first:]) if first is not None else []
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()


def quits(error: BaseException) -> bool:
    """Whether a plug-in's code asked to end the program, which is a failure as any other.

    Ray ends a worker by the same exception, from its own code, whatever is at work then.
    """
    if not isinstance(error, SystemExit) or blamed(error) is None:
        return False
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return str(last.f_globals.get("__name__", "")).partition(".")[0] != "ray"


def pass_exit(error: BaseException) -> None:
    """Raise again what asks to end the program, unless a plug-in's code did."""
    if isinstance(error, SystemExit) and not quits(error):
        raise error


def blamed(error: BaseException) -> str | None:
    """The plug-in in whose code an error was raised; None if it was not in one's."""
    raised = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    sources = [*given(), *{offer.source for kind in KINDS for offer in _announced(kind)}]
    for source in sources:
        place = _place(source)
        if place and any(file.startswith(place) for file in raised):
            return source
    return None


def place_of(error: BaseException) -> str:
    """ "FILE, line N" of a plug-in's code in which an error was raised; "" if it was in none's."""
    source = blamed(error)
    place = None if source is None else _place(source)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if place and frame.filename.startswith(place)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else ""


def told(error: BaseException) -> str:
    """An exception in a line, with the place in a plug-in's code that it comes from."""
    line = f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST]
    own = isinstance(error, UserError)  # says what would do
    return f"{line} ({place})" if not own and (place := place_of(error)) else line


def _unusable(module: ModuleType, source: str) -> list[Broken]:
    """What of a plug-in cannot be used, or that it has nothing at all."""
    if contents.is_empty(module):
        places = {_location(offer.source) for kind in KINDS for offer in _announced(kind)}
        if _location(source) in places:  # what it has is announced by its package
            return []
        return [Broken(source, f"it defines nothing of these kinds: {', '.join(KINDS)}", part="")]
    return [Broken(source, why, part=name) for name, why in contents.unusable(module).items()]


def fingerprint(source: str) -> str:
    """16 hex digits of a plug-in's code: of the file, or of all modules of its package.

    Raises PluginError if it is not there.
    """
    root, files = _code(source)
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def files(source: str) -> tuple[Path, list[Path]]:
    """(folder, the files below it) that a plug-in given by its path consists of."""
    return _code(source)


def _code(source: str) -> tuple[Path, list[Path]]:
    path = _location(source)
    if path is None or not path.exists():
        what = "there is no such file or folder" if is_path(source) else "no such module is there"
        raise PluginError(f"plug-in {source}: {what}: give a Python file, a folder or a module")
    if path.is_file():
        return path.parent, [path]
    return path, sorted(path.rglob("*.py"))


@functools.cache
def _located(top: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def _location(source: str) -> Path | None:
    """The file or folder that a plug-in's code lies in."""
    if is_path(source):
        return _stands_in.get(source, Path(source))
    return _located(source.partition(".")[0])


def _place(source: str) -> str | None:
    path = _location(source)
    return None if path is None else str(path) + os.sep * path.is_dir()


def is_path(source: str) -> bool:
    """Whether it names a file or folder, and not a module."""
    return os.sep in source or source.endswith(".py")


def _absolute(source: str) -> str:
    """Files and folders by their whole path; a module by its name."""
    path = Path(source).expanduser()
    return str(path.resolve()) if is_path(source) or path.exists() else source


def described(used: Sequence[Offer] = ()) -> dict[str, str]:
    """Source -> fingerprint, of those that were given and of those that are used: for a job."""
    sources = dict.fromkeys([*given(), *(offer.source for offer in used)])
    return {source: fingerprint(source) for source in sources}


def refusal(wanted: Mapping[str, str], node: str) -> str | None:
    """Why this process has other plug-ins than its driver; None if it has the same."""
    for source, code in wanted.items():
        try:
            here = fingerprint(source)
        except PluginError as error:
            return f"{node}: {error}; install the driver's plug-ins on every node"
        if here != code:
            return (
                f"{node} has the plug-in {source} with code {here}, the driver with {code}: "
                "install the same on every node, and start the launch again if it was changed"
            )
    return None
