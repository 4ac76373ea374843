"""A store of somebody else: what may only be read is read, and what cannot be done is told."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.conftest import planned

PR_CAPBSET_DROP = 24  # prctl(2)
OVER_RIGHTS = (1, 2)  # capabilities(7): CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
PROGRAM = "import ctypes, os, sys; [ctypes.CDLL(None).prctl({0}, c, 0, 0, 0) for c in {1}]; \
os.execv(sys.executable, [sys.executable, '-m', 'harness', *sys.argv[1:]])"


@pytest.fixture(scope="module")
def locked(tiny_store, tmp_path_factory):
    """A copy of a store in which nothing may be written, of a launch that has ended."""
    if sys.platform != "linux" or ctypes.CDLL(None).prctl(23, OVER_RIGHTS[0], 0, 0, 0) < 0:
        pytest.skip("needs Linux, where root's power over rights can be dropped")
    folder = tmp_path_factory.mktemp("others") / "store"
    shutil.copytree(tiny_store.path, folder)
    planned().record(type(tiny_store)(folder))
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in everything:
        path.chmod(0o755 if path.is_dir() else 0o644)


def relief(*arguments: str) -> tuple[int, str]:
    """A command by a user without rights on others' files -> exit code, all that it printed."""
    program = PROGRAM.format(PR_CAPBSET_DROP, OVER_RIGHTS)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"COLUMNS": "200"},
    )
    return done.returncode, done.stdout + done.stderr


def test_a_store_that_may_only_be_read_is_shown_and_checked(locked):
    code, said = relief("store", "check", "--store", str(locked))
    assert code == 0, said
    code, said = relief("status", "--store", str(locked))
    assert code == 0 and "tiny" in said, said


def test_what_must_write_names_the_folder_and_what_to_do(locked):
    code, said = relief("report", "--store", str(locked))
    assert code == 2 and "Permission denied" in said and "choose another folder" in said, said
    assert "Traceback" not in said and "bug" not in said
