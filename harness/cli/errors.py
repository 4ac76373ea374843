"""What the program says when it cannot go on: one line that names the trouble and a remedy.

What the user can mend is told by type: `UserError` and what the system or a library refuses. Any
other exception is ours to mend, and says so. `--debug` shows where it was raised.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.markup import escape

from harness.cli import installation
from harness.cli.terminal import errors
from harness.store import DamagedError
from harness.store.secrets import masked
from methods import plugins
from methods.errors import UserError

EXIT_USAGE = 2
OURS = ("harness", "methods", "reports", "__main__")
LONGEST = 400  # characters of a library's own words
AGAIN = "`relief sync` catches up once it works"
OTHER_DATABASE = (
    "the database is not of this version of MLflow: move it away, and `relief sync` writes a new "
    "one from the store's files, or run `mlflow db upgrade URI`"
)
MEMORY = "the machine's memory is full: end other programs, or use fewer --workers"
SQL = (  # also in the words of MLflow, which wraps them
    (r"readonly database", "the database is read-only: make it and its folder writable"),
    (r"database is locked", f"another program is in the database: end it; {AGAIN}"),
    (
        r"no such (table|column)|already exists|duplicate column|OperationalError.*has no",
        OTHER_DATABASE,
    ),
    (
        r"malformed|not a database|disk I/O error",
        "the database is damaged: move it away, and `relief sync` writes a new one from the "
        "store's files",
    ),
    (r"disk is full", f"the disk is full: free some space; {AGAIN}"),
    (r"unable to open", "the database cannot be opened: does its folder exist?"),
    (r"No module named", "the database's driver is not installed ({0}): install it beside Relief"),
    (
        r"ArgumentError|NoSuchModuleError|UnsupportedModelRegistryStoreURI",
        "no such database or server: give http://HOST:PORT, sqlite:///FILE or another database's",
    ),
)
LIBRARIES = {  # package -> (pattern of "Type: message", what to say); {0}: its own words
    "mlflow": (
        *SQL,
        (r"out-of-date database schema", OTHER_DATABASE),
        (
            r"\b(401|403|UNAUTHENTICATED|PERMISSION_DENIED)\b|[Uu]nauthorized",
            "the server does not let you in: check the name and password in the address, or "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (
            r"API request to \S+ failed|endpoint .* failed|Max retries|HTTPConnectionPool",
            f"no server of MLflow's answers there: start it or correct the address; {AGAIN}",
        ),
        (r"", f"{{0}}; {AGAIN}"),
    ),
    "alembic": ((r"", OTHER_DATABASE),),
    "sqlalchemy": (*SQL, (r"", f"the database refuses: {{0}}; {AGAIN}")),
    "requests": ((r"", f"no server answers there ({{0}}): start it or correct it; {AGAIN}"),),
    "ray": (
        (
            r"AF_UNIX|path length|path too long",
            "Ray cannot start, the path of its sockets is too long: set RAY_TMPDIR to a short "
            "folder, e.g. RAY_TMPDIR=/tmp",
        ),
        (
            r"Permission|Read-only file|NotADirectory|FileNotFound|FileExists|No such file",
            "Ray cannot start, it cannot write its folders ({0}): set RAY_TMPDIR and HOME to "
            "folders of your own",
        ),
        (
            r"No space left|/dev/shm|shared memory|object_store_memory",
            "Ray cannot start, /dev/shm or the disk is full ({0}): free some, or use "
            "`relief run --serial`, which does without Ray",
        ),
        (
            r"ConnectionError|Could not (find|connect)|Failed to connect|address",
            "no Ray cluster answers there ({0}): correct --address, or leave it out for a Ray of "
            "this machine's own",
        ),
        (
            r"timed out|[Tt]imeout|starting up|GCS|raylet",
            "Ray did not start in time ({0}): is the machine overloaded, or out of memory or of "
            "disk? Try again, or `relief run --serial`, which does without Ray",
        ),
        (r"", "Ray: {0}; `relief run --serial` does without Ray"),
    ),
    "torch": (
        (
            r"OutOfMemoryError|out of memory",
            "the GPU's memory is full: end other programs on it, or give jobs more of it with "
            "resources.default.gpus=1",
        ),
        (
            r"PytorchStreamReader|central directory|Invalid magic|weights_only|unexpected EOF",
            "a file is no checkpoint of PyTorch, or damaged: give it as it was published",
        ),
        (
            r"No CUDA GPUs|CUDA driver|CUDA error|not compiled with CUDA",
            "the GPU cannot be used ({0}): check `nvidia-smi`, or leave it out with --gpus 0",
        ),
    ),
    "pyarrow": (
        (
            r"[Pp]arquet|[Tt]hrift|magic bytes|footer",
            "a table is damaged ({0}): the `relief run` that made it computes it again",
        ),
    ),
    "omegaconf": ((r"", "configuration: {0}"),),
    "yaml": ((r"", "not a YAML file: {0}"),),
}
LIBRARIES["sqlite3"] = LIBRARIES["sqlalchemy"]
LIBRARIES["urllib3"] = LIBRARIES["requests"]
SYSTEM = {  # errno -> what to do
    errno.ENOSPC: "the disk is full; finished jobs are kept: free some space and the same command "
    "goes on, or choose another disk with --store",
    errno.EROFS: "that file system is read-only: make it writable, or choose another folder",
    errno.EACCES: "you may not: change its owner or permissions, or choose another folder",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter path",
    errno.EMFILE: "too many open files: raise the limit with `ulimit -n 65536`",
    errno.EIO: "the disk or its network does not answer as it should: look at the system's log",
    errno.ENOMEM: MEMORY,
}
SYSTEM[errno.EDQUOT] = SYSTEM[errno.ENOSPC]
SYSTEM[errno.EPERM] = SYSTEM[errno.EACCES]
SYSTEM[errno.ENFILE] = SYSTEM[errno.EMFILE]


@dataclass(frozen=True)
class Told:
    text: str
    bug: bool = False


def describe(error: BaseException) -> Told:
    """What to say of an exception: one line, without passwords; bug: it is ours to mend."""
    found = _told(error)
    about = getattr(error, "__notes__", [])  # e.g. which MLflow
    text = masked(": ".join([*about, found.text]))  # names of files may be no UTF-8
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Told(text, found.bug)


def _told(error: BaseException) -> Told:
    if isinstance(error, DamagedError):
        return Told(f"{error}; the same `relief run` computes it again")
    if isinstance(error, UserError):
        return Told(str(error))
    own = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name in installation.LEFT_OUT:
        return Told(f"this needs {error.name}: {installation.whole()}")
    if (plugin := plugins.blamed(error)) and not isinstance(error, OSError | MemoryError):
        trace = plugins.own_trace(error, plugin)
        return Told(f"this is a bug in the plug-in {plugin}: {_first_line(error)}\n{trace}")
    for package in _packages(error):
        for pattern, text in LIBRARIES.get(package, ()):
            if re.search(pattern, own):
                return Told(text.format(_first_line(error)))
    if isinstance(error, OSError):
        return Told(_of_system(error))
    if isinstance(error, MemoryError):
        return Told(MEMORY)
    line = f"{type(error).__name__}: {_first_line(error)}" if str(error) else type(error).__name__
    return Told(f"this is a bug in Relief: {line}; run again with --debug and report it", bug=True)


def _packages(error: BaseException) -> Iterator[str]:
    """Where the exception's classes are from, then the libraries at work when it was raised."""
    for cls in type(error).__mro__:
        if cls.__module__ != "builtins":
            yield cls.__module__.partition(".")[0]
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):  # from where it was raised out to our own code
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in OURS:
            return
        yield package


