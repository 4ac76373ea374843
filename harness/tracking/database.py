"""The tracking database: its address, who may use it, and whether it is what it should be."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import Timeout

from harness.store import Store, UserError
from harness.store.locks import Lock
from harness.store.processes import Holder
from harness.store.secrets import masked

WAIT_S = 60.0  # the longest wait, as in planning's Schedule.mlflow_wait_s
BUSY_S = 5.0  # for other programs in the database
SOMEBODY = "another process"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

log = logging.getLogger(__name__)


class TrackingError(UserError):
    """MLflow cannot be written; the message names what is in the way and says what to do."""


def default_uri(store: Store) -> str:
    """Of the database in the store.

    SQLAlchemy takes ? for the end of the name and %XX for a character, so these are quoted; and
    with the driver's name MLflow makes no folder of the quoted name.
    """
    path = str(store.path / "mlflow.db").replace("%", "%25").replace("?", "%3F")
    return f"sqlite{'+pysqlite' if '%' in path else ''}:///{path}"


def artifacts_of(store: Store) -> str:
    """URI of the folder in the store that holds the artifacts; MLflow wants it absolute."""
    return (store.path / "mlflow-artifacts").as_uri()


def checked_uri(store: Store, uri: str | None) -> str:
    """The URI to use; TrackingError for what is none."""
    uri = uri or default_uri(store)
    if uri.partition(":")[0] not in ("databricks", "databricks-uc", "uc") and (
        "://" not in uri or uri.startswith("file:")
    ):
        raise TrackingError(
            f"{uri} is no tracking URI: give http://HOST:PORT, sqlite:///FILE or another "
            "database's (folders such as ./mlruns are no longer read by MLflow), or leave "
            "--tracking out for the store's own"
        )
    return uri


def is_database(uri: str) -> bool:
    """Whether it is a database that is written without a server of MLflow's."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASES


def file_of(uri: str) -> Path | None:
    """The file of an SQLite database; None of anything else."""
    if urlsplit(uri).scheme.partition("+")[0] != "sqlite":
        return None
    name = unquote(uri.partition(":///")[2].partition("?")[0])
    return Path(name) if name and name != ":memory:" else None


@contextmanager
def locked(store: Store, uri: str, wait_s: float = WAIT_S) -> Generator[None]:
    """Hold the lock of who writes to MLflow: parallel first use ruins a new database.

    Says after 2 s who holds it, and since when; TrackingError after wait_s.
    """
    file = file_of(uri)
    own = file is None or file == store.path / "mlflow.db"
    path = store.path / "locks" / "mlflow.lock" if own else file.with_name(f"{file.name}.lock")
    lock = Lock(path)

    def say(holder: Holder | None) -> None:
        log.warning("waiting up to %g s for %s, held by %s", wait_s, path, holder or SOMEBODY)

    with ExitStack() as stack:
        try:
            stack.enter_context(lock.hold(wait_s, say))
        except Timeout:
            raise TrackingError(
                f"{path} is held by {lock.holder or SOMEBODY} for more than {wait_s:g} s: wait for "
                "that process, or end it if it is stuck"
            ) from None
        yield


def check_database(store: Store, uri: str) -> None:
    """Raise TrackingError if an SQLite database cannot be MLflow's or cannot be written.

    MLflow itself tries ten times in a minute and a half, and takes over what others made.
    """
    path = file_of(uri)
    if path is None:
        return
    if path.is_dir():
        raise TrackingError(f"{path} is a folder and should be MLflow's database: move it away")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_writable(path.parent)
        return
    if not os.access(path, os.R_OK):
        raise TrackingError(f"{path} cannot be read: it belongs to another user; make it readable")
    if why := _fault(path):
        raise TrackingError(
            f"{path} {why}: move it away, and `relief sync` writes a new one from the store's files"
        )
    _require_writable(path)
    _require_writable(path.parent)


def moved(store: Store, uri: str) -> bool:
    """Whether the database leads to artifacts where the store once was."""
    return bool(_elsewhere(store, uri))


def _elsewhere(store: Store, uri: str) -> list[str]:
    """Addresses of artifacts in the store's own database that are not where its artifacts are."""
    path = file_of(uri)
    if path != store.path / "mlflow.db" or not path.exists() or not path.stat().st_size:
        return []
    with opened_file(path) as database:
        places = database.execute(
            "select distinct artifact_location from experiments "
            "where artifact_location like 'file:%/mlflow-artifacts' and artifact_location <> ?",
            [artifacts_of(store)],
        ).fetchall()
    return [old for (old,) in places]


def relocate(store: Store, uri: str) -> None:
    """Lead to where the artifacts are, in the database of a store that was moved or copied.

    MLflow keeps the absolute address of every run's files and has no call to change it.
    """
    here, places = artifacts_of(store), _elsewhere(store, uri)
    if not places:
        return
    with opened_file(store.path / "mlflow.db") as database, database:
        for old in places:
            database.execute(
                "update runs set artifact_uri = ? || substr(artifact_uri, ?) "
                "where substr(artifact_uri, 1, ?) = ?",
                [here, len(old) + 1, len(old) + 1, f"{old}/"],
            )
            database.execute(
                "update experiments set artifact_location = ? where artifact_location = ?",
                [here, old],
            )
    log.info("artifacts moved from=%s to=%s", ", ".join(places), here)


def _require_writable(path: Path) -> None:
    if not os.access(path, os.W_OK):
        raise TrackingError(
            f"{path} is read-only, and MLflow writes there: make it writable, or give another "
            "database with --tracking sqlite:///FILE"
        )


def opened_file(path: Path) -> closing[sqlite3.Connection]:
    """A database without MLflow; closed after the block."""
    # no URI of SQLite's: it would need quoting of its own
    return closing(sqlite3.connect(path, timeout=BUSY_S))


def _fault(path: Path) -> str | None:
    """What is wrong with a database; None if nothing is."""
    if path.stat().st_size == 0:
        return None  # as if it were not there
    try:
        with opened_file(path) as database:
            tables = {
                name for (name,) in database.execute("select name from sqlite_master").fetchall()
            }
            if database.execute("pragma quick_check(1)").fetchone() != ("ok",):
                return "is damaged"
            versions = (
                "alembic_version" in tables
                and database.execute("select version_num from alembic_version").fetchall()
            )
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise TrackingError(
                f"{path} is in use by another program for more than {BUSY_S:g} s: end that "
                "program, then `relief sync` catches up"
            ) from error
        return f"cannot be opened ({error})"
    except sqlite3.DatabaseError as error:
        return f"is damaged or no database ({error})"
    if tables and not versions:
        half = "experiments" in tables
        return "is half made" if half else "is a database of another program"
    return None


@contextmanager
def told(uri: str) -> Generator[None]:
    """Errors of libraries in the block say which MLflow they are about (`__notes__`)."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        error.add_note(f"MLflow at {masked(uri)}")
        raise
