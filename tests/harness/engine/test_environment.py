"""What a result says of the code that computed it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.engine import commit

ROOT = Path(__file__).parents[3]
ASK = "from harness.engine.commit import commit; print(commit())"


def test_an_installation_without_a_checkout_says_what_it_was_built_from(tmp_path):
    (tmp_path / "COMMIT").write_text("0123456789ab+")
    assert commit.built_from(tmp_path / "COMMIT") == "0123456789ab+"
    assert commit.built_from(tmp_path / "none") is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="uv builds the wheel")
def test_a_wheel_names_its_commit(tmp_path):
    subprocess.run(["uv", "build", "-q", "--out-dir", tmp_path / "dist"], cwd=ROOT, check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    there = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    asked = [sys.executable, "-c", ASK]
    done = subprocess.run(asked, cwd=tmp_path, env=there, capture_output=True, text=True)
    assert done.stdout.strip().removesuffix("+") == str(commit.commit()).removesuffix("+")
