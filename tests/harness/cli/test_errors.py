"""Every error ends as one line: what the user can mend with a remedy, a bug as a bug."""

import errno
import socket

import pytest
import typer

from harness.cli import app as cli
from harness.cli import errors
from harness.data.samples import DataError
from harness.planning.config import ConfigError
from harness.store import DamagedError, RecordError
from harness.store.secrets import masked
from methods.errors import UserError
from tests.harness.cli.test_cli import relief


def of(package: str, name: str, message: str, base: type = Exception) -> Exception:
    """An exception whose class a library is said to have."""
    return type(name, (base,), {"__module__": f"{package}.exceptions"})(message)


USERS = [
    (ConfigError("seeds is empty: nothing to run"), "seeds is empty: nothing to run"),
    (DataError("x.tiff is torn"), "x.tiff is torn"),
    (RecordError("made by a newer version"), "made by a newer version"),
    (DamagedError("0" * 16, "result.json is damaged"), "the same `relief run` computes it again"),
    (FileNotFoundError("no launch in /s: start one"), "no launch in /s: start one"),
    (OSError(errno.ENOSPC, "No space left on device", "/s/x"), "/s/x.*--store"),
    (OSError(errno.EROFS, "Read-only file system", "/s/x"), "/s/x.*make it writable"),
    (PermissionError(errno.EACCES, "Permission denied", "/s/x"), "/s/x.*owner or permissions"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "/s/x"), "/s/x.*shorter path"),
    (OSError(errno.EMFILE, "Too many open files", "/s/x"), "/s/x.*ulimit -n"),
    (FileNotFoundError(errno.ENOENT, "No such file", "/s/x"), "/s/x: No such file"),
    (MemoryError(), "memory is full"),
    (of("mlflow", "MlflowException", "API request to http://h failed with"), "start it or correct"),
    (of("mlflow", "MlflowException", "Detected out-of-date database schema"), "move it away"),
    (of("mlflow", "RestException", "401 Unauthorized"), "MLFLOW_TRACKING_PASSWORD"),
    (of("mlflow", "MlflowException", "(sqlite3.OperationalError) no such table: runs"), "move it"),
    (of("sqlalchemy", "OperationalError", "attempt to write a readonly database"), "read-only"),
    (of("sqlalchemy", "NoSuchModuleError", "Can't load plugin: x"), "no such database"),
    (of("alembic", "CommandError", "Can't locate revision"), "move it away"),
    (of("ray", "Exception", "AF_UNIX path length cannot exceed 107"), "RAY_TMPDIR=/tmp"),
    (of("ray", "Exception", "The current node timed out during startup"), "relief run --serial"),
    (of("ray", "PermissionError", "[Errno 13] Permission denied: '/r'", OSError), "RAY_TMPDIR"),
    (of("ray", "RaySystemError", "/dev/shm is too small"), "/dev/shm"),
    (of("torch", "OutOfMemoryError", "CUDA out of memory", RuntimeError), "resources.default.gpus"),
    (of("torch", "RuntimeError", "PytorchStreamReader failed"), "no checkpoint of PyTorch"),
    (
        of("pyarrow", "ArrowInvalid", "Parquet file size is 0 bytes", ValueError),
        "computes it again",
    ),
    (of("omegaconf", "GrammarParseError", "token recognition error"), "configuration: token"),
    (of("yaml", "ScannerError", "found a tab"), "not a YAML file: found a tab"),
]


@pytest.mark.parametrize(("error", "said"), USERS, ids=lambda x: type(x).__name__)
def test_what_can_be_mended_is_one_line_with_a_remedy(error, said):
    import re

    told = errors.describe(error)
    assert not told.bug and re.search(said, told.text), told.text
    assert "\n" not in told.text


