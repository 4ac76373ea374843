"""What commands cost that compute nothing: CPU seconds and peak memory of the whole process.

    python -m tests.benchmarks.bench_shell

makes a small store with one run (half a minute), then starts each command twice and prints the
better of the two. CPU seconds are the user's and the system's, of the process and its children
(wait4), so they are comparable on a machine that others use, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = "tests/harness/tiny.yaml"
MADE = "methods=[das3d,das3d/untrained,baseline]"
FIVE = "methods=[dbrn,3dsr,das3d,m3dm,shape_guided,baseline]"
COMMANDS = (
    "--help",
    "--version",
    "run --help",
    "run --sotre X",
    "plan methods=[dass3d]",
    f"plan {FIVE} --store STORE",
    f"plan {TINY} {MADE} --store STORE",
    "status --store STORE",
    "studies list",
    "list methods",
    "list variants",
    "list sweeps",
    "list settings das3d",
    "list metrics",
    "weights list",
    "models --store STORE",
    "store check --store STORE",
    "doctor",
    "report --store STORE",
    f"run {TINY} {MADE} --store STORE",
)


def measured(arguments: list[str]) -> tuple[float, float, int]:
    """CPU seconds, peak MB and exit code of `relief` with these."""
    code = "import sys; from harness.cli.entry import main; sys.argv[0] = 'relief'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = used.ru_utime + used.ru_stime
    return seconds, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="one that is there, made by the run above")
    parser.add_argument("--only", default="", help="commands that begin so")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or folder
        if not given.store:
            measured(["run", TINY, MADE, "--serial", "--store", store])
        print("| command | CPU s | MB | exit code |\n|---|---|---|---|")
        for command in COMMANDS:
            if command.startswith(given.only):
                arguments = [store if part == "STORE" else part for part in command.split()]
                seconds, memory, code = min(measured(arguments) for _ in range(2))
                print(f"| `relief {command}` | {seconds:.2f} | {memory:.0f} | {code} |", flush=True)


if __name__ == "__main__":
    main()