def _of_system(error: OSError) -> str:
    """Ours have no number, and say what to do."""
    if error.errno is None:
        return str(error)
    files = " -> ".join(str(name) for name in (error.filename, error.filename2) if name)
    reason = os.strerror(error.errno)
    line = f"{files}: {reason}" if files else error.strerror or reason
    return f"{line}: {SYSTEM[error.errno]}" if error.errno in SYSTEM else line


def _first_line(error: BaseException) -> str:
    """A library's own words, those that say something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    line = re.sub(r"^\((\w+\.)?\w+(Error|Exception)\) ", "", lines[0]).rstrip(" .;:")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def debugging(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """(the arguments without --debug, which may stand anywhere; whether tracebacks are wanted)."""
    wanted = os.environ.get("RELIEF_DEBUG", "0") not in ("", "0")
    return [a for a in arguments if a != "--debug"], wanted or "--debug" in arguments


def plugged(arguments: Sequence[str]) -> list[str]:
    """The arguments without --plugin and what follows it; these count from now on.

    Also in the processes that are started: the environment tells them.
    """
    left, named = [], []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag != "--plugin":
            left.append(argument)
        elif not (value := value if equals else next(rest, "")):
            raise UserError("--plugin needs a file, a folder or a module")
        else:
            named.append(value)
    if named:
        plugins.use([*plugins.given(), *named])
        os.environ[plugins.VARIABLE] = os.pathsep.join(plugins.given())
    return left


def tell(error: BaseException, debug: bool) -> int:
    """Print what went wrong; -> the exit code."""
    if debug:
        sys.stderr.write(masked("".join(traceback.format_exception(error))))
    errors.print(f"[red]error[/red]: {escape(describe(error).text)}", soft_wrap=True)
    return getattr(error, "exit_code", EXIT_USAGE)
