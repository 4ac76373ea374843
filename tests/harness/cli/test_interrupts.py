"""Signals from the first moment of a command to its last: one line, exit code 130."""

import signal
import subprocess
import sys
import time

import pytest

from harness.engine import interrupts
from tests.harness.conftest import TINY

SLOW = [pytest.param(after_s, marks=pytest.mark.slow) for after_s in (1, 3, 5, 8, 11)]


@pytest.mark.parametrize("after_s", [0.0, *SLOW])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_answered_in_one_line_whenever_it_comes(number, after_s, tmp_path):
    code = "import sys; print('up', flush=True); from harness.cli.entry import main; main()"
    command = [sys.executable, "-c", code, "run", str(TINY), "--store", str(tmp_path)]
    launch = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert launch.stdout.readline() == "up\n"
    time.sleep(0.2 + after_s)
    launch.send_signal(number)
    _, complaints = launch.communicate(timeout=120)
    assert launch.returncode == interrupts.EXIT_INTERRUPTED, complaints
    assert complaints.strip() == interrupts.LINE


def test_an_interrupt_within_an_exec_does_not_end_python_by_the_signal():
    code = (
        "import signal, sys; from harness.engine.interrupts import Interrupts\n"
        "interrupts = Interrupts(); interrupts.heed()\n"
        "try: exec('signal.raise_signal(signal.SIGTERM)')\n"
        "except KeyboardInterrupt: sys.exit(130 if interrupts.came else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 130
