"""The checks of this folder, in a process of their own.

torch makes room for a device's gradients at the first backward pass of a process, so the device has
to be there before it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKS = sorted(path.name for path in HERE.glob("check_*.py"))


def passes(checks: list[str], *options: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs"]
    done = subprocess.run(
        [*command, *options, *(str(HERE / name) for name in checks)],
        cwd=HERE.parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    if "cannot be built" in done.stdout and " passed" not in done.stdout:
        pytest.skip("the fake accelerator cannot be built: no C++ compiler")
    assert done.returncode == 0


def test_methods_on_an_accelerator():
    passes(CHECKS, "-m", "not slow")


@pytest.mark.slow
def test_every_variant_on_an_accelerator():
    passes(["check_methods.py"], "-m", "slow")