@pytest.mark.parametrize(
    "error",
    [
        ValueError("invalid literal for int() with base 10: 'x'"),
        KeyError("loss"),
        AttributeError("'NoneType' object has no attribute 'get'"),
        RuntimeError("as it happens"),
        of("torch", "RuntimeError", "mat1 and mat2 shapes cannot be multiplied"),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_only_we_can_mend_is_called_a_bug(error):
    told = errors.describe(error)
    assert told.bug and told.text.startswith("this is a bug in Relief: ")
    assert type(error).__name__ in told.text and "--debug" in told.text


def test_where_an_error_of_python_was_raised_tells_whose_it_is():
    import yaml

    with pytest.raises(yaml.YAMLError) as raised:
        yaml.safe_load("a: [")
    assert errors.describe(raised.value).text.startswith("not a YAML file: ")
    with pytest.raises(AttributeError) as raised:  # Python's own type, raised in a library
        yaml.safe_load(None)  # pyrefly: ignore
    assert not errors.describe(raised.value).bug


def test_a_file_that_is_not_there_for_a_library_is_told_as_that_librarys(tmp_path):
    ray: dict = {"__name__": "ray.start"}
    exec("from pathlib import Path\ndef init(folder): Path(folder, 'ray').mkdir()", ray)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as raised:
        ray["init"](tmp_path / "file")
    told = errors.describe(raised.value)
    assert "RAY_TMPDIR" in told.text and str(tmp_path / "file") in told.text


@pytest.fixture
def command(monkeypatch):
    """command(error): `relief fail` raises it."""

    def make(error):
        program = typer.Typer(pretty_exceptions_enable=False)
        program.callback()(cli.options)

        @program.command()
        def fail():
            raise error

        monkeypatch.setattr(cli, "built", lambda arguments: program)

    return make


def test_a_traceback_comes_only_when_asked_for(capsys, monkeypatch, command):
    monkeypatch.delenv("RELIEF_DEBUG", raising=False)
    command(ValueError("invalid literal"))
    code, _, err = relief(capsys, monkeypatch, "fail")
    assert code == 2 and "bug in Relief: ValueError: invalid literal" in err
    assert "Traceback" not in err
    for arguments in (["--debug", "fail"], ["fail", "--debug"]):
        code, _, err = relief(capsys, monkeypatch, *arguments)
        assert code == 2 and "Traceback" in err and "raise error" in err
    for value, shown in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("RELIEF_DEBUG", value)
        assert ("Traceback" in relief(capsys, monkeypatch, "fail")[2]) == shown


def test_the_option_is_in_the_help(capsys, monkeypatch):
    code, out, _ = relief(capsys, monkeypatch, "--help")
    assert code == 0 and "--debug" in out and "RELIEF_DEBUG" in out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://me:pw@host:5000/x", "at http://me:***@host:5000/x"),
        ("postgresql+psycopg://me:p/w@h/db", "postgresql+psycopg://me:***@h/db"),
        ("http://me:p@ss@host", "http://me:***@host"),
        ("mysql://h/db?user=me&password=pw&x=1", "mysql://h/db?user=me&password=***&x=1"),
        ("http://host:5000/ and sqlite:////a@b.db", "http://host:5000/ and sqlite:////a@b.db"),
    ],
)
def test_passwords_in_addresses_are_masked(text, shown):
    assert masked(text) == shown


def test_a_password_is_not_printed_even_in_a_traceback(capsys, monkeypatch, command):
    command(UserError("no answer from http://me:s3cret@host"))
    for arguments in (["fail"], ["--debug", "fail"]):
        _, out, err = relief(capsys, monkeypatch, *arguments)
        assert "http://me:***@host" in err and "s3cret" not in out + err


def test_sync_without_mlflow_and_a_taken_port_are_refused(capsys, monkeypatch, tmp_path):
    code, _, err = relief(capsys, monkeypatch, "sync", "--tracking", "none", "--store", tmp_path)
    assert code == 2 and "--tracking none is for no MLflow" in err
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = relief(capsys, monkeypatch, "ui", "--store", tmp_path, "--port", port)
    assert code == 2 and f"port {port}" in err and "--port" in err
